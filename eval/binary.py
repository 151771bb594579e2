"""Graded judgements for some measures, binary ones for others, as CRUMB's papers have both."""

from __future__ import annotations

from collections.abc import Sequence

from eval.measures import Evaluation, evaluate, parse
from retrieval.judgements import refuse_two_judges
from retrieval.types import Qrels, Run

__all__ = ["BINARY", "evaluate_both"]

BINARY = ("P", "R", "RR")  # by ir_measures' names


def evaluate_both(run: Run, graded: Qrels, binary: Qrels, measures: Sequence[str]) -> Evaluation:
    """P, R and RR by the binary judgements, all else by the graded ones; counts are those of the graded.

    A query that only the graded judgements have counts with 0. Raises ValueError for one that only the binary have.
    """
    refuse_two_judges([graded.judge, binary.judge])
    alone = set(binary.query_ids) - set(graded.query_ids)
    if alone:
        raise ValueError(f"{len(alone)} queries have binary judgements and no graded ones, such as {min(alone)!r}")
    judged = binary.to_dict()
    completed = Qrels.from_dict({query: judged.get(query, {}) for query in graded.query_ids})
    parsed = [parse(measure) for measure in measures]
    two = [one for one in parsed if str(one.NAME) in BINARY]
    found = evaluate(run, graded, [one for one in parsed if one not in two] or ["nDCG"])
    values = {**found.values, **evaluate(run, completed, two).values} if two else found.values
    return Evaluation(found.query_ids, {str(one): values[str(one)] for one in parsed}, found.counts, found.judge)
