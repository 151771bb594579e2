"""What oracles look at: a measure of each query, from a file of judgements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.locate import on_disk
from retrieval.qrels_file import read_qrels
from retrieval.types import Run

__all__ = ["Judge"]


class Judge:
    """A measure of ir_measures on the judgements in a file, query by query, by rank."""

    def __init__(self, qrels: Path, measure: str):
        """`qrels` may lie below RETRIEVAL_DATA; it is read when first needed. Raises ValueError for the measure."""
        import ir_measures

        try:
            self.measure = ir_measures.parse_measure(measure)
            self.measure.validate_params()
        except (NameError, ValueError, AssertionError) as error:  # the last of a parameter that cannot be
            raise ValueError(f"measure {measure!r} is unknown ({error}): name one such as nDCG@10") from None
        self.qrels = Path(qrels)

    def values(self, run: Run) -> np.ndarray:
        """float64 [queries], 0 for one without judgements or results."""
        import ir_measures

        judged = {query: self._judged[query] for query in run.query_ids if query in self._judged}
        place = {query: number for number, query in enumerate(run.query_ids)}
        ranked = {
            query: {doc: float(-rank) for rank, doc in enumerate(found)}
            for query, found in run.to_dict().items()
            if found and query in judged
        }
        values = np.zeros(len(place))
        for one in ir_measures.iter_calc([self.measure], judged, ranked) if judged else ():
            values[place[one.query_id]] = one.value
        return values

    def refuse_unjudged(self, query_ids: Sequence[str]) -> None:
        """Raises ValueError where none of these queries is judged: the qrels are those of others."""
        if len(query_ids) and not any(query in self._judged for query in query_ids):
            raise ValueError(f"{self.qrels} judges none of the queries, such as {query_ids[0]!r}: take their qrels")

    def provenance(self) -> dict[str, Any]:
        """Plain values, for a manifest, which say that judgements were looked at."""
        return {"oracle": f"{self.measure} on {self.qrels}: it looks at judgements, so it is a bound and no method"}

    @cached_property
    def _judged(self) -> dict[str, dict[str, int]]:
        folder = on_disk(self.qrels.parent, self.qrels.name)
        if folder is None:
            raise FileNotFoundError(f"no qrels {self.qrels}, at that path or below RETRIEVAL_DATA: name the file")
        return read_qrels(folder / self.qrels.name).to_dict()
