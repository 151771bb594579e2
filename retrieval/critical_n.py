"""How many documents free embeddings can tell apart: `python -m retrieval.critical_n configs/limit/critical-n.yaml`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.limit import Descent, Outcome, Pattern, Problem
from eval.limit_published import TABLE_6, fit
from eval.limit_report import draw_critical, is_papers, print_critical
from eval.limit_search import Critical, Wanted
from eval.limit_search import critical_n as search
from retrieval.cli import run

__all__ = ["critical_n"]


def critical_n(
    dimensions: list[int],
    seeds: list[int],
    k: int = 2,
    pattern: Pattern = "dense",
    queries: int | None = None,
    largest: int = 2048,
    device: str | None = None,
    descent: Descent = Descent(),
    out: Path | None = None,
) -> dict[str, Any]:
    """Search the critical n of each dimension: the largest n of which the best seed ranks all queries' k first.

    Free embeddings of Weller et al. (2025): vectors optimised on the judgements themselves. Prints a table and draws
    OUT/critical_n.png and .svg, beside the paper's Table 6 and its fit. Every problem that ended is a line of
    OUT/problems.jsonl, and is not solved again. `queries` is for pattern=random. No n above `largest` is tried.
    """
    wanted = Wanted(tuple(dimensions), tuple(seeds), k, pattern, queries, largest)
    kept = out / "problems.jsonl" if out else None
    if out:
        out.mkdir(parents=True, exist_ok=True)
    known = _read(kept) if kept else []

    def keep(outcome: Outcome) -> None:
        if kept:
            with open(kept, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

    found = search(wanted, device, descent, known, keep)
    print_critical(found, wanted)
    if out:
        for path in draw_critical(found, wanted, out):
            print(f"picture: {path}")
    return _figures(found, wanted)


def _read(path: Path) -> list[Outcome]:
    """What ended before; a last line that a kill cut short is taken off, so that the next begins a line of its own."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
        whole = whole[: whole.rfind(b"\n") + 1]
        path.write_bytes(whole)
    rows = [json.loads(line) for line in whole.splitlines()]
    return [Outcome(**row | {"problem": Problem(**row["problem"])}) for row in rows]


def _figures(found: list[Critical], wanted: Wanted) -> dict[str, Any]:
    published = {str(one.dimensions): TABLE_6[one.dimensions] for one in found if one.dimensions in TABLE_6}
    cubic = fit(TABLE_6)
    return {
        "critical n": {str(one.dimensions): one.n for one in found},
        "critical n by seed": {str(one.dimensions): {str(s): n for s, n in one.by_seed.items()} for one in found},
        "seeds that solve n": {str(one.dimensions): {str(n): s for n, s in one.solved.items()} for one in found},
        **({"paper": published, "fit to the paper": asdict(cubic)} if is_papers(wanted) else {}),
    }


if __name__ == "__main__":
    run(critical_n)
