"""Effectiveness measures by ir_measures' names, computed on whole runs at a time as trec_eval computes them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.sufficiency import sufficiency
from retrieval.order import PAD
from retrieval.types import Qrels, Run

if TYPE_CHECKING:
    from ir_measures import Measure

__all__ = ["Evaluation", "evaluate", "parse"]

TOP = 10  # results per query in which unjudged ones are counted


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run scores on each judged query, whether the run answers it or not."""

    query_ids: Sequence[str]  # all judged queries, in the order of the qrels
    values: Mapping[str, np.ndarray]  # float64 [queries] by measure, in the order asked
    counts: Mapping[str, int | float]  # queries, and what a reader of the figures must know; shares are floats

    @property
    def mean(self) -> dict[str, float]:
        """Each measure's mean over all judged queries, exact whatever their order."""
        return {measure: math.fsum(values) / len(values) for measure, values in self.values.items()}


@dataclass(frozen=True, eq=False)
class _Judged:
    """The judged results of a run, which are few, and the judgements: all that the measures look at."""

    query: np.ndarray  # int [hits], place among the judged queries; those of a query stand together, best first
    rank: np.ndarray  # int [hits], from 1
    grade: np.ndarray  # int [hits]
    retrieved: np.ndarray  # int [queries], results of any kind
    wanted: np.ndarray  # int [judgements], place among the queries, ascending
    wanted_grade: np.ndarray  # int [judgements], falling within each query

    def relevant(self, level: int) -> np.ndarray:
        """float64 [queries], judgements of at least this grade."""
        return self.count(self.wanted[self.wanted_grade >= level])

    def count(self, query: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """float64 [queries], how often each query occurs, or the sum of its weights in the order given."""
        return np.bincount(query, weights, len(self.retrieved)).astype(np.float64)


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str | Measure]) -> Evaluation:
    """Measure a run query by query; a judged query that it lacks scores 0 and is counted.

    Measures are those of ir_measures, as names ("nDCG@10", "AP(rel=2)@100", "RR@10", "R@1000") or objects; results are
    kept under their canonical names. Raises ValueError for an unknown measure and for a run of other queries.
    """
    parsed = [parse(measure) for measure in measures]
    places = _places(run, qrels)
    rows = run.docs.rows(qrels.doc_ids)
    judged = _judged(run, qrels, places, rows)
    others = [measure for measure in parsed if not _is_fast(measure)]
    found = _by_ir_measures(run, qrels, places, rows, others) if others else {}
    for measure in parsed:
        if measure not in found:
            compute = _FAST[str(measure.NAME)]
            found[measure] = compute(judged, measure.params.get("cutoff"), measure.params.get("rel", 1))
    return Evaluation(
        tuple(qrels.query_ids), {str(measure): found[measure] for measure in parsed}, _counts(judged, places)
    )


def parse(measure: str | Measure) -> Measure:
    """The measure that a name means. Raises ValueError with the nearest names, or with what is wrong with it."""
    import ir_measures

    sufficiency()
    known = ir_measures.measures.registry
    try:
        parsed = ir_measures.parse_measure(measure)  # type: ignore[arg-type]  # a Measure stays as it is
    except NameError:
        name = re.split(r"\W", str(measure))[0].casefold()
        names = {alias.casefold(): str(one.NAME) for alias, one in known.items()}
        near = [names[alias] for alias in difflib.get_close_matches(name, names, n=3, cutoff=0.4)]
        nearest = dict.fromkeys(near or sorted(names.values()))
        raise ValueError(f"unknown measure {measure!r}; the nearest are {', '.join(nearest)}") from None
    except ValueError as error:
        raise ValueError(f"measure {measure!r}: {error}") from None
    for parameter, about in parsed.SUPPORTED_PARAMS.items():
        if about.required and parameter not in parsed.params:
            raise ValueError(f"measure {measure!r} needs a {parameter}, as in {parsed.NAME}@10")
    try:
        parsed.validate_params()
    except AssertionError as error:
        raise ValueError(f"measure {measure!r}: {error}; it takes {', '.join(parsed.SUPPORTED_PARAMS)}") from None
    for parameter in ("cutoff", "rel"):
        if parsed.params.get(parameter, 1) < 1:
            raise ValueError(f"measure {measure!r}: {parameter} is at least 1")
    return parsed


def _places(run: Run, qrels: Qrels) -> np.ndarray:
    """int [run's queries], each query's place in the qrels, -1 for one that is not judged."""
    place = {query: number for number, query in enumerate(qrels.query_ids)}
    places = np.array([place.get(query, -1) for query in run.query_ids], np.int64)
    judged = places[places >= 0]
    if not len(judged):
        raise ValueError(
            f"none of the {len(places)} queries of run {run.name!r} ({_such_as(run.query_ids)}) is among the "
            f"{len(place)} judged ({_such_as(qrels.query_ids)}): are these qrels of another collection or split?"
        )
    return places


def _such_as(ids: Sequence[str]) -> str:
    return f"such as {', '.join(map(repr, ids[:3]))}" if len(ids) else "empty"


def _judged(run: Run, qrels: Qrels, places: np.ndarray, rows: np.ndarray) -> _Judged:
    """Find the judged results: mark the documents judged for any query, then look at the few that are marked."""
    asked = np.flatnonzero(places >= 0)
    lists = run.rows if len(asked) == len(places) else run.rows[asked]
    marked = np.zeros(len(run.docs) + 1, bool)  # one more, which PAD falls on
    marked[rows[rows >= 0]] = True
    number, rank = np.nonzero(marked[lists])
    query, row = places[asked][number], lists[number, rank]
    keys = np.where(rows < 0, np.iinfo(np.int64).max, qrels.query.astype(np.int64) << 32 | rows)
    ascending = np.argsort(keys)
    keys = np.append(keys[ascending], np.iinfo(np.int64).max)
    at = np.searchsorted(keys, query << 32 | row)
    hit = keys[at] == query << 32 | row
    retrieved = np.zeros(len(qrels.query_ids), np.int64)
    retrieved[places[asked]] = np.count_nonzero(lists != PAD, axis=1)
    best = np.lexsort((-qrels.grades, qrels.query))
    return _Judged(
        query[hit], rank[hit] + 1, qrels.grades[ascending[at[hit]]], retrieved, qrels.query[best], qrels.grades[best]
    )


