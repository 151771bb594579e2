"""Texts appended to a query that is repeated the more, the longer they are."""

from __future__ import annotations

from typing import Literal

from prf._texts import check_depth, reworded, texts_of
from retrieval.types import Feedback, Queries

__all__ = ["AdaptiveRepeat"]


class AdaptiveRepeat:
    """q' = q, t times, then the texts; t = max(1, floor(length(texts) / (ratio length(q)))).

    MuGI (Zhang et al. 2024) counts characters, ratio 6; ThinkQE (Lei et al. 2025) words, ratio 3. MuGI's own t may be
    0, which loses the query; here it is at least 1.
    """

    needs = ("texts",)
    writes = "texts"

    def __init__(
        self, ratio: float = 6, unit: Literal["characters", "words"] = "characters", fb_docs: int | None = None
    ):
        """`unit` is what lengths are counted in; `fb_docs` None takes all texts."""
        if ratio <= 0 or unit not in ("characters", "words"):
            raise ValueError(f'ratio is above 0 and unit "characters" or "words", not {ratio} and {unit!r}')
        self.ratio, self.unit, self.fb_docs = ratio, unit, check_depth(self, fb_docs)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new texts. Raises ValueError without the texts of the documents."""
        every = texts_of(self, queries, feedback, self.fb_docs)
        joined = [
            " ".join([*[query] * self.times(query, " ".join(texts)), *texts])
            for query, texts in zip(queries.texts, every, strict=True)
        ]
        return reworded(queries, joined)

    def times(self, query: str, text: str) -> int:
        """How often the query stands before the text."""
        own, added = (len(one.split()) if self.unit == "words" else len(one) for one in (query, text))
        return max(1, int(added // (self.ratio * max(own, 1))))
