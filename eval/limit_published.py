"""What Weller et al. (2025), On the theoretical limitations of embedding-based retrieval (arXiv 2508.21038), report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["FIT", "FULL", "SMALL", "TABLE_6", "TRUNCATED", "Cubic", "Scores", "fit"]

# Critical n of free embeddings by dimension, k = 2, one seed (42).
_COUNTS = (
    "10 14 19 24 28 32 36 42 47 54 62 70 79 89 99 109 120 132 144 157 170 184 198 213 229 245 261 278 296 314 333 352 "
    "372 392 413 434 460 484 505 545 605 626"
)
TABLE_6: Mapping[int, int] = MappingProxyType(dict(enumerate(map(int, _COUNTS.split()), start=4)))


@dataclass(frozen=True)
class Cubic:
    """n of a dimension, by a polynomial of the third degree."""

    coefficients: tuple[float, ...]  # of 1, d, d^2, d^3
    r2: float  # the share of the variance that it explains

    def __call__(self, dimensions: np.ndarray) -> np.ndarray:
        """The n that it expects of each, not rounded."""
        return np.asarray(np.polynomial.polynomial.polyval(dimensions, self.coefficients))


FIT = Cubic((-10.5322, 4.0309, 0.0520, 0.0037), 0.999)  # as printed


def fit(critical: Mapping[int, int]) -> Cubic:
    """The cubic of least squares through n by dimension. Raises ValueError for fewer than four dimensions."""
    if len(critical) < 4:
        raise ValueError(f"{len(critical)} dimensions determine no cubic; give four or more")
    dimensions, counts = np.array(list(critical), float), np.array(list(critical.values()), float)
    found = np.polynomial.Polynomial.fit(dimensions, counts, 3).convert()
    left = ((counts - found(dimensions)) ** 2).sum()
    whole = ((counts - counts.mean()) ** 2).sum()
    return Cubic(tuple(found.coef.tolist()), float(1 - left / whole))


@dataclass(frozen=True)
class Scores:
    """Recalls of a system."""

    dimensions: int | None  # of its one vector a text; None where it has none, or many
    recall: Mapping[str, float]


def _recall(*values: float, depths: tuple[int, ...]) -> dict[str, float]:
    return {f"R@{depth}": value / 100 for depth, value in zip(depths, values, strict=True)}


def _rows(depths: tuple[int, ...], rows: Mapping[str, tuple[int | None, tuple[float, ...]]]) -> dict[str, Scores]:
    return {name: Scores(wide, _recall(*values, depths=depths)) for name, (wide, values) in rows.items()}


# LIMIT, every model with all its dimensions.
FULL = _rows(
    (2, 10, 100),
    {
        "E5-Mistral": (4096, (1.3, 2.2, 8.3)),
        "Snowflake Arctic L": (1024, (0.4, 0.8, 3.3)),
        "GritLM": (4096, (2.4, 4.1, 12.9)),
        "Promptriever": (4096, (3.0, 6.8, 18.9)),
        "Qwen3 Embed": (4096, (0.8, 1.8, 4.8)),
        "Gemini": (3072, (1.6, 3.5, 10.0)),
        "GTE-ModernColBERT": (None, (23.1, 34.6, 54.8)),
        "BM25": (None, (85.7, 90.4, 93.6)),
    },
)

# LIMIT-small, the 46 documents.
SMALL = _rows(
    (2, 10, 20),
    {
        "E5-Mistral": (4096, (29.5, 68.1, 85.2)),
        "Snowflake Arctic L": (1024, (19.4, 54.9, 76.0)),
        "GritLM": (4096, (38.4, 75.4, 90.5)),
        "Promptriever": (4096, (54.3, 90.0, 97.7)),
        "Qwen3 Embed": (4096, (19.0, 52.3, 73.8)),
        "Gemini": (3072, (33.7, 72.4, 87.9)),
        "GTE-ModernColBERT": (None, (83.5, 97.6, 99.1)),
        "BM25": (None, (97.8, 100.0, 100.0)),
    },
)

# R@100 on LIMIT of the first so many dimensions.
_WIDTHS = (32, 64, 128, 256, 512, 768, 1024, 2048, 3072)


def _curve(*values: float | None) -> dict[int, float]:
    return {width: value / 100 for width, value in zip(_WIDTHS, values, strict=False) if value is not None}


TRUNCATED: Mapping[str, Mapping[int, float]] = {
    "E5-Mistral": _curve(0.5, 0.4, 1.0, 1.9, 3.8, 4.3, 5.9, 6.8, 7.7),
    "Snowflake Arctic L": _curve(0.6, 1.7, 1.8, 2.5, 2.5, 3.1, 3.3),
    "GritLM": _curve(0.8, 0.3, 1.3, 2.8, 6.5, 8.7, 10.6, 11.8),
    "Promptriever": _curve(0.1, 0.3, 0.6, 1.8, 5.4, 8.7, 12.8, 18.1, 17.8),
    "Qwen3 Embed": _curve(1.1, 1.0, 1.8, 3.2, 3.3, 3.8, 4.6, 4.7),
    "Gemini": _curve(None, 0.3, 0.3, 1.2, 3.6, 7.6, 8.1, 8.5, 10.0),
}