def _counts(judged: _Judged, places: np.ndarray) -> dict[str, int | float]:
    shown = int(np.minimum(judged.retrieved, TOP).sum())
    unjudged = shown - int(np.count_nonzero(judged.rank <= TOP))
    in_run = int(np.count_nonzero(places >= 0))
    return {
        "judged queries": len(judged.retrieved),
        "missing from the run": len(judged.retrieved) - in_run,
        "without results": in_run - int(np.count_nonzero(judged.retrieved)),
        "without relevant documents": int(np.count_nonzero(judged.relevant(1) == 0)),
        f"unjudged in the top {TOP}": unjudged / shown if shown else 0.0,
    }


def _ndcg(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """Gain is the grade, discount log2(rank + 1)."""
    return _over(_dcg(judged, judged.query, judged.rank, judged.grade, cutoff), _ideal(judged, cutoff))


def _ideal(judged: _Judged, cutoff: int | None) -> np.ndarray:
    return _dcg(judged, judged.wanted, _ordinal(judged.wanted), judged.wanted_grade, cutoff)


def _dcg(judged: _Judged, query: np.ndarray, rank: np.ndarray, grade: np.ndarray, cutoff: int | None) -> np.ndarray:
    gains = np.flatnonzero((grade > 0) & _within(rank, cutoff))
    # math.log2 is the C library's, as in trec_eval; numpy's own may differ in the last bit
    discount = np.array([math.log2(place + 1) for place in range(1, 1 + rank[gains].max(initial=0))])
    return judged.count(query[gains], grade[gains] / discount[rank[gains] - 1])


def _ap(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    hits = np.flatnonzero((judged.grade >= rel) & _within(judged.rank, cutoff))
    precision = _ordinal(judged.query[hits]) / judged.rank[hits]
    return _over(judged.count(judged.query[hits], precision), judged.relevant(rel))


def _rr(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    hits = np.flatnonzero((judged.grade >= rel) & _within(judged.rank, cutoff))
    first = hits[_ordinal(judged.query[hits]) == 1]
    return judged.count(judged.query[first], 1 / judged.rank[first])


def _hits(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return judged.count(judged.query[(judged.grade >= rel) & _within(judged.rank, cutoff)])


def _p(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _hits(judged, cutoff, rel) / cutoff


def _r(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return _over(_hits(judged, cutoff, rel), judged.relevant(rel))


def _success(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    return (_hits(judged, cutoff, rel) > 0).astype(np.float64)


def _sufficiency(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    wanted = judged.relevant(rel)
    if not wanted.all():
        raise ValueError(
            f"{int((wanted == 0).sum())} judged queries have no document of grade {rel} or more: "
            "Sufficiency has no value for them; leave them out of the qrels"
        )
    return (_hits(judged, cutoff, rel) == wanted).astype(np.float64)


def _judged_share(judged: _Judged, cutoff: int | None, rel: int) -> np.ndarray:
    """Of the results down to the cutoff, however few they are."""
    shown = judged.retrieved if cutoff is None else np.minimum(judged.retrieved, cutoff)
    return _over(judged.count(judged.query[_within(judged.rank, cutoff)]), shown)


_FAST: dict[str, Callable[[_Judged, int | None, int], np.ndarray]] = {
    "nDCG": _ndcg,
    "AP": _ap,
    "RR": _rr,
    "P": _p,
    "R": _r,
    "Success": _success,
    "Sufficiency": _sufficiency,
    "Judged": _judged_share,
}


def _is_fast(measure: Measure) -> bool:
    """Whether it is computed here: one of the above with no parameters but cutoff and rel."""
    known = measure.SUPPORTED_PARAMS
    special = [name for name, value in measure.params.items() if name not in ("cutoff", "rel")]
    return measure.NAME in _FAST and all(measure.params[name] == known[name].default for name in special)


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


def _by_ir_measures(
    run: Run, qrels: Qrels, places: np.ndarray, rows: np.ndarray, measures: Sequence[Measure]
) -> dict[Measure, np.ndarray]:
    """The measures that are not computed here. Scores are made of ranks, so that every provider follows the one order.

    Queries and documents go by number: some providers write files, and no id may break these.
    """
    import ir_measures

    judged: dict[str, dict[str, int]] = {}
    for number, (query, row, grade) in enumerate(zip(qrels.query, rows, qrels.grades.tolist(), strict=True)):
        judged.setdefault(str(query), {})[f"{row}" if row >= 0 else f"unknown{number}"] = grade
    for grades in judged.values():
        if max(grades.values()) < 0:
            grades["none"] = 0  # pytrec_eval crashes on a query with negative grades only
    found = {
        str(place): {str(row): float(len(ranked) - rank) for rank, row in enumerate(ranked[ranked != PAD].tolist())}
        for place, ranked in zip(places, run.rows, strict=True)
        if place >= 0 and len(ranked) and ranked[0] != PAD
    }
    values = {measure: np.zeros(len(qrels.query_ids)) for measure in measures}
    for metric in ir_measures.iter_calc(measures, judged, found):
        values[metric.measure][int(metric.query_id)] = metric.value
    return values
