"""Documents at four levels of relevance, made of judged ones without a language model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.asking import cut_words
from retrieval.collection import Collection
from retrieval.composed import settings
from retrieval.corpus import Corpus, Document
from retrieval.locate import cache_folder
from retrieval.protocols import Retriever
from retrieval.retrievers.bm25 import BM25
from retrieval.sentences import sentences
from retrieval.types import Queries
from training.synthesis._folder import Made, refuse_empty, written

__all__ = ["Degraded"]

WHOLE, HALF, NEIGHBOUR, RANDOM = 3, 2, 1, 0
SHORT = {  # what a positive is counted as that lacks a level
    HALF: "positives of one sentence",
    NEIGHBOUR: "positives without neighbour",
    RANDOM: "positives without random document",
}
TOGETHER = 1024  # queries whose documents' neighbours are in memory
DRAWS = 1000  # of a random document, before there is none
SAME_HALF = "positives whose half says what another document of the query says"
LEFT_OUT = "relevant documents without text, or with that of another"


class Degraded:
    """For each relevant document: itself 3, half of its sentences 2, a neighbour 1, a random document 0.

    The half is drawn once for each document, keeps the title and the order of the sentences, and is named <id>-half; of
    an odd number it has the smaller part. A document whose text has fewer than two sentences has no half, nor one whose
    half has the text of another document of the query: the other levels stand without it. The neighbour is the first
    that the retriever finds for the document. It and the random document have text, are not judged for the query,
    whatever the grade, nor have the text of one that is, and no query has a text twice.
    """

    def __init__(
        self,
        split: str = "train",
        relevant: int = 1,
        levels: Sequence[int] = (WHOLE, HALF, NEIGHBOUR, RANDOM),
        positives: int | None = 4,
        retriever: Retriever | None = None,
        depth: int = 100,
        words: int = 64,
        seed: int = 0,
    ):
        """A document is relevant from grade `relevant` on; a query has at most so many `positives`, chosen by `seed`.

        Of the `levels` those named are made. Neighbours are sought with the first `words` of title and text, among the
        `depth` best of the `retriever`, by default BM25.
        """
        if not {*levels} <= {WHOLE, *SHORT} or len({*levels}) < max(2, len(levels)):
            raise ValueError(f"levels are at least two of 3, 2, 1 and 0, each once, not {list(levels)}")
        counts = {"positives": positives, "depth": depth, "words": words}
        low = next((name for name, count in counts.items() if count is not None and count < 1), None)
        if low:
            raise ValueError(f"{low} is {counts[low]}; it must be at least 1")
        self.split, self.relevant, self.positives = split, relevant, positives
        self.levels = tuple(sorted(levels, reverse=True))
        self.retriever, self.depth, self.words, self.seed = retriever or BM25(), depth, words, seed

    def synthesize(self, collection: Collection, folder: Path) -> Mapping[str, int]:
        """Write the documents under their own ids, each once.

        Counts add up: queries = kept + dropped, and at each level there are as many documents as positives, less those
        that lack it. It takes seconds and starts anew where it was killed. Raises ValueError where no query is left,
        with why, and where a document has the id of another's half.
        """
        about = {what: value for what, value in collection.provenance().items() if what != "folder"}
        made_of = {**self.contract(), "collection": about}
        return written(folder, made_of, lambda made: self._documents(collection, made), collection.instructions)

    def contract(self) -> dict[str, Any]:
        """All that determines the documents of a given collection, as plain values."""
        own = ("split", "relevant", "levels", "positives", "depth", "words", "seed")
        return {**{name: getattr(self, name) for name in own}, "retriever": settings(self.retriever)}

    def provenance(self) -> dict[str, Any]:
        """The same, for the manifest."""
        return self.contract()

    def _documents(self, collection: Collection, made: Made) -> Iterator[Document]:
        """Those listed as they are in the order of the corpus, then halves; the lists are made before."""
        self.retriever.open(collection.corpus, cache_folder())
        queries, making = collection.queries(self.split), _Making(self, collection, made)
        for start in range(0, len(queries), TOGETHER):
            making.add(queries, range(start, min(start + TOGETHER, len(queries))))
        refuse_empty(made)
        yield from making.documents()


class _Making:
    """The lists of a collection on their way, and the documents that they name."""

    def __init__(self, settings: Degraded, collection: Collection, made: Made):
        self.settings, self.made, self.corpus = settings, made, collection.corpus
        self.judged, self.excludes_self = collection.qrels(settings.split).to_dict(), collection.excludes_self
        self.texts, self.empty = _numbers(self.corpus), _number("")
        self.rows: set[int] = set()  # of documents listed as they are
        self.halves: dict[int, Document | None] = {}  # by row; None where there is none
        self.listed: set[int] = set()  # rows whose halves are listed
        counted = ["queries", "kept", "dropped", "judgements of unknown documents", LEFT_OUT, "positives"]
        counted += [f"label {level}" for level in settings.levels]
        counted += [SAME_HALF] * (HALF in settings.levels)
        made.counts.update(dict.fromkeys(counted + [SHORT[one] for one in settings.levels if one in SHORT], 0))

    def add(self, queries: Queries, places: range) -> None:
        """The lists of these queries."""
        chosen = [self._positives(place, queries.ids[place]) for place in places]
        near = self._neighbours(np.unique(np.concatenate([positives for positives, _ in chosen])))
        for place, (positives, barred) in zip(places, chosen, strict=True):
            grades = self._listed(place, positives, barred, near)
            self.made.counts["queries"] += 1
            if grades:
                self.made.counts["kept"] += 1
                self.made.queries[queries.ids[place]] = queries.texts[place]
                self.made.qrels[queries.ids[place]] = grades
            else:
                what = "no level of any positive" if len(positives) else "no relevant document that has text"
                self.made.counts.update(["dropped", f"dropped: {what}"])

    def documents(self) -> Iterator[Document]:
        """All that the lists name."""
        rows = np.array(sorted(self.rows), np.int64)
        for start in range(0, len(rows), TOGETHER):
            yield from self.corpus.documents(rows[start : start + TOGETHER])
        yield from (half for row, half in sorted(self.halves.items()) if half and row in self.listed)

    def _positives(self, place: int, name: str) -> tuple[np.ndarray, set[int]]:
        """The rows of the positives of a query, and the numbers of the texts that no lower level may have."""
        grades = self.judged[name]
        rows = self.corpus.ids.rows(list(grades))
        known = rows >= 0
        own = self.corpus.ids.rows([name] if self.excludes_self else [])
        barred = {self.empty, *self.texts[rows[known]].tolist(), *self.texts[own[own >= 0]].tolist()}
        relevant = rows[known & (np.fromiter(grades.values(), np.int64) >= self.settings.relevant)]
        distinct = relevant[np.unique(self.texts[relevant], return_index=True)[1]]
        distinct = np.sort(distinct[self.texts[distinct] != self.empty])
        self.made.counts["judgements of unknown documents"] += int((~known).sum())
        self.made.counts[LEFT_OUT] += len(relevant) - len(distinct)
        drawn = np.random.default_rng([self.settings.seed, place]).permutation(distinct)
        return np.sort(drawn[: self.settings.positives]), barred

    def _neighbours(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """What the retriever finds for each of these documents, best first."""
        if NEIGHBOUR not in self.settings.levels or not len(rows):
            return {}
        texts = [cut_words(text, self.settings.words)[0] for text in self.corpus.texts(rows)]
        found = self.settings.retriever.retrieve(Queries(self.corpus.ids.take(rows), texts), self.settings.depth)
        return {row: near[near >= 0] for row, near in zip(rows.tolist(), found.rows, strict=True)}

    def _listed(
        self, place: int, positives: np.ndarray, barred: set[int], near: Mapping[int, np.ndarray]
    ) -> dict[str, int]:
        """The label of each document of a query; the numbers of their texts are added to `barred`."""
        rng = np.random.default_rng([self.settings.seed, place, RANDOM])
        grades: dict[str, int] = {}
        self.made.counts["positives"] += len(positives)
        for row in positives.tolist():
            drawn = (int(rng.integers(len(self.corpus))) for _ in range(DRAWS))
            candidates = {WHOLE: [row], NEIGHBOUR: near.get(row, ()), RANDOM: drawn}
            for level in self.settings.levels:
                if level == HALF:
                    name, lacking = self._half(row, barred)
                else:
                    name, lacking = self._first(candidates[level], barred, level == WHOLE), SHORT.get(level, "")
                self.made.counts[lacking if name is None else f"label {level}"] += 1
                if name is not None:
                    grades[name] = level
        return grades

    def _first(self, candidates: Iterable[int], barred: set[int], whatever: bool) -> str | None:
        """The id of the first candidate whose text is not barred, or of the first of all."""
        row = next((int(one) for one in candidates if whatever or int(self.texts[one]) not in barred), None)
        if row is None:
            return None
        barred.add(int(self.texts[row]))
        self.rows.add(row)
        return self.corpus.ids.take([row])[0]

    def _half(self, row: int, barred: set[int]) -> tuple[str | None, str]:
        """The id of the half of a document, None where it has none or its text is barred, and what it lacks then."""
        half = self._drawn_half(row)
        if half is None:
            return None, SHORT[HALF]
        number = _number(f"{half.title} {half.text}".strip())
        if number in barred:
            return None, SAME_HALF
        barred.add(number)
        self.listed.add(row)
        return half.id, ""

    def _drawn_half(self, row: int) -> Document | None:
        """The half of a document; None where its text has fewer than two sentences."""
        if row not in self.halves:
            ((name, title, text),) = self.corpus.documents([row])
            parts = sentences(text)
            rng = np.random.default_rng([self.settings.seed, row, HALF])
            kept = np.sort(rng.permutation(len(parts))[: len(parts) // 2])
            half = Document(f"{name}-half", title, " ".join(parts[place] for place in kept))
            if len(kept) and self.corpus.ids.rows([half.id])[0] >= 0:
                raise ValueError(
                    f"the corpus has a document {half.id!r}, the name of the half of {name!r}: give it another id, or "
                    "leave level 2 out"
                )
            self.halves[row] = half if len(kept) else None
        return self.halves[row]


def _numbers(corpus: Corpus) -> np.ndarray:
    """A number for the text of each document, int64, the same for equal texts."""
    numbers = (_number(f"{document.title} {document.text}".strip()) for document in corpus)
    return np.fromiter(numbers, np.int64, len(corpus))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)
