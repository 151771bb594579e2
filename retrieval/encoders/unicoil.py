"""uniCOIL: a transformer says how much each token of a text weighs in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retrieval.model_files import check_sha256, choose_device, find_model, has_weights, load_whole
from retrieval.sparse_model import SparseModel, refuse_no_terms
from retrieval.types import Sparse

if TYPE_CHECKING:
    import torch

    from retrieval.sparse_model import Weigh

__all__ = ["UniCoil"]

HEAD = "tok_proj"


class UniCoil:
    """Learned sparse vectors: a token weighs relu(linear(its state)), the largest where it is repeated.

    Lin and Ma (2021). The model is a transformer's folder (config.json, a tokenizer, safetensors) whose weights hold,
    besides the encoder's, `tok_proj.weight` [1, hidden] and `tok_proj.bias` [1]. Special tokens weigh nothing.
    Documents are not expanded here: published models want passages with doc2query's questions.
    """

    def __init__(
        self,
        model: str,
        query_terms: int | None = None,
        doc_terms: int | None = None,
        max_length: int | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
    ):
        """The parameters are those of `splade`."""
        refuse_no_terms(query_terms=query_terms, doc_terms=doc_terms)
        self.model, self.revision, self.sha256 = model, revision, sha256
        self.query_terms, self.doc_terms = query_terms, doc_terms
        self.max_length, self.dtype, self.batch_tokens, self.device = max_length, dtype, batch_tokens, device

    def encode_queries(self, texts: Sequence[str]) -> Sparse:
        """Weights float32 [texts, vocabulary]."""
        return self._base.encode(self._weigh, texts, self.query_terms, "queries")

    def encode_docs(self, texts: Sequence[str]) -> Sparse:
        """Weights float32 [texts, vocabulary]."""
        return self._base.encode(self._weigh, texts, self.doc_terms, "documents")

    def vocabulary(self) -> Sequence[str]:
        """The token of each column."""
        return self._base.vocabulary

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        return {
            "encoder": "unicoil",
            "model": self.model,
            "revision": self.revision,
            **self._base.about(),
            "doc_terms": self.doc_terms,
            "queries": {"terms": self.query_terms},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract and the batches, for the manifest."""
        return {**self.contract(), **self._base.budget.about()}

    @cached_property
    def _base(self) -> SparseModel:
        folder = has_weights(find_model(self.model, self.revision))
        return SparseModel(folder, self.max_length, self.dtype, self.batch_tokens, self.device)

    @cached_property
    def _weigh(self) -> Weigh:
        """The model, loaded when first used."""
        import torch

        folder, dtype, device = self._base.folder, self._base.torch_dtype, choose_device(self.device)
        check_sha256(folder / "model.safetensors", self.sha256)
        model = load_whole("AutoModel", folder, dtype).to(device)
        weight, bias = (_read(folder, f"{HEAD}.{name}").to(device, dtype) for name in ("weight", "bias"))
        special = torch.tensor(self._base.special, device=device)
        width = self._base.width

        def weigh(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            ids, mask = batch["input_ids"], batch["attention_mask"].bool()
            states = model(**batch).last_hidden_state
            weights = torch.nn.functional.linear(states, weight, bias).squeeze(-1).float().relu()
            weights = weights.masked_fill(~mask | torch.isin(ids, special), 0)
            return torch.zeros(len(ids), width, device=device).scatter_reduce_(1, ids, weights, "amax")

        return weigh


def _read(folder: Path, name: str) -> torch.Tensor:
    """One tensor of a folder's weights. Raises ValueError where there is none of that name."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118 - not a mapping
                return file.get_tensor(name)
    raise ValueError(f"{folder} has no {name} among its weights, so it holds no uniCOIL model")
