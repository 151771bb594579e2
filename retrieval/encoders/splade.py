"""SPLADE: a masked language model says how much each entry of its vocabulary weighs in a text."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.compiled import chosen
from retrieval.model_files import check_sha256, choose_device, find_model, load_whole
from retrieval.sparse_model import SparseModel, refuse_no_terms
from retrieval.types import Sparse

if TYPE_CHECKING:
    import torch

    from retrieval.trainable_splade import MaskedLanguageWeights

__all__ = ["Splade"]

KINDS = (["Transformer"], ["Transformer", "SpladePooling"])  # of a folder's modules
ACTIVATIONS = ("relu", "log1p_relu")


class Splade:
    """Learned sparse vectors: entry v weighs max over tokens of log(1 + relu(logit of v)). Formal et al. (2021).

    The model is a masked language model's folder, or a SparseEncoder of sentence-transformers.
    """

    def __init__(
        self,
        model: str,
        queries: Literal["model", "idf", "binary"] | None = None,
        query_terms: int | None = None,
        doc_terms: int | None = None,
        max_length: int | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
    ):
        """`queries` says what weighs a query: the model, or, without running it, a table of the model's folder (idf),
        or nothing (each token weighs 1). None is idf where the folder has a table (idf.json), else the model.

        `query_terms` and `doc_terms` keep that many of the largest weights, ties by lower id. `max_length`, `dtype`,
        `revision` and `sha256` are those of `transformer`. `batch_tokens` is by default what bounds [tokens,
        vocabulary] to 2^25 numbers on a processor and 2^29 on a GPU.
        """
        refuse_no_terms(query_terms=query_terms, doc_terms=doc_terms)
        self.model, self.revision, self.sha256 = model, revision, sha256
        chosen("queries", queries or "model", Literal["model", "idf", "binary"])
        self.queries, self.query_terms, self.doc_terms = queries, query_terms, doc_terms
        self.max_length, self.dtype, self.batch_tokens, self.device = max_length, dtype, batch_tokens, device

    def encode_queries(self, texts: Sequence[str]) -> Sparse:
        """Weights float32 [texts, vocabulary]."""
        if self._queries == "model":
            return self._base.encode(self._weigh, texts, self.query_terms, "queries")
        return self._base.look_up(self._table, texts, self.query_terms)

    def encode_docs(self, texts: Sequence[str]) -> Sparse:
        """Weights float32 [texts, vocabulary]."""
        return self._base.encode(self._weigh, texts, self.doc_terms, "documents")

    def vocabulary(self) -> Sequence[str]:
        """The token of each column."""
        return self._base.vocabulary

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        table = None if self._queries == "model" else hashlib.sha256(self._table.tobytes()).hexdigest()
        return {
            "encoder": "splade",
            "model": self.model,
            "revision": self.revision,
            **self._base.about(),
            "activation": self._layout.activation,
            "doc_terms": self.doc_terms,
            "queries": {"weighed by": self._queries, "table": table, "terms": self.query_terms},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract and the batches, for the manifest."""
        return {**self.contract(), **self._base.budget.about()}

    def trainable(self) -> MaskedLanguageWeights:
        """A new float32 copy from the model's files, for a trainer to change.

        Where no model weighs queries, their table stays as it is and only documents are trained. All weights count:
        `query_terms` and `doc_terms` are applied when texts are encoded.
        """
        import torch

        module = self._load(torch.float32)
        module.tokenizer, module.base = copy.deepcopy(module.tokenizer), self._base.about()["weights"]
        if self._queries != "model":
            module.table = torch.from_numpy(self._table).to(choose_device(self.device))
        return module

    def around(self, module: MaskedLanguageWeights) -> Splade:
        """The same encoder around a copy of a model in memory."""
        encoder = copy.copy(self)
        encoder.model = "in memory"
        copied = copy.deepcopy(module).to(choose_device(self.device), self._base.torch_dtype).eval()
        encoder.__dict__ |= {"_layout": self._layout, "_base": replace(self._base, weights="in memory")}
        encoder.__dict__["_weigh"] = copied
        return encoder

    def trained(self, folder: Path) -> Splade:
        """The same encoder with the model that a trainer wrote; its length is in its folder."""
        names = ("query_terms", "doc_terms", "dtype", "batch_tokens", "device")
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Splade(str(folder), self._queries, **kept)  # type: ignore[arg-type]

    @cached_property
    def _layout(self) -> Layout:
        return Layout.read(find_model(self.model, self.revision))

    @cached_property
    def _base(self) -> SparseModel:
        return SparseModel(self._layout.transformer, self.max_length, self.dtype, self.batch_tokens, self.device)

    @property
    def _queries(self) -> str:
        return self.queries or ("idf" if self._layout.table else "model")

    @cached_property
    def _weigh(self) -> MaskedLanguageWeights:
        """The model, loaded when first used."""
        return self._load(self._base.torch_dtype)

    def _load(self, dtype: torch.dtype) -> MaskedLanguageWeights:
        from retrieval.trainable_splade import MaskedLanguageWeights

        texts = self._base
        check_sha256(texts.folder / "model.safetensors", self.sha256)
        model = load_whole("AutoModelForMaskedLM", texts.folder, dtype)
        module = MaskedLanguageWeights(model, texts.tokenizer, texts.limit, self._layout.activation)
        return module.to(choose_device(self.device)).eval()

    @cached_property
    def _table(self) -> np.ndarray:
        """float32 [vocabulary]: what a token of a query weighs; special tokens nothing."""
        texts, path = self._base, self._layout.table
        if self._queries == "binary":
            table = np.ones(texts.width, np.float32)
        elif path is None:
            raise FileNotFoundError(
                f"{self.model} has no idf.json (token -> weight): put it into the folder, or take queries: binary"
            )
        else:
            table = _read_table(path, texts)
        table[texts.special] = 0
        return table


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model's folder are."""

    transformer: Path
    activation: str = "relu"
    table: Path | None = None  # of what a token of a query weighs

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """The layout of a masked language model's folder, or of sentence-transformers' SparseEncoder.

        Raises ValueError for modules, a pooling or prompts that are not known.
        """
        documents, queries = _routes(folder)
        kinds = [kind.replace("MLMTransformer", "Transformer") for kind, _ in documents]
        one_side = queries == documents
        if kinds not in KINDS or not (one_side or [kind for kind, _ in queries] == ["SparseStaticEmbedding"]):
            found = f"{_names(documents)} for documents" + ("" if one_side else f", {_names(queries)} for queries")
            raise ValueError(
                f"{folder}/modules.json has {found}: known are a masked language model and SpladePooling, "
                "and SparseStaticEmbedding for queries"
            )
        prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
        if any(prompts.values()):
            raise ValueError(f"{folder}/config_sentence_transformers.json has prompts, which are not supported here")
        activation = _activation(documents[1][1] / "config.json") if len(documents) > 1 else "relu"
        tables = [folder / "idf.json"] if one_side else [queries[0][1] / "model.safetensors", folder / "idf.json"]
        return cls(documents[0][1], activation, next((path for path in tables if path.is_file()), None))


