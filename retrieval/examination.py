"""What may be wrong with a collection, told from its documents, queries and judgements alone.

Each check takes a `Patient` and gives findings; one that finds nothing is silent.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np

from retrieval.collection import Collection
from retrieval.known import Known, digest_of_qrels, digest_of_queries, known
from retrieval.types import Qrels

__all__ = ["CHECKS", "Finding", "Patient", "examples", "is_training"]

SHOWN = 3  # examples of a finding
USUAL = range(0, 5)  # grades: TREC's 0 to 3, Cranfield's to 4


@dataclass(frozen=True)
class Finding:
    """One thing to know before a figure on this collection is believed."""

    severity: Literal["error", "warning", "note"]  # figures are wrong; may be; are easily misread
    what: str
    advice: str
    count: int | None = None
    examples: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"examples": list(self.examples)}


@dataclass(frozen=True)
class Patient:
    """A collection and what of it is looked at."""

    collection: Collection
    queries: Mapping[str, str]  # all of queries.jsonl by id
    qrels: Mapping[str, Qrels]  # by split

    @cached_property
    def known(self) -> Known | None:
        """What is known under its name."""
        return known(self.collection)

    @cached_property
    def hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """uint64 [documents] of title and text, and of the text alone, blanks evened out; 0 for an empty one."""
        whole, text = [], []
        for document in self.collection.corpus:
            whole.append(hashed(f"{document.title} {document.text}"))
            text.append(hashed(document.text))
        return np.array(whole, np.uint64), np.array(text, np.uint64)

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The first few of these documents."""
        return self.collection.corpus.ids.take(np.asarray(rows)[:SHOWN])


def hashed(text: str) -> int:
    """64 bits of a text, the same whatever blanks are between its words; 0 for none."""
    words = " ".join(text.split())
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little") if words else 0


def examples(names: Iterable[Any]) -> list[str]:
    """The first few of them as text."""
    return [str(name) for _, name in zip(range(SHOWN), names, strict=False)]


def is_training(split: str) -> bool:
    """Whether a split is there to be trained on, by its name."""
    return split.startswith("train")


def counts(patient: Patient) -> Iterator[Finding]:
    """Documents, queries and judgements against what is known."""
    about = patient.known
    if about is None:
        name, advice = patient.collection.name, "compare with the paper or the site that it is from"
        yield Finding("note", f"no known values for {name!r}: nothing to compare counts and contents with", advice)
        return
    found: dict[str, tuple[int, int | None]] = {"documents": (len(patient.collection.corpus), about.documents)}
    for split, qrels in patient.qrels.items():
        queries, judgements = about.splits.get(split, (None, None))
        found[f"{split} queries"] = len(qrels.query_ids), queries
        found[f"{split} judgements"] = len(qrels), judgements
    off = [f"{what} {here:,}, not {there:,}" for what, (here, there) in found.items() if there not in (None, here)]
    if off:
        advice = f"figures do not compare with published ones; get it anew ({about.source})"
        yield Finding("error", f"counts are not those of {about.name}", advice, len(off), off)


def contents(patient: Patient) -> Iterator[Finding]:
    """Contents against known digests, where the counts may agree all the same."""
    about = patient.known
    if about is None or not about.digests:
        return
    digests = {"corpus": patient.collection.corpus.fingerprint, "queries": digest_of_queries(patient.queries)}
    digests |= {split: digest_of_qrels(qrels) for split, qrels in patient.qrels.items()}
    off = [
        f"{what} {digest[:12]}, not {about.digests[what][:12]}"
        for what, digest in digests.items()
        if about.digests.get(what, digest) != digest
    ]
    if off:
        advice = f"texts, grades or the order of documents were changed; get it anew ({about.source})"
        yield Finding("warning", f"contents are not those of {about.name}", advice, len(off), off)


def empty_documents(patient: Patient) -> Iterator[Finding]:
    """Documents without text, and how many of them are judged relevant."""
    rows = np.flatnonzero(patient.hashes[0] == 0)
    if not len(rows):
        return
    ids = patient.collection.corpus.ids
    relevant = np.unique(ids.rows([doc for _, _, doc in _relevant(patient)]))
    wanted = int(np.isin(rows, relevant).sum())
    advice = f"{wanted} of them are relevant and can hardly be found" if wanted else "they only pad the corpus"
    yield Finding("warning" if wanted else "note", "documents are empty", advice, len(rows), patient.ids(rows))


