"""The terms of a corpus on disk: which documents hold a term and how often, and which terms a document holds."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from tqdm import tqdm

from retrieval.array_files import ArrayFiles, read_about, writing
from retrieval.compiled import cores, tell_first_use
from retrieval.corpus import Corpus
from retrieval.inversion import BLOCK, Inversion
from retrieval.protocols import Analyzer
from retrieval.types import Terms, TermVectors
from retrieval.vocabulary import Vocabulary

__all__ = ["WHOLE", "TextIndex", "count_terms"]

VERSION = 1
WHOLE = "title and text"  # the one field of an index without fields
_FIELD_END = "\x1f"  # stands between field and term in the vocabulary of an index with several fields

T = TypeVar("T")
R = TypeVar("R")


class Bags(NamedTuple):
    """The different terms of each of several texts, one text after another."""

    terms: pa.Array  # large_string, each term once
    counts: np.ndarray  # int64 [texts], how many different terms each has
    ids: np.ndarray  # int32, which
    frequencies: np.ndarray  # int32, how often
    lengths: np.ndarray  # int64 [texts], all terms of each


class TextIndex:
    """An opened index. Terms are numbered as they first came; in an index with fields, those of each field apart."""

    def __init__(self, folder: Path, corpus: Corpus, analyzer: Analyzer, fields: Sequence[str] = (WHOLE,)):
        """Open a finished folder. Raises ValueError that names both sides if it is of another corpus or analysis."""
        _expect(folder, read_about(folder), corpus, analyzer, fields)
        files = ArrayFiles(folder)
        self.folder, self.files, self.fields = folder, files, tuple(fields)
        self.offsets, self.docs, self.frequencies = files["offsets"], files["docs"], files["values"]
        self.lengths = files["lengths"].reshape(len(fields), -1)  # int32 [fields, documents], terms in each
        self.vocabulary = Vocabulary((files["term_slots"], files["term_bytes"], files["term_offsets"]))

    @classmethod
    def make(
        cls,
        corpus: Corpus,
        analyzer: Analyzer,
        folder: Path,
        fields: Sequence[str] = (WHOLE,),
        block: int = BLOCK,
    ) -> TextIndex:
        """Index the corpus in a folder below `folder`, named after all that determines it, or open the one made before.

        Memory holds the vocabulary, some bytes per document, a few batches and one
        block of postings. Raises ValueError where no document has a term.
        """
        made_with = json.dumps([VERSION, dict(analyzer.contract()), list(fields)], sort_keys=True)
        name = f"{corpus.fingerprint[:16]}-{hashlib.sha256(made_with.encode()).hexdigest()[:16]}"
        if not (folder / name).is_dir():
            _build(corpus, analyzer, folder / name, fields, block)
        return cls(folder / name, corpus, analyzer, fields)

    @property
    def documents(self) -> int:
        """How many documents there are, those without terms included."""
        return self.lengths.shape[1]

    def holding(self, field: int = 0) -> int:
        """How many documents have a term in a field."""
        return int(np.count_nonzero(self.lengths[field]))

    def mean_length(self, field: int = 0) -> float:
        """Terms per document that has any in the field."""
        return float(self.lengths[field].sum(dtype=np.int64) / max(1, self.holding(field)))

    @cached_property
    def document_frequencies(self) -> np.ndarray:
        """int64 [terms], documents that hold each term."""
        return np.diff(self.offsets)

    def field_of_terms(self) -> np.ndarray:
        """int [terms], the field each term is of."""
        if len(self.fields) == 1:
            return np.zeros(len(self.vocabulary), int)
        names = pc.list_element(pc.split_pattern(self.vocabulary.terms, _FIELD_END, max_splits=1), 0)
        return np.asarray(pc.index_in(names, pa.array(self.fields, names.type)))

    def numbers(self, terms: pa.Array, field: int = 0) -> np.ndarray:
        """int32 numbers of terms in a field, -1 for one that no document holds."""
        return self.vocabulary.find(_in_field(terms, self.fields, field))

    def occurrences(self, numbers: np.ndarray) -> np.ndarray:
        """int64, how often the term of each number stands in the collection, 0 for -1."""
        starts, stops = self.offsets[numbers], self.offsets[np.asarray(numbers) + 1]
        counts = [
            self.frequencies[start:stop].sum(dtype=np.int64) if number >= 0 else 0
            for number, start, stop in zip(numbers, starts, stops, strict=True)
        ]
        return np.array(counts, np.int64)

    def document_terms(self, rows: np.ndarray) -> TermVectors:
        """Term -> how often, for each of these rows."""
        bounds = self.files["forward_offsets"]
        starts = bounds[rows]
        offsets = np.concatenate([[0], np.cumsum(bounds[np.asarray(rows) + 1] - starts)]).astype(np.int64)
        numbers, counts = gather(self.files["forward_terms"], self.files["forward_values"], starts, offsets)
        used, ids = renumber(numbers, len(self.vocabulary))
        return TermVectors(self.vocabulary.take(used), ids, counts, offsets)


def _expect(folder: Path, about: Mapping[str, Any], corpus: Corpus, analyzer: Analyzer, fields: Sequence[str]) -> None:
    wanted = {
        "version": VERSION,
        "corpus": corpus.fingerprint,
        "fields": list(fields),
        **json.loads(json.dumps(dict(analyzer.contract()))),
    }
    there = {"version": about.get("version"), "corpus": about.get("corpus"), "fields": about.get("fields")}
    there |= about.get("analyzer") or {}
    differing = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    if differing:
        both = "; ".join(f"{key}: {there.get(key)!r} there, {wanted.get(key)!r} here" for key in differing)
        raise ValueError(f"{folder} is another index ({both}); search it with what it was made with, or build another")


def _build(corpus: Corpus, analyzer: Analyzer, folder: Path, fields: Sequence[str], block: int) -> None:
    tell_first_use(count_terms, "the indexer")
    vocabulary = Vocabulary()
    with writing(folder) as part:
        inversion = Inversion(part.folder, block)
        terms_of, frequencies = part.writer("forward_terms", np.int32), part.writer("forward_values", np.int32)
        counts_of, lengths_of = [], []
        for batch in _analysed(corpus, analyzer, fields):
            counts, terms, often = _together([_numbered(bag, vocabulary, fields, i) for i, bag in enumerate(batch)])
            inversion.add(counts, terms, often)
            terms_of.append(terms)
            frequencies.append(often)
            counts_of.append(counts)
            lengths_of.append(np.stack([bag.lengths for bag in batch]))
        if not len(vocabulary):
            raise ValueError(f"no document of {corpus.folder} has a term that could be indexed")
        inversion.finish(part, len(vocabulary))
        part.write("forward_offsets", np.concatenate([[0], np.cumsum(np.concatenate(counts_of))]))
        part.write("lengths", np.concatenate(lengths_of, axis=1).astype(np.int32).ravel())
        for name, array in zip(("term_slots", "term_bytes", "term_offsets"), vocabulary.whole, strict=True):
            part.write(name, array)
        about = {"version": VERSION, "corpus": corpus.fingerprint, "fields": list(fields)}
        part.finish(about | {"analyzer": dict(analyzer.contract()), "documents": len(corpus)})


def _analysed(corpus: Corpus, analyzer: Analyzer, fields: Sequence[str]) -> Iterator[list[Bags]]:
    """The bags of each batch of documents, one per field, in order."""

    def analysed(batch: tuple[pa.Array, pa.Array]) -> list[Bags]:
        return [_bags(analyzer.analyze(text)) for text in _texts(batch, fields)]

    with tqdm(total=len(corpus), desc="documents", unit=" documents", disable=len(corpus) < 100_000) as bar:
        for batch in _ahead(analysed, corpus.batches()):
            yield batch
            bar.update(len(batch[0].lengths))


def _texts(batch: tuple[pa.Array, pa.Array], fields: Sequence[str]) -> list[pa.Array]:
    title, text = batch
    if tuple(fields) == (WHOLE,):
        return [pc.binary_join_element_wise(title, text, pa.scalar(" ", pa.large_string()))]
    return [{"title": title, "text": text}[field] for field in fields]


def _bags(terms: Terms) -> Bags:
    counts, ids, frequencies = count_terms(terms.ids, terms.offsets, len(terms.terms))
    return Bags(terms.terms, counts, ids, frequencies, np.diff(terms.offsets))


def _numbered(bag: Bags, vocabulary: Vocabulary, fields: Sequence[str], field: int) -> tuple[np.ndarray, ...]:
    """Counts, terms as the vocabulary numbers them, and how often each."""
    return bag.counts, vocabulary.add(_in_field(bag.terms, fields, field))[bag.ids], bag.frequencies


def _in_field(terms: pa.Array, fields: Sequence[str], field: int) -> pa.Array:
    if len(fields) == 1:
        return terms
    name, between = (pa.scalar(part, pa.large_string()) for part in (fields[field], _FIELD_END))
    return pc.binary_join_element_wise(name, terms, between)


def _together(bags: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Bags of several fields as one: each document's one after another."""
    if len(bags) == 1:
        return bags[0]
    document = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts, _, _ in bags])
    order = np.argsort(document, kind="stable")
    counts = np.sum([counts for counts, _, _ in bags], axis=0)
    return counts, *(np.concatenate([bag[column] for bag in bags])[order] for column in (1, 2))


