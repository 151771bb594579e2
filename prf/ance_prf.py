"""ANCE-PRF: an encoder that was trained to read a query together with what its first pass found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prf._vectors import best
from retrieval.encoding import encoded_queries
from retrieval.protocols import Encoder
from retrieval.types import Feedback, Hybrid, Queries

__all__ = ["ANCEPRF"]


class ANCEPRF:
    """q' = E(query, separator, d1, ..., separator, dk), a query encoder of its own, the index frozen. Yu et al. (2021).

    The vectors of the documents stay those of the encoder that it was trained from. What is longer than the encoder
    takes is cut from the end: the last document first, and never the query. A query without feedback is encoded alone.
    """

    needs = ("texts",)
    writes = "representations"

    def __init__(self, encoder: Encoder, fb_docs: int = 3, separator: str | None = None):
        """`encoder` is a model trained for that many `fb_docs`, its `max_length` that of all texts together.

        `separator` stands between the texts, spaces and all; None is the encoder's own, such as </s> or [SEP].
        """
        if fb_docs < 0:
            raise ValueError(f"fb_docs is {fb_docs}: ANCEPRF reads 0 documents (the query alone) or more")
        self.encoder, self.fb_docs, self.separator = encoder, fb_docs, separator
        self.truncated = 0  # of all queries that were encoded so far

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `representations` and no other form.

        Raises ValueError without texts of the documents, and for instructions that the encoder does not take.
        """
        found: Any = encoded_queries(self.encoder, replace(queries, texts=self.texts(queries, feedback)))
        self.truncated += found.truncated
        made = found.dense if isinstance(found, Hybrid) else found
        return replace(queries, terms=None, variants=None, representations=made)

    def texts(self, queries: Queries, feedback: Feedback | None) -> list[str]:
        """What the encoder reads, one text a query: also what a query encoder is trained on."""
        if feedback is None or feedback.texts is None:
            raise ValueError(
                "ANCEPRF needs the texts of the feedback documents: name a source that has them, such as dense"
            )
        if list(feedback.run.query_ids) != list(queries.ids):
            raise ValueError(f"ANCEPRF was given {len(queries)} queries and the feedback of others")
        rows, between = best(feedback.run, self.fb_docs), self._between()
        distinct = np.unique(np.concatenate([np.zeros(0, np.int32), *rows]))
        text_of = dict(zip(distinct.tolist(), feedback.texts(distinct), strict=True))
        return [
            between.join([query, *filter(str.strip, (text_of[row] for row in mine.tolist()))])
            for query, mine in zip(queries.texts, rows, strict=True)
        ]

    def provenance(self) -> Mapping[str, Any]:
        """What encodes the queries, for the manifest, and how many of them were cut with their documents."""
        about = {"encoder": dict(self.encoder.contract()), "separator": self._between()}
        return about | {"truncated queries with feedback": self.truncated}

    def _between(self) -> str:
        found = getattr(self.encoder, "separator", None) if self.separator is None else self.separator
        if not found:
            raise ValueError(f"{type(self.encoder).__name__} has no separator of its own: give one, such as '[SEP]'")
        return found
