"""The formulas of measures, over the judged results of all queries at a time, as trec_eval computes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from eval.judged import Judged

__all__ = ["FORMULAS"]


def _ndcg(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """Gain is the grade, discount log2(rank + 1)."""
    return _over(_dcg(judged, judged.query, judged.rank, judged.grade, cutoff), _ideal(judged, cutoff))


def _ideal(judged: Judged, cutoff: int | None) -> np.ndarray:
    return _dcg(judged, judged.wanted, _ordinal(judged.wanted), judged.wanted_grade, cutoff)


def _dcg(judged: Judged, query: np.ndarray, rank: np.ndarray, grade: np.ndarray, cutoff: int | None) -> np.ndarray:
    gains = np.flatnonzero((grade > 0) & _within(rank, cutoff))
    # math.log2 is the C library's, as in trec_eval; numpy's own may differ in the last bit
    discount = np.array([math.log2(place + 1) for place in range(1, 1 + rank[gains].max(initial=0))])
    return judged.count(query[gains], grade[gains] / discount[rank[gains] - 1])


def _ap(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _over(_precisions(judged, cutoff, rel), judged.relevant(rel))


def _capped_ap(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _over(_precisions(judged, cutoff, rel), _capped(judged, cutoff, rel))


def _capped(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """min(R, k): what can be found down to the cutoff."""
    relevant = judged.relevant(rel)
    return relevant if cutoff is None else np.minimum(relevant, cutoff)


def _precisions(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """The sum of the precisions at the ranks of relevant results."""
    hits = np.flatnonzero((judged.grade >= rel) & _within(judged.rank, cutoff))
    return judged.count(judged.query[hits], _ordinal(judged.query[hits]) / judged.rank[hits])


def _rr(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    hits = np.flatnonzero((judged.grade >= rel) & _within(judged.rank, cutoff))
    first = hits[_ordinal(judged.query[hits]) == 1]
    return judged.count(judged.query[first], 1 / judged.rank[first])


def _hits(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return judged.count(judged.query[(judged.grade >= rel) & _within(judged.rank, cutoff)])


def _p(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _hits(judged, cutoff, rel) / cutoff


def _r(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _over(_hits(judged, cutoff, rel), judged.relevant(rel))


def _capped_r(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _over(_hits(judged, cutoff, rel), _capped(judged, cutoff, rel))


def _success(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return (_hits(judged, cutoff, rel) > 0).astype(np.float64)


def _sufficiency(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    wanted = judged.relevant(rel)
    if not wanted.all():
        raise ValueError(
            f"{int((wanted == 0).sum())} judged queries have no document of grade {rel} or more: "
            "Sufficiency has no value for them; leave them out of the qrels"
        )
    return (_hits(judged, cutoff, rel) == wanted).astype(np.float64)


def _judged_share(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """Of the results down to the cutoff, however few they are."""
    return _over(judged.count(judged.query[_within(judged.rank, cutoff)]), _shown(judged, cutoff))


def _accuracy(judged: Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """Pairs of a relevant result and another that are in this order; 1 where all are relevant, 0 where none is.

    ir_measures divides by zero at the first and leaves the second out of the mean.
    """
    hits = np.flatnonzero((judged.grade >= rel) & _within(judged.rank, cutoff))
    relevant = judged.count(judged.query[hits])
    others_above = judged.count(judged.query[hits], judged.rank[hits] - _ordinal(judged.query[hits]))
    return (relevant > 0) - _over(others_above, (_shown(judged, cutoff) - relevant) * relevant)


def _shown(judged: Judged, cutoff: int | None) -> np.ndarray:
    """Results down to the cutoff."""
    return judged.retrieved if cutoff is None else np.minimum(judged.retrieved, cutoff)


def _within(rank: np.ndarray, cutoff: int | None) -> np.ndarray:
    return rank <= (np.inf if cutoff is None else cutoff)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, 0 over nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _ordinal(query: np.ndarray) -> np.ndarray:
    """1, 2, 3 ... within each stretch of equal queries."""
    place = np.arange(len(query))
    new = np.append(True, query[1:] != query[:-1])[: len(query)]
    return place - np.maximum.accumulate(np.where(new, place, 0)) + 1


# Each takes the cutoff and the least grade of a relevant document, and gives float64 [queries].
FORMULAS: dict[str, Callable[[Judged, int | None, int], np.ndarray]] = {
    "nDCG": _ndcg,
    "AP": _ap,
    "RR": _rr,
    "P": _p,
    "R": _r,
    "Success": _success,
    "Sufficiency": _sufficiency,
    "CappedR": _capped_r,
    "CappedAP": _capped_ap,
    "Judged": _judged_share,
    "Accuracy": _accuracy,
}
