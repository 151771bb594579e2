"""What is wrong with an encoder, from a few documents before many are encoded: NaN, collapse, norms, cut texts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.files import whole_file
from retrieval.types import Dense

__all__ = ["Health", "OnFault", "drift", "faults", "keep", "kept", "measure", "report"]

log = logging.getLogger(__name__)

OnFault = Literal["stop", "warn"]
COLLAPSED = 0.999  # mean pairwise cosine: all texts have about the same vector
NARROW = 0.95  # that from which it is worth a word
DRIFT = 0.25  # of the mean norm of a shard, relative to that of the first documents
CUT = 0.5  # share of the texts that are truncated


@dataclass(frozen=True)
class Health:
    """Figures of the first documents, spread over the corpus."""

    texts: int
    cosine: float  # mean over all pairs of different vectors; of a random direction about 0, of a collapsed encoder 1
    norm: float  # mean length
    spread: float  # standard deviation of the length, relative to it
    truncated: float  # share of texts that were longer than the encoder takes
    zero: int  # zero vectors, such as those of texts without tokens


def measure(found: Dense) -> Health:
    """The figures of these vectors. Raises ValueError for NaN and infinity."""
    vectors = np.unique(found.vectors.astype(np.float64), axis=0)  # equal texts say nothing of a collapse
    if not np.isfinite(vectors).all():
        raise ValueError(f"the encoder gives NaN or infinity for {_broken(found.vectors)} of {len(found)} texts")
    norms = np.linalg.norm(found.vectors.astype(np.float64), axis=1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = (vectors / np.where(lengths == 0, 1, lengths))[lengths[:, 0] > 0]
    pairs = len(units) * (len(units) - 1)
    cosine = float((np.square(units.sum(axis=0)).sum() - len(units)) / pairs) if pairs else 0.0
    mean = float(norms.mean()) if len(norms) else 0.0
    spread = float(norms.std() / mean) if mean else 0.0
    share = found.truncated / max(len(found), 1)
    return Health(len(found), cosine, mean, spread, share, int(np.count_nonzero(norms == 0)))


def faults(health: Health, contract: Mapping[str, Any]) -> list[str]:
    """What no usable encoder does, each with its figure."""
    found = []
    if health.texts > 1 and health.cosine > COLLAPSED:
        found.append(
            f"the vectors have collapsed: the mean cosine of {health.texts} texts is {health.cosine:.5f} "
            f"(more than {COLLAPSED}): pooling, prompt, or dtype may be wrong"
        )
    if health.texts and health.zero == health.texts:
        found.append(f"all of {health.texts} texts have the zero vector")
    elif contract.get("normalize") and health.spread > 0.02 and not health.zero:
        found.append(f"vectors that should have length 1 differ in it by {health.spread:.1%} (mean {health.norm:.3f})")
    return found


def report(health: Health, contract: Mapping[str, Any], on_fault: OnFault) -> None:
    """Warn of what is strange. Raises ValueError for faults, unless it is told to warn of these too."""
    found = faults(health, contract)
    if found and on_fault == "stop":
        raise ValueError(f"{'; '.join(found)}; health=warn goes on all the same")
    for fault in found:
        log.warning("%s", fault)
    if not found and health.cosine > NARROW:
        log.warning("the mean cosine of %d texts is %.3f: the vectors are close together", health.texts, health.cosine)
    if health.truncated > CUT:
        log.warning("%.0f %% of %d texts are cut at max_length", 100 * health.truncated, health.texts)


def keep(health: Health, folder: Path) -> None:
    """Write the figures beside the vectors."""
    with whole_file(folder / "health.json") as part:
        part.write_text(json.dumps(asdict(health), indent=2), encoding="utf-8")


def kept(folder: Path) -> dict[str, Any] | None:
    """The figures beside the vectors; None where there are none, as for sparse vectors."""
    path = folder / "health.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def drift(norm: float, health: Health, shard: str) -> None:
    """Warn of a shard whose mean norm is far from that of the first documents."""
    if health.norm and abs(norm - health.norm) > DRIFT * health.norm:
        log.warning("%s: the mean norm is %.4g, that of the first documents was %.4g", shard, norm, health.norm)


def _broken(vectors: np.ndarray) -> int:
    return int(np.count_nonzero(~np.isfinite(vectors).all(axis=1)))
