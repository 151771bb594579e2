"""The seams of the toolkit: what each kind of component promises. Nothing here imports a component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from retrieval.collection import Collection
from retrieval.corpus import Corpus
from retrieval.explanation import Explanation
from retrieval.lists import Lists
from retrieval.sampling import Request
from retrieval.types import Feedback, Generation, Queries, Representations, Run, Terms

__all__ = [
    "COUNTED",
    "OF_THE_CORPUS",
    "Analyzer",
    "Dataset",
    "Encoder",
    "Explainer",
    "Extractor",
    "FeedbackSource",
    "Generator",
    "Index",
    "ListReranker",
    "Loss",
    "Objective",
    "Predictor",
    "Reformulator",
    "Regulariser",
    "Reranker",
    "Retriever",
    "SavedIndex",
    "Source",
    "Stop",
    "Suite",
    "Synthesizer",
    "Task",
    "TextReader",
    "Tuning",
    "Writer",
]


# What a retriever's `provenance` counts of that is shown beside its figures, by how the words begin.
COUNTED = (
    "truncated",
    "empty texts",
    "empty passages",
    "queries without",
    "dropped texts",
    "answers without quotes",
    "unbalanced quotes",
    "judged documents not in the corpus",
    "unknown terms",
    "zero vectors",
    "generations",
    "failed generations",
    "cut generations",
    "empty generations",
    "model calls",
    "cache hits",
    "cached",
    "tokens in",
    "tokens out",
    "generation seconds",
    "malformed orders",
    "queries with feedback",
    "queries stopped early",
    "dropped features",
    "missing features",
)

# Of these, what opening counts; the others are of all that was retrieved so far.
OF_THE_CORPUS = ("truncated documents", "zero vectors", "judged documents not in the corpus")


class Dataset(Protocol):
    """Finds a collection, or makes it."""

    def open(self) -> Collection:
        """Documents, queries and judgements. Raises FileNotFoundError that says where they may be put."""


@dataclass(frozen=True)
class Task:
    """One test of a suite: a split of a collection, and how it is measured."""

    name: str
    dataset: Dataset
    split: str = "test"
    measures: tuple[str, ...] = ("nDCG@10", "R@100")  # the first is the one that averages are of
    k: int = 1000  # results per query that are measured
    max_p: bool = False  # results are passages of documents, of which the best counts: CRUMB's MaxP
    binary_split: str | None = None  # P, R and RR look at the judgements of this split


class Suite(Protocol):
    """A list of tests, and the averages over them that people quote."""

    def tasks(self) -> Sequence[Task]:
        """Each test, in the order they are shown. Nothing is read yet."""

    def averages(self) -> Mapping[str, Sequence[str]]:
        """What each average is over, by its name, which names the sets: tasks, or averages that stand before it."""


class Analyzer(Protocol):
    """Turns text into terms."""

    def analyze(self, texts: pa.Array) -> Terms:
        """The terms of each text (large_string), in order."""

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output, as plain values."""


class Encoder(Protocol):
    """Turns text into Representations.

    It may have `encode_chunks(chunks)`, documents chunk by chunk, the next tokenised ahead;
    `encode_instructed(texts, instructions)` for queries that each carry an instruction, and `instructed`, whether its
    prompt has a place for one; and `query_excess(texts)`, how many tokens of each query text it would cut off.
    """

    def encode_queries(self, texts: Sequence[str]) -> Representations:
        """One representation per query text, in order."""

    def encode_docs(self, texts: Sequence[str]) -> Representations:
        """One representation per document text, in order."""

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output (model, revision, pooling, prompts, lengths, dtype ...), as plain values.

        `dimensions` (dense), `vocabulary` (sparse) and `token_dimensions` (late interaction) name the width of each
        kind that it makes. What only queries depend on is under `queries`: documents stay as they are when it changes.
        """


class Index(Protocol):
    """Finds the documents closest to a representation; it may say that it is `nested`, as a Retriever."""

    def build(self, vectors: Any, rank: np.ndarray) -> None:
        """Index stored representations of a corpus; `rank` (DocIds.rank) breaks ties."""

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 [queries, k] and scores float32 [queries, k] in the one order, -1 pads."""


@runtime_checkable
class SavedIndex(Protocol):
    """An index that keeps what is costly to make; it may have a `provenance()` for the manifest."""

    def open(self, vectors: Any, rank: np.ndarray, folder: Path) -> None:
        """Build, or re-use what an earlier build with the same settings left in `folder`, which is of these vectors."""

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As that of `Index`."""


class Retriever(Protocol):
    """Ranks the documents of a corpus.

    It may say what it `reads` of a query, the first that there is: "terms", "representations", "texts"; and that it is
    `nested`, that its k best begin every longer list of its.
    """

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Build or re-use what searching needs, under `folder`, keyed by corpus and contract fingerprints."""

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents per query."""


@runtime_checkable
class FeedbackSource(Protocol):
    """A retriever that can show the content of what it found."""

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries in the form this retriever searches with, and the documents of the run."""