def duplicate_documents(patient: Patient) -> Iterator[Finding]:
    """Documents with the same text, and relevant ones with a twin that is not judged."""
    hashes = patient.hashes[0]
    order = np.argsort(hashes, kind="stable")
    same = np.append(False, hashes[order][1:] == hashes[order][:-1]) & (hashes[order] != 0)
    if not same.any():
        return
    heads = np.flatnonzero(~same)
    head = order[heads[np.cumsum(~same) - 1]]  # of each place in order, the first with its text
    pairs = [f"{a} = {b}" for a, b in zip(patient.ids(head[same]), patient.ids(order[same]), strict=True)]
    missed = _unjudged_twins(patient, hashes)
    advice = "which of them is found is chance" if missed else "they fill ranks, and none costs a relevant document"
    yield Finding("note", "documents repeat the text of another", advice, int(same.sum()), pairs)
    if missed:
        advice = "a system that finds the twin is counted as wrong: judge twins alike, or leave them out"
        yield Finding(
            "warning",
            "relevant documents have a twin that is not judged for the query",
            advice,
            len(missed),
            examples(missed),
        )


def _unjudged_twins(patient: Patient, hashes: np.ndarray) -> list[str]:
    twins: dict[int, list[int]] = {}
    values, first, count = np.unique(hashes, return_index=True, return_counts=True)
    repeated = set(values[(count > 1) & (values != 0)].tolist())
    for row in np.flatnonzero(np.isin(hashes, np.array(sorted(repeated), np.uint64))).tolist():
        twins.setdefault(int(hashes[row]), []).append(row)
    ids, missed = patient.collection.corpus.ids, []
    judged = {split: qrels.to_dict() for split, qrels in patient.qrels.items()}
    relevant = _relevant(patient)
    rows = ids.rows([doc for _, _, doc in relevant])
    for (split, query, doc), row in zip(relevant, rows, strict=True):
        others = [one for one in twins.get(int(hashes[row]), []) if one != row] if row >= 0 else []
        lacking = [name for name in ids.take(others) if name not in judged[split][query]]
        missed += [f"query {query}: {doc}, not {name}" for name in lacking]
    return list(dict.fromkeys(missed))


def _relevant(patient: Patient) -> list[tuple[str, str, str]]:
    """Split, query and document of each judgement above 0."""
    return [
        (split, query, doc)
        for split, qrels in patient.qrels.items()
        for query, grades in qrels.to_dict().items()
        for doc, grade in grades.items()
        if grade > 0
    ]


def duplicate_queries(patient: Patient) -> Iterator[Finding]:
    """Queries of a split that ask the same in the same words."""
    for split, qrels in patient.qrels.items():
        places: dict[int, list[str]] = {}
        for name in qrels.query_ids:
            places.setdefault(hashed(patient.queries.get(name, "").casefold()), []).append(name)
        twice = [names for words, names in places.items() if words and len(names) > 1]
        if twice:
            count = sum(len(names) - 1 for names in twice)
            shown = examples(" = ".join(names[:SHOWN]) for names in twice)
            advice = "they count as several in every mean and test"
            yield Finding("note", f"{split}: queries repeat the text of another", advice, count, shown)


def missing_queries(patient: Patient) -> Iterator[Finding]:
    """Queries without text, and judged ones that are nowhere."""
    for split, qrels in patient.qrels.items():
        lacking = [name for name in qrels.query_ids if name not in patient.queries]
        if lacking:
            advice = "queries.jsonl is of another version, or cut: nothing can be searched until it has them"
            yield Finding(
                "error", f"{split}: judged queries are not in queries.jsonl", advice, len(lacking), examples(lacking)
            )
        empty = [name for name in qrels.query_ids if name in patient.queries and not patient.queries[name].strip()]
        if empty:
            advice = "they score 0 or by chance, and count in the mean"
            yield Finding("warning", f"{split}: queries have no text", advice, len(empty), examples(empty))


def judged_documents(patient: Patient) -> Iterator[Finding]:
    """Judged documents that the corpus lacks."""
    for split, qrels in patient.qrels.items():
        lacking = patient.collection.corpus.ids.rows(qrels.doc_ids) < 0
        if not lacking.any():
            continue
        relevant = int((lacking & (qrels.grades > 0)).sum())
        names = np.array(qrels.doc_ids.to_pylist(), object)[lacking]
        advice = f"{relevant} of them are relevant, so that no system reaches 1" if relevant else "none is relevant"
        yield Finding(
            "error" if relevant else "note",
            f"{split}: judged documents are not in the corpus",
            advice,
            int(lacking.sum()),
            examples(dict.fromkeys(names)),
        )