Route = list[tuple[str, Path]]  # kind and folder of each module


def _routes(folder: Path) -> tuple[Route, Route]:
    """The modules that a document passes, and those that a query passes."""
    path = folder / "modules.json"
    if not path.is_file():
        return [("Transformer", folder)], [("Transformer", folder)]
    modules = [(_kind(module["type"]), folder / module["path"]) for module in json.loads(path.read_text())]
    if [kind for kind, _ in modules] != ["Router"]:
        return modules, modules
    about = json.loads((modules[0][1] / "router_config.json").read_text())
    routes = {
        name: [(_kind(about["types"][part]), modules[0][1] / part) for part in parts]
        for name, parts in about["structure"].items()
    }
    return routes.get("document", []), routes.get("query", [])


def _activation(path: Path) -> str:
    about = _json(path)
    pooling, activation = about.get("pooling_strategy", "max"), about.get("activation_function", "relu")
    if pooling != "max" or activation not in ACTIVATIONS:
        raise ValueError(f"{path}: pooling {pooling} of {activation}: known is max of {' or '.join(ACTIVATIONS)}")
    return activation


def _read_table(path: Path, texts: SparseModel) -> np.ndarray:
    """float32 [vocabulary] from token -> weight in JSON, or from the weights of SparseStaticEmbedding."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        table = load_file(path)["weight"].astype(np.float32)
        if table.shape != (texts.width,):
            raise ValueError(f"{path} has weights {table.shape}, and the vocabulary {texts.width} entries")
        return table
    table = np.zeros(texts.width, np.float32)
    ids = {token: i for i, token in enumerate(texts.vocabulary)}
    for token, weight in _json(path).items():
        if token not in ids:
            raise ValueError(f"{path} has {token!r}, which the tokenizer of {texts.folder} does not know")
        table[ids[token]] = weight
    return table


def _kind(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _names(route: Route) -> str:
    return ", ".join(kind for kind, _ in route) or "nothing"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
