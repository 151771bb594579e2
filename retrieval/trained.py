"""How what was trained is put to use, while it is trained and after: the retriever around an encoder or a reranker."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval import evaluate
from retrieval.collection import Collection
from retrieval.composed import settings
from retrieval.corpus import Corpus
from retrieval.files import digest
from retrieval.indexes.flat import Flat
from retrieval.indexes.inverted import Inverted
from retrieval.indexes.late import Late
from retrieval.locate import cache_folder
from retrieval.protocols import Encoder, Reformulator, Reranker, Retriever
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.rerank import Rerank
from retrieval.retrievers.sparse import SparseRetriever
from retrieval.search import searched
from retrieval.types import Qrels, Queries

__all__ = ["Dev", "InTraining", "System", "dev_evaluation"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dev:
    """What the checkpoint is chosen on: at most `queries` queries over `documents` documents.

    Without a split a fifth of the training queries is held out. The documents are those judged for its queries, then
    random ones.
    """

    split: str | None = None
    queries: int = 100
    documents: int = 2000
    measure: str = "nDCG@10"

    def __post_init__(self) -> None:
        for name in ("queries", "documents"):
            if getattr(self, name) < 1:
                raise ValueError(f"dev.{name} is {getattr(self, name)}; it must be at least 1 (dev: null is for none)")


@dataclass(frozen=True)
class System:
    """What is trained, an encoder or a reranker, and what stands around it: a first pass, a reader of its documents."""

    encoder: Encoder | None
    reranker: Reranker | None = None
    first: Retriever | None = None
    reader: Reformulator | None = None
    depth: int = 100

    def __post_init__(self) -> None:
        if (self.encoder is None) == (self.reranker is None):
            raise ValueError("one is trained: give an encoder or a reranker")
        if self.first is None and (self.reranker or self.reader):
            raise ValueError("a reranker or a reader works on what a first pass found: give first, such as bm25")
        if self.first is not None and not (self.reranker or self.reader):
            raise ValueError("first is the first pass of a reranker or of a reader, such as ance_prf: leave it out")
        if self.reader is not None and not (hasattr(self.reader, "texts") and hasattr(self.reader, "encoder")):
            raise ValueError(f"{type(self.reader).__name__} reads no documents with an encoder: a reader is ance_prf")
        if not hasattr(self.part, "trainable"):
            raise ValueError(f"{type(self.part).__name__} cannot be trained: it has no trainable()")

    @property
    def part(self) -> Any:
        """What is trained."""
        return self.encoder or self.reranker

    def stays(self, model: Any) -> bool:
        """Whether training this model leaves all that is stored of documents as it is."""
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
        return self.reranker is not None or all(name.startswith("query_transformer.") for name in trained)

    def around(self, part: Any) -> Retriever:
        """The retriever with this in the place of what is trained."""
        if self.reranker is not None:
            return Rerank(self.first, part, self.depth)  # type: ignore[arg-type]
        if self.reader is None:
            return alone(part)
        reader: Any = copy.copy(self.reader)
        reader.encoder = part
        second, first = alone(self.encoder), self.first
        same = settings(second) == settings(first)  # of one index everything is counted once
        return FeedbackRetriever(first, reader, first if same else second, self.depth)  # type: ignore[arg-type]

    def start(self) -> dict[str, Retriever]:
        """What the trained system is compared with: the same untrained, or the first pass of a reranker."""
        if self.reranker is not None:
            return {"first pass": self.first}  # type: ignore[dict-item]
        return {"zero-shot": alone(self.encoder)}


def alone(encoder: Any) -> Retriever:
    """Exact search with an encoder, by the kind of its representations."""
    made = encoder.contract()
    if "token_dimensions" in made:
        return DenseRetriever(encoder, Late())
    if "vocabulary" in made and "dimensions" not in made:
        return SparseRetriever(encoder, Inverted())
    return DenseRetriever(encoder, Flat())


class InTraining:
    """Opens a system around a model that is being trained; what it stored of documents is used again if it stays."""

    def __init__(self, system: System):
        self.system, self.place = system, tempfile.TemporaryDirectory()

    def opened(self, model: Any, corpus: Corpus) -> Retriever:
        """The retriever with the model as it is now; the one before it no longer works if documents are trained."""
        if not self.system.stays(model):
            self.place.cleanup()
            self.place = tempfile.TemporaryDirectory()
        retriever = self.system.around(self.system.part.around(model))
        retriever.open(corpus, Path(self.place.name))
        return retriever


def dev_evaluation(
    collection: Collection, held_out: tuple[Queries, Qrels], dev: Dev, system: System, seed: int
) -> Callable[[Any], Mapping[str, float]]:
    """A function that measures a model on these queries over a sample of the corpus, the same sample each time."""
    queries, qrels = held_out
    name = digest([collection.corpus.fingerprint, qrels.to_dict(), dev.documents, seed])
    corpus = _sample(collection.corpus, qrels, dev.documents, cache_folder() / "dev" / name, seed)
    in_training = InTraining(system)

    def measured(model: Any) -> Mapping[str, float]:
        run = searched(collection, in_training.opened(model, corpus), queries, 1000)
        return evaluate(run, qrels, [dev.measure]).mean

    return measured


def _sample(corpus: Corpus, qrels: Qrels, documents: int, folder: Path, seed: int) -> Corpus:
    """The judged documents, in an order of their own, and random others."""
    if (folder / "corpus.json").is_file():
        return Corpus(folder)
    rng = np.random.default_rng(seed)
    judged = np.unique(corpus.ids.rows(qrels.doc_ids))
    others = rng.permutation(np.setdiff1d(np.arange(len(corpus)), judged))
    rows = np.concatenate([rng.permutation(judged[judged >= 0]), others])[:documents]
    if len(judged[judged >= 0]) > documents:
        log.warning("dev judges %d documents and searches %d of them", len(judged), documents)
    return Corpus.build(corpus.documents(rows), folder, shared=True)
