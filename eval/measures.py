"""Effectiveness measures by ir_measures' names, computed on whole runs at a time as trec_eval computes them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.formulas import FORMULAS
from eval.judged import counts, judged_results, places
from eval.own_measures import register
from retrieval.order import PAD
from retrieval.types import Qrels, Run

if TYPE_CHECKING:
    from ir_measures import Measure

__all__ = ["Evaluation", "evaluate", "parse"]

_GDEVAL = 4  # the highest grade that TREC's gdeval.pl takes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run scores on each judged query, whether the run answers it or not."""

    query_ids: Sequence[str]  # all judged queries, in the order of the qrels
    values: Mapping[str, np.ndarray]  # float64 [queries] by measure, in the order asked
    counts: Mapping[str, int | float]  # queries, and what a reader of the figures must know; shares are floats
    judge: str | None = None  # the model that judged, as Qrels has it; None is people

    @property
    def mean(self) -> dict[str, float]:
        """Each measure's mean over all judged queries, exact whatever their order."""
        return {measure: math.fsum(values) / len(values) for measure, values in self.values.items()}


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str | Measure]) -> Evaluation:
    """Measure a run query by query; a judged query that it lacks scores 0 and is counted.

    Measures are those of ir_measures, as names ("nDCG@10", "AP(rel=2)@100", "RR@10", "R@1000") or objects, and those of
    eval/own_measures.py; results are kept under their canonical names. Raises ValueError for an unknown measure, for a
    run of other queries, and where a judged document is there twice for a query.
    """
    parsed = [parse(measure) for measure in measures]
    place = places(run, qrels)
    rows = run.docs.rows(qrels.doc_ids)
    judged = judged_results(run, qrels, place, rows)
    others = [measure for measure in parsed if not _is_fast(measure)]
    found = _by_ir_measures(run, qrels, place, rows, others) if others else {}
    for measure in parsed:
        if measure not in found:
            compute = FORMULAS[str(measure.NAME)]
            found[measure] = compute(judged, measure.params.get("cutoff"), measure.params.get("rel", 1))
    values = {str(measure): found[measure] for measure in parsed}
    return Evaluation(tuple(qrels.query_ids), values, counts(judged, place), qrels.judge)


def parse(measure: str | Measure) -> Measure:
    """The measure that a name means: one of ir_measures', or Sufficiency@k, CappedR@k and CappedAP@k.

    Raises ValueError with the nearest names, or with what is wrong with it, or with what must be installed for it.
    """
    import ir_measures

    register()
    try:
        parsed = ir_measures.parse_measure(measure)  # type: ignore[arg-type]  # a Measure stays as it is
    except NameError:
        raise ValueError(f"unknown measure {measure!r}; the nearest are {', '.join(_nearest(str(measure)))}") from None
    except ValueError as error:
        raise ValueError(f"measure {measure!r}: {error}") from None
    if wrong := _missing(parsed) or _invalid(parsed) or _uncomputable(parsed):
        raise ValueError(f"measure {measure!r}: {wrong}")
    return parsed


def _nearest(measure: str) -> Sequence[str]:
    """The names like it, or all."""
    import ir_measures

    name = re.split(r"\W", measure)[0].casefold()
    names = {alias.casefold(): str(one.NAME) for alias, one in ir_measures.measures.registry.items()}
    near = [names[alias] for alias in difflib.get_close_matches(name, names, n=3, cutoff=0.4)]
    return list(dict.fromkeys(near or sorted(names.values())))


def _missing(measure: Measure) -> str | None:
    for parameter, about in measure.SUPPORTED_PARAMS.items():
        if about.required and parameter not in measure.params:
            at = {"cutoff": "@10", "recall": "@0.1"} if parameter == measure.AT_PARAM else {}
            return f"it needs a {parameter}, as in {measure.NAME}{at.get(parameter, f'({parameter}=3)')}"
    return None


def _invalid(measure: Measure) -> str | None:
    try:
        measure.validate_params()
    except AssertionError as error:
        return f"{error}; it takes {', '.join(measure.SUPPORTED_PARAMS)}"
    for parameter in ("cutoff", "rel"):
        if measure.params.get(parameter, 1) < 1:
            return f"{parameter} is at least 1"
    recall = measure.params.get("recall", 0)
    if not 0 <= recall <= 1 or round(recall, 2) != recall:  # trec_eval rounds it without a word
        return "recall is between 0 and 1, with two decimals"
    return None


def _uncomputable(measure: Measure) -> str | None:
    """Why nothing that is installed computes it."""
    if _is_fast(measure):
        return None
    import ir_measures

    providers = ir_measures.DefaultPipeline.providers
    able = [provider for provider in providers if provider.supports(measure)]
    if [provider.NAME for provider in able] == ["pyndeval"]:
        return "it is of subtopics, which these judgements do not have"
    if any(provider.is_available() for provider in able):
        return None
    if able:
        return f"computed by {able[0].NAME}, which is not installed: {able[0].install_instructions()}"
    forms = [str(one) for provider in providers for one in provider.SUPPORTED_MEASURES if one.NAME == measure.NAME]
    return f"nothing computes it in this form; there is {', '.join(forms)}"


def _is_fast(measure: Measure) -> bool:
    """Whether it is computed by one of FORMULAS, which know no parameters but cutoff and rel."""
    known = measure.SUPPORTED_PARAMS
    special = [name for name in measure.params if name not in ("cutoff", "rel")]
    return measure.NAME in FORMULAS and all(measure.params[name] == known[name].default for name in special)


def _by_ir_measures(
    run: Run, qrels: Qrels, places: np.ndarray, rows: np.ndarray, measures: Sequence[Measure]
) -> dict[Measure, np.ndarray]:
    """The measures that are not computed here. Scores are made of ranks, so that every provider follows the one order.

    Queries and documents go by number: some providers write files, and no id may break these.
    """
    import ir_measures

    _refuse_grades(qrels, measures)
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
    plain = [measure for measure in measures if "gains" not in measure.params]
    # each with gains alone: ir_measures 0.4.3 may lend the gains of one to others beside it
    for together in [plain, *([measure] for measure in measures if "gains" in measure.params)]:
        for metric in ir_measures.iter_calc(together, judged, found) if together else ():
            values[metric.measure][int(metric.query_id)] = metric.value
    return values


def _refuse_grades(qrels: Qrels, measures: Sequence[Measure]) -> None:
    """Those that gdeval stops at."""
    import ir_measures

    of_gdeval = [str(measure) for measure in measures if ir_measures.gdeval.supports(measure)]
    highest = int(qrels.grades.max(initial=0))
    if of_gdeval and highest > _GDEVAL:
        raise ValueError(f"{', '.join(of_gdeval)}: gdeval takes grades up to {_GDEVAL}, and there is a {highest}")
