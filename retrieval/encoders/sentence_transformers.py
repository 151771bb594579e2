"""Any model of the sentence-transformers package, run by that package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.model_files import choose_device, choose_dtype, sha256
from retrieval.trusted import cut, find_trusted, safe, settings_hash, token_limit
from retrieval.types import Dense

__all__ = ["SentenceTransformers"]

DOC_PROMPTS = ("document", "passage", "corpus")  # as encode_document looks for them


class SentenceTransformers:
    """Vectors of a model with any modules: Router, Dense, StaticEmbedding ... `transformer` is faster where it can."""

    def __init__(
        self,
        model: str,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
        query_prompt_name: str | None = None,
        doc_prompt_name: str | None = None,
        normalize: bool = False,
        dimensions: int | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        """A prompt is a text, or the name of one that the model's folder has; None is what the folder says for a side.

        `normalize` makes the length 1 whatever the modules do, after `dimensions` has cut the vectors to their first
        numbers (Matryoshka models). `trust_remote_code` runs Python files that come with the model.
        """
        for side, prompt, name in (("query", query_prompt, query_prompt_name), ("doc", doc_prompt, doc_prompt_name)):
            if prompt is not None and name is not None:
                raise ValueError(f"{side}_prompt and {side}_prompt_name are both given: leave one out")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: a batch holds at least 1 text")
        self.model, self.revision, self.trust_remote_code = model, revision, trust_remote_code
        self.query_prompt, self.query_prompt_name = query_prompt, query_prompt_name
        self.doc_prompt, self.doc_prompt_name = doc_prompt, doc_prompt_name
        self.normalize, self.dimensions, self.max_length = normalize, dimensions, max_length
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    def encode_queries(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, self._prompts["query"], "encode_query")

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, self._prompts["document"], "encode_document")

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        return {
            "encoder": "sentence_transformers",
            "model": self.model,
            "revision": self.revision,
            "version": _package().__version__,
            "weights": sha256(sorted(self.folder.rglob("*.safetensors"))),
            "files": settings_hash(self.folder),
            "modules": [type(module).__name__ for module in self._model],
            "max_seq_length": token_limit(self._model),
            "prompt": self._prompts["document"],
            "normalize": self.normalize,
            "dimensions": self._width,
            "dtype": str(next(self._model.parameters()).dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "queries": {"prompt": self._prompts["query"]},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, for the manifest."""
        return dict(self.contract())

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return find_trusted(self.model, self.revision, self.trust_remote_code)

    @cached_property
    def _model(self) -> Any:
        """The model, loaded when first used."""
        found = (
            _package()
            .SentenceTransformer(
                str(safe(self.folder, self.trust_remote_code)),
                device=str(choose_device(self.device)),
                trust_remote_code=self.trust_remote_code,
                local_files_only=True,
                model_kwargs={"dtype": choose_dtype(self.dtype, choose_device(self.device)), "use_safetensors": True},
            )
            .eval()
        )
        if self.max_length:
            found.max_seq_length = self.max_length
        return found

    @cached_property
    def _prompts(self) -> dict[str, str]:
        """The prompt of each side, as text."""
        known = self._model.prompts
        default = known.get(self._model.default_prompt_name or "") or ""
        doc = next((known[name] for name in DOC_PROMPTS if name in known), default)
        return {
            "query": self._prompt(self.query_prompt, self.query_prompt_name, known.get("query", default)),
            "document": self._prompt(self.doc_prompt, self.doc_prompt_name, doc),
        }

    def _prompt(self, text: str | None, name: str | None, default: str) -> str:
        known = self._model.prompts
        if name is not None and name not in known:
            raise ValueError(f"{self.model} has no prompt {name!r}, only {', '.join(known) or 'none'}")
        return known[name] if name is not None else default if text is None else text

    @cached_property
    def _width(self) -> int:
        """The length of a vector. Raises ValueError for more dimensions than there are."""
        whole = self._model.encode_query(["width"]).shape[1]  # not every module knows its own
        if self.dimensions is not None and not 1 <= self.dimensions <= whole:
            raise ValueError(f"dimensions is {self.dimensions}, and the vectors of {self.model} have {whole}")
        return self.dimensions or whole

    def _encode(self, texts: Sequence[str], prompt: str, method: str) -> Dense:
        kinds = list(dict.fromkeys(texts))  # equal texts once: other batches would change the last bits
        place = {text: i for i, text in enumerate(kinds)}
        places = np.array([place[text] for text in texts], int)
        if not kinds:
            return Dense(np.zeros((0, self._width), np.float32))
        found = getattr(self._model, method)(
            kinds,
            prompt=prompt,
            batch_size=self.batch_size,
            show_progress_bar=len(kinds) >= 256,
            normalize_embeddings=self.normalize,
            truncate_dim=self._width,
        ).astype(np.float32)
        broken = np.flatnonzero(~np.isfinite(found).all(1))
        if len(broken):
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {kinds[broken[0]][:60]!r}")
        return Dense(found[places], int(cut(self._model, [prompt + text for text in kinds])[places].sum()))


def _package() -> Any:
    try:
        import sentence_transformers
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        message = "sentence_transformers needs the package of that name: pip install 'sentence-transformers>=5.2'"
        raise ModuleNotFoundError(message, name=error.name) from None
    return sentence_transformers