@runtime_checkable
class TextReader(Protocol):
    """A retriever that reads texts from outside its corpus as it reads documents."""

    def read(self, queries: Queries, run: Run, texts: Sequence[str]) -> tuple[Queries, Feedback]:
        """As `feedback`, of documents with these texts, row by row of `run.docs`."""


@runtime_checkable
class Explainer(Protocol):
    """A retriever that can say what made its scores."""

    def explain(self, queries: Queries, rows: np.ndarray) -> Explanation:
        """What each term of the one query gives to the documents of these rows, int32 [documents]."""


class Reformulator(Protocol):
    """Rewrites queries, with or without what a first pass found; it may say what it `writes`, such as "terms"."""

    needs: Sequence[str]  # of Feedback: "texts", "terms", "vectors"; empty where it needs no first pass

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """New queries under the same ids."""


class Generator(Protocol):
    """A language model.

    One whose answers are kept in the store has a `contract()`: model, revision, back end and its version, template, as
    plain values, all that determines an answer besides the request.
    """

    def generate(self, requests: Sequence[Request]) -> Iterable[tuple[int, Generation]]:
        """The place of each request and its answer, as each is done, in any order.

        An answer that could not be had is a Generation with a `failure`; nothing is left out.
        """


class Writer(Protocol):
    """Writes texts for queries: a passage that would answer, keywords, other wordings. What they do is another's part.

    It may have a `join()`, the Reformulator with which its paper puts them to the query, a `provenance()`, and
    `documents_read`, how many documents of the first pass it reads at most.
    """

    needs: Sequence[str]  # of Feedback: "texts"; empty where it needs no first pass

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The texts of each query, in order; none where writing failed and a fallback says so."""


class Predictor(Protocol):
    """Says how well a first pass answers a query, without judgements."""

    needs: Sequence[str]  # of Feedback: "texts", "terms", "vectors"; empty where scores are enough

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries], higher where the first pass is expected to be better."""


class Stop(Protocol):
    """Says after a round of retrieval which queries have had enough. One that looks at judgements is called oracle."""

    def stop(self, queries: Queries, rounds: Sequence[Run]) -> np.ndarray:
        """bool [queries]; `rounds` is what each search so far had on top, documents of earlier rounds included."""


class Extractor(Protocol):
    """Says what is in a document, in fewer words: its keywords, a summary. It knows no query.

    It may have a `provenance()`.
    """

    def extract(self, texts: Sequence[str]) -> Sequence[str | None]:
        """The feature of each text, in order; an empty one where there is nothing to say, None where that failed."""

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output, as plain values."""


class Reranker(Protocol):
    """Scores texts against a query, pair by pair."""

    def score(self, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """float32 [pairs], higher is better."""


@runtime_checkable
class ListReranker(Protocol):
    """Orders the texts of a list against its query, looking at several at once."""

    def orders(self, queries: Sequence[str], lists: Sequence[Sequence[str]]) -> list[Sequence[int]]:
        """For each query the places of its texts, best first, each place once."""


class Loss(Protocol):
    """What training minimises.

    One may say that it is `of_own_list`, scores [queries, own passages], or `of_batch`, columns that are the same for
    every query, where it misreads the other; that it `reads_scores`: labels may be a teacher's, of any sign; that it
    `needs_positive`: a label above 0 in every row; and that `first_is_positive`: the first passage of a row.
    """

    def __call__(self, scores: Any, labels: Any, mask: Any = None) -> Any:
        """A scalar from scores, labels and mask [queries, passages]; masked passages contribute exactly nothing."""


class Regulariser(Protocol):
    """A penalty on representations, added to the loss."""

    def __call__(self, representations: Any) -> Any:
        """A scalar from representations [texts, dimensions]."""


class Source(Protocol):
    """Training data; one may be made of others."""

    def lists(self) -> Lists:
        """Queries with the passages listed for each. Raises ValueError where none is left, with what dropped them."""


class Tuning(Protocol):
    """Which parameters of an encoder are trained, and how what they became is kept."""

    def prepare(self, model: Any) -> None:
        """Freeze, add and share parameters of a model in place; those to be trained have requires_grad."""

    def save(self, model: Any, folder: Path) -> None:
        """Write what was trained into a new folder."""

    def trained(self, encoder: Encoder, folder: Path) -> Encoder:
        """The encoder with what `save` wrote. Raises ValueError for what another model was trained to."""


class Synthesizer(Protocol):
    """Makes training data: queries for documents, or documents for queries. Killed, it goes on where it stopped."""

    def synthesize(self, collection: Collection, folder: Path) -> Mapping[str, int]:
        """Write a collection in BEIR layout, judgements in split train, into a folder; what was made and dropped."""


class Objective(Protocol):
    """Pre-trains an encoder on texts alone, with a head that is left behind."""

    def head(self, model: Any) -> Any:
        """A torch module that holds the model, an encoder's trainable face, as `encoder`.

        Its `batch(texts, rng)` gives tensors, the texts first, of what is hidden and what is to be guessed, and its
        `forward(batch)` the loss. Raises ValueError for a model that it cannot train.
        """
