"""Critical n of free embeddings, its time, and that of one problem at a time: `python scripts/bench/critical_n.py`.

The search over d = 4..8 (4 seeds) is timed, then the same problems by the same code one at a time, then the search over
d = 4..10. Bands are where independent code lands with the best of 4 seeds. `--device cuda` times a GPU; `--quick` only
d = 4, 5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from eval.limit import Outcome, solve
from eval.limit_published import TABLE_6
from eval.limit_search import Critical, Wanted, critical_n

BANDS = {4: (8, 10), 5: (13, 15), 6: (18, 21), 7: (23, 28), 8: (27, 32)}
SEEDS = (42, 43, 44, 45)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, seconds, and seconds of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def outcomes(found: list[Critical]) -> list[Outcome]:
    """Of all problems that were tried."""
    return [outcome for one in found for tried in one.tried.values() for outcome in tried]


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    few, all_ = (range(4, 6), range(4, 6)) if asked.quick else (range(4, 9), range(4, 11))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, seeds {', '.join(map(str, SEEDS))}")
    solve([one.problem for one in outcomes(critical_n(Wanted((2,), SEEDS[:1], largest=4), asked.device))], asked.device)

    found, wall, processor = timed(lambda: critical_n(Wanted(tuple(few), SEEDS), asked.device))
    tried = outcomes(found)
    print(
        f"side by side, d = {few[0]}..{few[-1]}: {wall:.1f} s ({processor:.1f} s of processor), {len(tried)} problems"
    )
    alone, apart, own = timed(lambda: [solve([one.problem], asked.device)[0] for one in tried])
    print(f"one at a time, the same problems: {apart:.1f} s ({own:.1f} s of processor)")
    print(f"ratio {apart / wall:.2f} ({own / processor:.2f} of processor)")
    other = sum(one.solved != two.solved for one, two in zip(tried, alone, strict=True))
    print(f"problems with another answer, as rounding sends a descent elsewhere: {other} of {len(tried)}")

    if all_ != few:
        found, wall, processor = timed(lambda: critical_n(Wanted(tuple(all_), SEEDS), asked.device))
        print(f"side by side, d = {all_[0]}..{all_[-1]}: {wall:.1f} s ({processor:.1f} s of processor)")
    for one in found:
        low, high = BANDS.get(one.dimensions, (None, None))
        where = "" if low is None else f", band {low}..{high}: {'inside' if low <= one.n <= high else 'OUTSIDE'}"
        seeds = ", ".join(f"{n}: {count}" for n, count in one.solved.items() if -3 <= n - one.n <= 3)
        print(
            f"d = {one.dimensions}: n = {one.n} (paper {TABLE_6[one.dimensions]}){where}; seeds that solve n: {seeds}"
        )


if __name__ == "__main__":
    main()