def _ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in order, computed on all cores a few items ahead of their use."""
    with ThreadPoolExecutor(cores()) as pool:
        under_way: deque = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * cores():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@njit(cache=True, nogil=True)
def count_terms(ids, offsets, terms):
    """Different terms per text int64 [n]; the terms int32, in the order in which they come; how often each, int32."""
    counts = np.zeros(len(offsets) - 1, np.int64)
    kept, frequencies, found = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32), 0
    place = np.full(terms, -1, np.int64)  # of a term's last entry
    for number in range(len(counts)):
        first = found
        for i in range(offsets[number], offsets[number + 1]):
            term = ids[i]
            if place[term] >= first:
                frequencies[place[term]] += 1
            else:
                place[term], kept[found], frequencies[found] = found, term, 1
                found += 1
        counts[number] = found - first
    return counts, kept[:found].copy(), frequencies[:found].copy()


@njit(cache=True, nogil=True)
def gather(terms, values, starts, offsets):
    """Terms int32 and values float64 of documents, from where each starts, one document after another."""
    numbers, counts = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float64)
    for i in range(len(starts)):
        for j in range(offsets[i + 1] - offsets[i]):
            numbers[offsets[i] + j] = terms[starts[i] + j]
            counts[offsets[i] + j] = values[starts[i] + j]
    return numbers, counts


@njit(cache=True, nogil=True)
def renumber(numbers, most):
    """The different numbers below `most`, as they come, and the place of each number among them: both int32."""
    place, used, count = np.full(most, -1, np.int32), np.empty(min(len(numbers), most), np.int32), 0
    ids = np.empty(len(numbers), np.int32)
    for i in range(len(numbers)):
        if place[numbers[i]] < 0:
            place[numbers[i]], used[count] = count, numbers[i]
            count += 1
        ids[i] = place[numbers[i]]
    return used[:count], ids
