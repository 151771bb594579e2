"""Pre-train an encoder on the documents of a collection: `python -m retrieval.pretrain configs/x.yaml`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.cli import run
from retrieval.composed import settings
from retrieval.corpus import Corpus
from retrieval.environment import is_first_process
from retrieval.files import digest
from retrieval.protocols import Dataset, Encoder, Objective

if TYPE_CHECKING:
    from training.trainer import Trainer

__all__ = ["pretrain"]

RANKING = {
    "loss": None,
    "in_batch": True,
    "past": 0,
    "chunk_tokens": None,
    "regulariser_steps": 0,
    "refresh_steps": None,
    "patience": None,
}


def pretrain(
    dataset: Dataset,
    encoder: Encoder,
    objective: Objective,
    trainer: Trainer,
    held_out: int = 200,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Train an encoder with an objective's head, which is left behind; retrieval.train goes on from OUT/model.

    Batches are of documents; no query and no judgement is read. The loss of `held_out` documents is measured at the
    start, every `eval_steps` and at the end (OUT/training.jsonl); the model is that of the last step.
    """
    if out is None:
        raise ValueError("pre-training needs a folder: give out")
    if not hasattr(encoder, "trainable"):
        raise ValueError(f"{type(encoder).__name__} cannot be trained: it has no trainable()")
    odd = [name for name, without in RANKING.items() if getattr(trainer, name) != without]
    odd += [name for name in ("query_regularisers", "doc_regularisers") if getattr(trainer, name)]
    if odd:
        raise ValueError(f"trainer.{odd[0]} is of training to rank, or by a measure of it: leave it out here")
    from training.loop import Hooks
    from training.reconstruction import Reconstruction

    corpus = dataset.open().corpus
    kept, tested = _parted(corpus, held_out, seed)
    head = objective.head(encoder.trainable())
    task = Reconstruction(head, kept, settings(objective), trainer.batch_size, seed)
    evaluate = _loss_of(head, corpus.texts(tested), trainer.batch_size, seed)
    done = trainer.run(task, out, Hooks(evaluate=evaluate))
    return _report(out, len(task.rows), done.steps) if is_first_process() else {}


@dataclass
class _Some:
    """Some documents of a corpus, as Passages."""

    corpus: Corpus
    rows: np.ndarray  # int64
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return self.corpus.texts(self.rows[np.asarray(rows)])


def _parted(corpus: Corpus, held_out: int, seed: int) -> tuple[_Some, np.ndarray]:
    """The documents to train on, and rows of those held out."""
    if not 1 <= held_out < len(corpus):
        raise ValueError(
            f"held_out is {held_out}, of {len(corpus)} documents: give at least 1, and leave some to train"
        )
    order = np.random.default_rng(seed).permutation(len(corpus))
    kept = _Some(corpus, np.sort(order[held_out:]), digest([corpus.fingerprint, held_out, seed]))
    return kept, np.sort(order[:held_out])


def _loss_of(head: Any, texts: Sequence[str], batch_size: int, seed: int) -> Callable[[Any], Mapping[str, float]]:
    """A function that gives a head's loss on these texts, the same tokens hidden each time, mean over batches."""
    batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]

    def measured(_: Any) -> Mapping[str, float]:
        import torch

        device, losses = next(head.parameters()).device, []
        with torch.inference_mode():
            for number, batch in enumerate(batches):
                read = head.batch(batch, np.random.default_rng([seed, number]))
                losses.append(float(head({name: value.to(device) for name, value in read.items()})))
        return {"loss": float(np.mean(losses))}

    return measured


def _report(out: Path, documents: int, steps: int) -> dict[str, Any]:
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["evaluation"]["loss"] for line in lines if "evaluation" in line]
    found = {"documents": documents, "steps": steps, "held-out loss before": losses[0], "held-out loss": losses[-1]}
    for what, value in found.items():
        print(f"{what}: {value:.4f}" if isinstance(value, float) else f"{what}: {value}")
    print(f"model: {out / 'model'}")
    return found


if __name__ == "__main__":
    run(pretrain)
