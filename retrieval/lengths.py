"""How long the texts of a collection are in an encoder's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from retrieval.examination import Finding, Patient
from retrieval.protocols import Analyzer

__all__ = ["lengths"]

ENDS = 2  # [CLS] and [SEP]


def lengths(patient: Patient, tokenizer: Analyzer, limits: Sequence[int], sample: int) -> Iterator[Finding]:
    """Median and longest of documents and queries, and how many an encoder of each limit cuts off.

    Of more than `sample` documents an even spread of so many is looked at, and the finding says so.
    """
    corpus = patient.collection.corpus
    rows = np.unique(np.linspace(0, len(corpus) - 1, min(sample, len(corpus))).astype(np.int64))
    drawn = f" ({len(rows):,} looked at)" if len(rows) < len(corpus) else ""
    yield _told(f"documents{drawn}", _counts(tokenizer, corpus.texts(rows)), limits)
    asked = dict.fromkeys(name for qrels in patient.qrels.values() for name in qrels.query_ids)
    texts = [patient.queries[name] for name in asked if name in patient.queries]
    if texts:
        yield _told("queries", _counts(tokenizer, texts), limits)


def _counts(tokenizer: Analyzer, texts: Sequence[str]) -> np.ndarray:
    return np.diff(tokenizer.analyze(pa.array(texts, pa.large_string())).offsets) + ENDS


def _told(what: str, counts: np.ndarray, limits: Sequence[int]) -> Finding:
    """One line; its count is how many pass the lowest limit."""
    over = [f"{np.count_nonzero(counts > limit):,} above {limit}" for limit in limits]
    told = f"{what}: {np.median(counts):.0f} tokens in the middle, {counts.max()} at most, {', '.join(over)}"
    cut = int((counts > min(limits)).sum())
    advice = f"an encoder of {min(limits)} tokens reads the first part only" if cut else "no encoder cuts them"
    return Finding("note", told, advice, cut)
