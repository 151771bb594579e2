"""Trains what a retriever is made of: an optimiser, its schedule, checkpoints, and the best of them."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
import transformers
from safetensors.torch import load_model
from torch import nn

from retrieval.model_files import choose_device, choose_dtype
from retrieval.protocols import Loss, Regulariser
from training.collections import Groups
from training.loop import Hooks, Loop
from training.ranking import Ranking
from training.records import WEIGHTS, Records, plain
from training.sharded import prepare_launch
from training.task import Task
from training.trainable import PairTrainable, Trainable

__all__ = ["Trainer", "TrainingResult"]

Precision = Literal["auto", "float32", "bfloat16"]

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=Trainable | PairTrainable)


@dataclass(frozen=True)
class TrainingResult:
    """Where the best model is, and how good it was."""

    model: Path
    steps: int
    best_step: int  # 0 is the model as it was handed in
    metrics: Mapping[str, float]  # of the best step; empty without an evaluation


class Trainer:
    """Trains with AdamW, linear warm-up and decay, and gradients clipped to norm 1.

    A step takes `batch_size` queries. `in_batch`, each is scored against the listed passages of all of them (those
    masked as `labels_and_mask` says), else against its own alone, as cross-encoders and margin_mse want it. Queries
    that do not fill a last batch sit out the epoch. `accumulate` batches, each with a loss of its own, make one
    optimiser step. The weights are evaluated at the start, every `eval_steps` steps and at the end, with a checkpoint
    each time; after `patience` evaluations in a row that were no better than the best, training ends. Several
    processes (torchrun, accelerate; FSDP 2, not DeepSpeed) share the queries of a batch, and each sees all passages.

    `past` is how many passages of past batches are further negatives. `chunk_tokens` bounds the padded tokens that are
    held for a gradient (GradCache: the same gradients as without, for about a third more time);
    `checkpoint_activations` holds less of each layer and computes it again. `query_regularisers` and `doc_regularisers`
    are added to the loss, their weight rising over `regulariser_steps` optimiser steps. `refresh_steps` mines the
    negatives anew, with the model as it is then, every so many steps, a multiple of `eval_steps`. `log_to` is where
    losses are shown besides training.jsonl. `precision` auto is bfloat16 where the device computes in it; weights,
    optimiser and loss are float32.
    """

    def __init__(
        self,
        loss: Loss | None = None,
        epochs: float = 1.0,
        steps: int | None = None,  # optimiser steps, instead of epochs
        batch_size: int = 32,
        accumulate: int = 1,
        learning_rate: float = 2e-5,
        warmup_ratio: float = 0.05,
        weight_decay: float = 0.01,
        precision: Precision = "float32",
        eval_steps: int = 500,
        patience: int | None = None,
        in_batch: bool = True,
        past: int = 0,
        chunk_tokens: int | None = None,
        checkpoint_activations: bool = False,
        query_regularisers: list[Regulariser] | None = None,
        doc_regularisers: list[Regulariser] | None = None,
        regulariser_steps: int = 0,
        refresh_steps: int | None = None,
        log_to: list[Literal["tensorboard", "wandb"]] | None = None,
        seed: int = 0,
    ):
        """Only what ranks needs a `loss`."""
        above = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate, "eval_steps": eval_steps}
        given = {"steps": steps, "patience": patience, "chunk_tokens": chunk_tokens, "refresh_steps": refresh_steps}
        for name, value in (above | {name: one for name, one in given.items() if one is not None}).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if not (0 <= warmup_ratio <= 1 and regulariser_steps >= 0):
            raise ValueError(
                f"warmup_ratio is {warmup_ratio} and regulariser_steps {regulariser_steps}; they are a share of the "
                "steps, 0 to 1, and a number of steps, 0 or more"
            )
        if precision not in get_args(Precision):
            raise ValueError(f"there is no precision {precision!r}: choose from {', '.join(get_args(Precision))}")
        for package in log_to or []:
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"log_to {package} needs a package: pip install {package}")
        if refresh_steps and refresh_steps % eval_steps:
            raise ValueError(f"refresh_steps is {refresh_steps}; it must be a multiple of eval_steps, {eval_steps}")
        self.loss = loss
        self.epochs, self.steps, self.batch_size, self.accumulate = epochs, steps, batch_size, accumulate
        self.learning_rate, self.warmup_ratio, self.weight_decay = learning_rate, warmup_ratio, weight_decay
        self.precision, self.eval_steps, self.patience, self.seed = precision, eval_steps, patience, seed
        self.in_batch, self.past, self.chunk_tokens = in_batch, past, chunk_tokens
        self.checkpoint_activations = checkpoint_activations
        self.query_regularisers, self.doc_regularisers = query_regularisers or [], doc_regularisers or []
        self.regulariser_steps, self.refresh_steps, self.log_to = regulariser_steps, refresh_steps, log_to or []

    def train(
        self,
        model: Model,
        groups: Groups,
        folder: Path,
        evaluate: Callable[[Model], Mapping[str, float]] | None = None,
        metric: str | None = None,
        refresh: Callable[[Model, int], Groups] | None = None,
        save: Callable[[Model, Path], None] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> TrainingResult:
        """Train to rank in `folder`, continuing what was begun there; the model then has its best weights and is saved.

        Best is the highest `metric` of what `evaluate` returns, the earliest of equals, or else the last step.
        The folder gets `training.jsonl` (a line per step and per evaluation), `training.json` (the settings) and
        `model/`, by `save` where it is given. `refresh(model, step)` gives the groups to go on with, the same for the
        same step. `about` is what else a run that goes on must have been begun with, such as what `evaluate` looks at.
        Raises ValueError for a folder begun with other settings, data or another model or number of processes, and
        FloatingPointError, with the queries of the batch, for a loss or gradient that is not finite.
        """
        if self.loss is None:
            raise ValueError("training to rank needs a loss: give trainer.loss, such as infonce")
        if (refresh is None) != (self.refresh_steps is None):
            raise ValueError("refresh_steps and what mines anew go together: data has to be of type mined")
        task = Ranking(
            model,
            groups,
            self.loss,
            self.batch_size,
            self.seed,
            self.in_batch,
            self.past,
            self.chunk_tokens,
            self.query_regularisers,
            self.doc_regularisers,
            self.regulariser_steps,
        )
        hooks = Hooks(evaluate, refresh, self.refresh_steps or 0, self.patience)
        return self.run(task, folder, hooks, metric, save, about)

    def run(
        self,
        task: Task,
        folder: Path,
        hooks: Hooks = Hooks(),  # noqa: B008 - frozen
        metric: str | None = None,
        save: Callable[[Any, Path], None] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> TrainingResult:
        """Train on any task, as `train` does on that of ranking."""
        if metric is not None and hooks.evaluate is None:
            raise ValueError(f"the best {metric!r} is wanted, but there is no evaluation that measures it")
        if self.patience and metric is None:
            raise ValueError("patience is counted in evaluations: give dev and its measure")
        prepare_launch()
        model: Any = task.module.model
        if self.checkpoint_activations:
            model.checkpoint_activations()
        records = Records(Path(folder), metric)
        arguments = self._arguments(records, task.per_epoch)
        with arguments.main_process_first(local=False):
            records.begin(
                {
                    "trainer": plain(self),
                    "precision": "bfloat16" if arguments.bf16 else "float32",
                    "processes": arguments.world_size,
                    "model": _fingerprint(model),
                    **task.settings(),
                    "metric": metric,
                    **(about or {}),
                }
            )
        if not records.finished:
            shown = records.folder / "tensorboard" if "tensorboard" in self.log_to and arguments.should_save else None
            Loop(arguments, task, records, hooks, shown).run()
        step, metrics = records.best()
        if step == 0:
            logger.warning("no step had a better %s than the model that training began with", metric)
        load_model(task.module, records.checkpoint(step) / WEIGHTS)
        task.module.eval()
        if arguments.should_save:
            records.finish(step, save or type(model).save, model)
        return TrainingResult(records.model, records.steps(), step, metrics)

    def _arguments(self, records: Records, per_epoch: int) -> transformers.TrainingArguments:
        steps = self.steps or max(1, int(self.epochs * per_epoch / self.accumulate))
        device = choose_device(None)
        half = self.precision if self.precision != "auto" else str(choose_dtype("auto", device)).removeprefix("torch.")
        arguments = transformers.TrainingArguments(
            output_dir=str(records.partial),
            max_steps=steps,
            gradient_accumulation_steps=self.accumulate,
            learning_rate=self.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=math.ceil(self.warmup_ratio * steps),
            weight_decay=self.weight_decay,
            max_grad_norm=1.0,
            bf16=half == "bfloat16",
            use_cpu=not torch.accelerator.is_available(),  # bfloat16 on a CPU has to be asked for so
            seed=self.seed,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_steps=self.eval_steps,
            save_total_limit=None,  # Records deletes them: it knows which is the best
            report_to=[one for one in self.log_to if one != "tensorboard"] or "none",
            run_name=str(records.folder),
            disable_tqdm=True,  # the loop has a bar of its own, which does not print a line a step
            remove_unused_columns=False,
            ddp_timeout=7 * 24 * 3600,  # the others wait while the first process evaluates
        )
        if self.batch_size % arguments.world_size:
            raise ValueError(f"batch_size {self.batch_size} does not divide among {arguments.world_size} processes")
        if arguments.n_gpu > 1:  # one process, one device: DataParallel would take a batch's negatives apart
            arguments._n_gpu = 1
        arguments.per_device_train_batch_size = self.batch_size // arguments.world_size
        return arguments


def _fingerprint(model: nn.Module) -> str:
    """The hash of a model's weights, names and shapes as training begins."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
