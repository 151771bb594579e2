"""Our encoders and retrievers as MTEB's models, so that `mteb.evaluate` evaluates them on its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from retrieval.corpus import Corpus
from retrieval.files import digest
from retrieval.locate import cache_folder
from retrieval.mteb_package import mteb_package
from retrieval.protocols import Encoder, Retriever
from retrieval.types import Dense, Queries, Run

__all__ = ["MtebEncoder", "MtebRetriever", "model_meta"]

RERANKED = 64  # queries whose whole rankings are held at a time, where a task ranks given candidates


class MtebEncoder:
    """An encoder of single vectors by MTEB's EncoderProtocol, for tasks of any kind; the others go as retrievers."""

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        revision: str | None = None,
        metric: Literal["dot", "cosine"] = "dot",
        unsided: Literal["queries", "docs"] | None = None,
    ):
        """`name` is ORGANISATION/MODEL; a `revision` of None is the digest of the contract, so that weights never mix.

        `unsided` is how texts are encoded that are neither queries nor documents, as in STS or clustering.
        """
        self.encoder, self.metric, self.unsided = encoder, metric, unsided
        contract = dict(encoder.contract())
        if "dimensions" not in contract:
            raise ValueError(f"{name} makes no single vectors: give MtebRetriever a retriever that searches with it")
        self.mteb_model_meta = model_meta(
            name, revision or digest(contract), embed_dim=contract["dimensions"], similarity_fn_name=metric
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """float32 [texts, dimensions]; batches are the encoder's own, whatever the size of those given.

        Raises ValueError for texts without a side where `unsided` says nothing.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        side = {"query": "queries", "document": "docs", None: self.unsided}[prompt_type and str(prompt_type.value)]
        if side is None:
            raise ValueError(
                f"{task_metadata.name} has texts that are neither queries nor documents: "
                "give unsided='queries' or unsided='docs'"
            )
        found = self.encoder.encode_queries(texts) if side == "queries" else self.encoder.encode_docs(texts)
        if not isinstance(found, Dense):
            raise ValueError(f"{type(found).__name__} is no single vector a text: give MtebRetriever a retriever")
        return found.vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Inner products, or cosines, float32 [embeddings1, embeddings2] as a torch tensor."""
        return self._compare("dot_score", "cos_sim", embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Those of each embedding with the one in its place, float32 [embeddings]."""
        return self._compare("pairwise_dot_score", "pairwise_cos_sim", embeddings1, embeddings2)

    def _compare(self, dot: str, cosine: str, *embeddings: Any) -> Any:
        from mteb import similarity_functions

        return getattr(similarity_functions, cosine if self.metric == "cosine" else dot)(*embeddings)


class MtebRetriever:
    """A retriever, of whatever kind, by MTEB's SearchProtocol: it ranks in its own order, ties and all."""

    def __init__(self, retriever: Retriever, name: str, revision: str):
        """`name` is ORGANISATION/MODEL; `revision` names the settings and weights, as results are kept by it."""
        self.retriever, self.mteb_model_meta = retriever, model_meta(name, revision)
        self._kept: TemporaryDirectory | None = None  # the documents that are indexed now

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Any,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Ingest the documents and open the retriever, which keeps what it makes of them in the cache."""
        self._kept = TemporaryDirectory()
        self.corpus = Corpus.build(_documents(corpus), Path(self._kept.name) / "corpus")
        self.retriever.open(self.corpus, cache_folder())

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Any,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """The scores of the best documents, by query and document id; of `top_ranked` only, where it is given.

        An instruction stands behind its query, as MTEB has it.
        """
        asked = Queries(list(queries["id"]), _texts(queries, task_metadata))
        if top_ranked is None:
            return self.retriever.retrieve(asked, top_k).to_dict()
        found: dict[str, dict[str, float]] = {}
        for start in range(0, len(asked), RERANKED):
            some = asked.take(range(start, min(start + RERANKED, len(asked))))
            found |= _only(self.retriever.retrieve(some, len(self.corpus)), top_ranked, top_k)
        return found


def model_meta(name: str, revision: str, **about: Any) -> Any:
    """MTEB's ModelMeta of a model that its registry does not know.

    Raises ValueError for a name without an organisation, and for no revision.
    """
    mteb_package()
    from mteb.models import ModelMeta

    organisation, _, model = name.partition("/")
    if not organisation or not model or "/" in model:
        raise ValueError(f"MTEB names a model ORGANISATION/MODEL, not {name!r}")
    if not revision:
        raise ValueError(f"MTEB keeps the results of {name} by revision: give one")
    empty = ModelMeta.create_empty().model_dump()
    return ModelMeta(**empty | {"name": name, "revision": revision, "modalities": ["text"]} | about)


def _documents(corpus: Any) -> Iterator[tuple[str, str, str]]:
    for row in corpus:
        yield row["id"], row.get("title") or "", row["text"]


def _texts(queries: Any, task_metadata: Any) -> list[str]:
    """The query texts as MTEB gives them to its own models: with instructions, and conversations made one text."""
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    batches = create_dataloader(queries, task_metadata=task_metadata, prompt_type=PromptType.query, batch_size=1024)
    return [text for batch in batches for text in batch["text"]]


def _only(run: Run, candidates: Mapping[str, Sequence[str]], k: int) -> dict[str, dict[str, float]]:
    """The k best of each query's candidates."""
    found = {}
    for query, scores in run.to_dict().items():
        wanted = {*candidates.get(query, ())}
        found[query] = dict([(doc, score) for doc, score in scores.items() if doc in wanted][:k])
    return found
