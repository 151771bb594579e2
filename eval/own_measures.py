"""Measures that ir_measures lacks, made known to it by name: Sufficiency@k, CappedR@k (R_cap@k) and CappedAP@k."""

from __future__ import annotations

from functools import cache

__all__ = ["register"]

_ABOUT = {  # name: what it is, and the names it has elsewhere
    "Sufficiency": ("1 where every relevant document is among the first k, else 0. QTA and MTRB (SIGIR-AP 2024).", []),
    "CappedR": ("Relevant documents among the first k over min(R, k): BEIR's capped recall, R_cap@k.", ["R_cap"]),
    "CappedAP": ("Sum of precision at each relevant rank up to k over min(R, k): INQUIRE's AP@k.", []),
}


@cache
def register() -> None:
    """Put them into ir_measures' registry, once; each has a required cutoff and takes rel, the least relevant grade."""
    from ir_measures import measures

    for name, (about, aliases) in _ABOUT.items():
        more = {
            "NAME": name,
            "__name__": name,
            "PRETTY_NAME": f"{name} at k",
            "SHORT_DESC": about,
            "SUPPORTED_PARAMS": {
                "cutoff": measures.ParamInfo(dtype=int, required=True, desc="ranking cutoff"),
                "rel": measures.ParamInfo(dtype=int, default=1, desc="minimum grade of a relevant document"),
            },
        }
        measures.register(type(f"_{name}", (measures.Measure,), more)(), aliases, name)
