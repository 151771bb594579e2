"""Sufficiency@k: whether all that a query needs is among its first k results (tool retrieval, several hops)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ir_measures import Measure

__all__ = ["sufficiency"]


@cache
def sufficiency() -> Measure:
    """The measure, known to ir_measures by its name from the first call on. QTA and MTRB (SIGIR-AP 2024)."""
    from ir_measures import measures

    class _Sufficiency(measures.Measure):
        """1 where every relevant document is among the first k, else 0; Success@k where one document is relevant."""

        NAME = __name__ = "Sufficiency"
        PRETTY_NAME = "Sufficiency at k"
        SHORT_DESC = "All relevant documents are among the first k."
        SUPPORTED_PARAMS = {
            "cutoff": measures.ParamInfo(dtype=int, required=True, desc="ranking cutoff"),
            "rel": measures.ParamInfo(dtype=int, default=1, desc="minimum grade of a relevant document"),
        }

    made = _Sufficiency()
    measures.register(made, name=made.NAME)
    return made