def without_relevant(patient: Patient) -> Iterator[Finding]:
    """Queries that every system scores 0 on."""
    for split, qrels in patient.qrels.items():
        wanted = np.bincount(qrels.query[qrels.grades > 0], minlength=len(qrels.query_ids))
        names = [name for name, count in zip(qrels.query_ids, wanted, strict=True) if not count]
        if names:
            advice = "every system scores 0 on them, which lowers all means alike; some tools leave them out"
            yield Finding("warning", f"{split}: queries have no relevant document", advice, len(names), examples(names))


def grades(patient: Patient) -> Iterator[Finding]:
    """Grades that measures do not expect, and splits with one grade only."""
    for split, qrels in patient.qrels.items():
        counted = Counter(qrels.grades.tolist())
        odd = {grade: count for grade, count in sorted(counted.items()) if grade not in USUAL}
        if odd:
            advice = "negative grades count as not relevant, and nDCG takes a grade as the gain: is that meant?"
            yield Finding(
                "warning",
                f"{split}: grades off 0 to {USUAL[-1]}",
                advice,
                sum(odd.values()),
                [f"{grade}: {count:,}" for grade, count in odd.items()],
            )


def own_documents(patient: Patient) -> Iterator[Finding]:
    """Queries that are documents of the corpus, under their own id or another."""
    whole, text = patient.hashes
    asked = list(dict.fromkeys(name for one in patient.qrels.values() for name in one.query_ids))
    words = np.array([hashed(patient.queries.get(name, "")) for name in asked], np.uint64)
    rows = patient.collection.corpus.ids.rows(asked) if asked else np.zeros(0, np.int64)
    same = (rows >= 0) & ((whole[rows] == words) | (text[rows] == words)) & (words != 0)
    excluded = patient.collection.excludes_self
    names = [name for name, one in zip(asked, same, strict=True) if one]
    if names and excluded:
        advice = "handled: a document with the query's own id is left out of its results"
        yield Finding("note", "queries are documents of the corpus", advice, len(names), examples(names))
    elif names:
        advice = "each finds itself first, which is no answer: set excludes_self: true, as published figures do"
        yield Finding("error", "queries are documents of the corpus", advice, len(names), examples(names))
    others = [name for name, row, one in zip(asked, rows, same, strict=True) if row >= 0 and not one]
    if others and excluded:
        advice = "excludes_self drops a document that is not the query: is it meant?"
        yield Finding("warning", "queries share their id with another text", advice, len(others), examples(others))
    elsewhere = np.isin(words, np.concatenate([whole, text])) & ~same & (words != 0)
    if elsewhere.any():
        names = [name for name, one in zip(asked, elsewhere, strict=True) if one]
        advice = "the text of the query is a document under another id: is finding it an answer?"
        yield Finding("note", "queries have the text of a document", advice, len(names), examples(names))


def shared_queries(patient: Patient) -> Iterator[Finding]:
    """Splits that judge the same query ids."""
    for one, other in combinations(patient.qrels, 2):
        both = set(patient.qrels[one].query_ids) & set(patient.qrels[other].query_ids)
        if not both:
            continue
        smaller = min(len(patient.qrels[split].query_ids) for split in (one, other))
        trains = is_training(one) != is_training(other)
        part = len(both) == smaller and not trains
        advice = (
            "one is a part of the other: never tune on one and test on the other"
            if part
            else ("what is trained or tuned on one may not be tested on the other")
        )
        severity: Literal["error", "note"] = "error" if trains else "note"
        yield Finding(severity, f"{one} and {other} judge the same queries", advice, len(both), examples(sorted(both)))


def odd_ids(patient: Patient) -> Iterator[Finding]:
    """Ids with blanks, which break TREC files of other tools."""
    blank = re.compile(r"\s")
    names = [name for name in patient.collection.corpus.ids.values.to_pylist() if blank.search(name)]
    names += [name for name in patient.queries if blank.search(name)]
    if names:
        advice = "run files of ours percent-encode them; tools that split lines at blanks misread their own"
        yield Finding("note", "ids hold blanks", advice, len(names), examples(names))


CHECKS = {
    "counts": counts,
    "contents": contents,
    "judged queries without text": missing_queries,
    "judged documents absent": judged_documents,
    "queries without relevant documents": without_relevant,
    "grades": grades,
    "queries that are documents": own_documents,
    "queries in several splits": shared_queries,
    "duplicate queries": duplicate_queries,
    "empty documents": empty_documents,
    "duplicate documents": duplicate_documents,
    "ids with blanks": odd_ids,
}
