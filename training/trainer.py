"""The training loop: transformers' Trainer on groups of a query and its passages, with in-batch negatives."""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
import torch
import transformers
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from retrieval.files import whole_file
from retrieval.protocols import Loss
from training.collections import Batches, Groups, labels_and_mask

__all__ = ["Trainable", "Trainer", "TrainingResult"]

Precision = Literal["float32", "bfloat16"]
WEIGHTS = "model.safetensors"

logger = logging.getLogger(__name__)


class Trainable(Protocol):
    """The trainable face of an encoder: a torch module that maps a tokenised batch to float [texts, dimensions]."""

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of queries, prompts and truncation applied."""

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of documents, prompts and truncation applied."""

    def save(self, folder: Path) -> None:
        """Write the model into a new folder."""


Model = TypeVar("Model", bound=Trainable)


@dataclass(frozen=True)
class TrainingResult:
    """Where the best model is, and how good it was."""

    model: Path
    steps: int
    best_step: int  # 0 is the model as it was handed in
    metrics: Mapping[str, float]  # of the best step; empty without an evaluation


class Trainer:
    """Trains an encoder with AdamW, linear warm-up and decay, and gradients clipped to norm 1.

    A step takes `batch_size` queries; each is scored against the listed passages of all of them (those masked as
    `labels_and_mask` says). Queries that do not fill a last batch sit out the epoch. `accumulate` batches, each with a
    loss of its own, make one optimiser step. The weights are evaluated at the start, every `eval_steps` steps
    and at the end, with a checkpoint each time. Several processes (torchrun, accelerate) share the queries of a batch.
    """

    def __init__(
        self,
        loss: Loss,
        epochs: float = 1.0,
        steps: int | None = None,  # optimiser steps, instead of epochs
        batch_size: int = 32,
        accumulate: int = 1,
        learning_rate: float = 2e-5,
        warmup_ratio: float = 0.05,
        weight_decay: float = 0.01,
        precision: Precision = "float32",
        eval_steps: int = 500,
        seed: int = 0,
    ):
        sizes = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate, "eval_steps": eval_steps}
        for name, value in (sizes | {"steps": 1 if steps is None else steps}).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if precision not in get_args(Precision):
            raise ValueError(f"there is no precision {precision!r}: choose from {', '.join(get_args(Precision))}")
        self.loss = loss
        self.epochs, self.steps, self.batch_size, self.accumulate = epochs, steps, batch_size, accumulate
        self.learning_rate, self.warmup_ratio, self.weight_decay = learning_rate, warmup_ratio, weight_decay
        self.precision, self.eval_steps, self.seed = precision, eval_steps, seed

    def train(
        self,
        model: Model,
        groups: Groups,
        folder: Path,
        evaluate: Callable[[Model], Mapping[str, float]] | None = None,
        metric: str | None = None,
    ) -> TrainingResult:
        """Train in `folder`, continuing what was begun there; the model then has its best weights and is saved.

        Best is the highest `metric` of what `evaluate` returns, the earliest of equals, or else the last step.
        The folder gets `training.jsonl` (a line per step and per evaluation), `training.json` (the settings) and
        `model/`. Raises ValueError for a folder begun with other settings, and FloatingPointError, with the
        queries of the batch, for a loss or gradient that is not finite.
        """
        if metric is not None and evaluate is None:
            raise ValueError(f"the best {metric!r} is wanted, but there is no evaluation that measures it")
        batches = Batches(groups, self.batch_size, self.seed)
        records = _Records(Path(folder), metric)
        arguments = self._arguments(records, batches.per_epoch)
        with arguments.main_process_first(local=False):
            records.begin({"trainer": _plain(self), "groups": groups.settings(), "metric": metric})
        pair = _Pair(cast(nn.Module, model))
        if not records.finished:
            _Loop(arguments, pair, batches, self.loss, records, evaluate).run()
        step, metrics = records.best()
        if step == 0:
            logger.warning("no step had a better %s than the model that training began with", metric)
        load_model(pair, records.checkpoint(step) / WEIGHTS)
        pair.eval()
        if arguments.should_save:
            records.finish(model, step)
        return TrainingResult(records.model, arguments.max_steps, step, metrics)

    def _arguments(self, records: _Records, per_epoch: int) -> transformers.TrainingArguments:
        steps = self.steps or max(1, int(self.epochs * per_epoch / self.accumulate))
        arguments = transformers.TrainingArguments(
            output_dir=str(records.partial),
            max_steps=steps,
            gradient_accumulation_steps=self.accumulate,
            learning_rate=self.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=math.ceil(self.warmup_ratio * steps),
            weight_decay=self.weight_decay,
            max_grad_norm=1.0,
            bf16=self.precision == "bfloat16",
            use_cpu=not torch.accelerator.is_available(),  # bfloat16 on a CPU has to be asked for so
            seed=self.seed,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_steps=self.eval_steps,
            save_total_limit=None,  # _Records deletes them: it knows which is the best
            report_to="none",
            disable_tqdm=True,  # _Progress instead, which does not print a line a step
            remove_unused_columns=False,
            ddp_timeout=7 * 24 * 3600,  # the others wait while the first process evaluates
        )
        if self.batch_size % arguments.world_size:
            raise ValueError(f"batch_size {self.batch_size} does not divide among {arguments.world_size} processes")
        if arguments.n_gpu > 1:  # one process, one device: DataParallel would take a batch's negatives apart
            arguments._n_gpu = 1
        arguments.per_device_train_batch_size = self.batch_size // arguments.world_size
        return arguments


class _Pair(nn.Module):
    """One forward pass for queries and documents, as data parallelism wants it."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, queries: dict[str, Tensor], docs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.encoder(queries), self.encoder(docs)


class _Loop(transformers.Trainer):
    """transformers' loop with our batches, loss, evaluation and records."""

    def __init__(
        self,
        arguments: transformers.TrainingArguments,
        pair: _Pair,
        batches: Batches,
        loss: Loss,
        records: _Records,
        evaluate: Callable[[Any], Mapping[str, float]] | None,
    ):
        super().__init__(pair, arguments)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("FSDP and DeepSpeed are not supported here: launch with plain data parallelism")
        self.pair, self.batches, self.loss, self.records, self.dev = pair, batches, loss, records, evaluate
        self.query_ids: list[str] = []
        self.remove_callback(PrinterCallback)
        self.add_callback(_Progress)

    def run(self) -> None:
        """Train from the last checkpoint, or from the start, to the end."""
        last = self.records.last()
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.records.rewind(last)
        if last is None and self.dev is not None:
            self._measure()
            self.save_model(str(self.records.partial / "checkpoint-0"))
            self._publish()
        elif last == 0:
            self._load_from_checkpoint(str(self.records.checkpoint(0)))
        self.train(resume_from_checkpoint=str(self.records.checkpoint(last)) if last else None)

    def get_train_dataloader(self) -> DataLoader:
        """The batches, in order: item i belongs to batch i // size."""
        items: Any = range(self.args.max_steps * self.args.gradient_accumulation_steps * self.batches.size)
        return self.accelerator.prepare(DataLoader(items, self.args.train_batch_size, collate_fn=self.collate))

    def collate(self, items: Sequence[int]) -> dict[str, Any]:
        """This process's queries and passages, tokenised; labels and mask of the whole batch."""
        batch = self.batches[items[0] // self.batches.size]
        own = [batch[item % self.batches.size] for item in items]
        texts = self.batches.groups.corpus.texts(np.concatenate([group["rows"] for group in own]))
        model = cast(Trainable, self.pair.encoder)
        return {
            "queries": model.tokenize_queries([group["query"] for group in own]),
            "docs": model.tokenize_docs(texts),
            "labels_and_mask": [torch.from_numpy(array) for array in labels_and_mask(batch)],
            "query_ids": [group["query_id"] for group in batch],
        }

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the whole batch, in every process."""
        queries, docs = (self._gather(vectors) for vectors in model(inputs["queries"], inputs["docs"]))
        loss = self.loss(queries @ docs.T, *inputs["labels_and_mask"])
        self.query_ids = inputs["query_ids"]
        self._check_finite("loss", float(loss.detach()), self.state.global_step + 1)
        # The gradient reaches only this process's vectors, and is then averaged over processes.
        return loss * self.args.world_size

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Record a step."""
        if "loss" not in logs:
            return
        loss, norm, step = logs["loss"] / self.args.world_size, logs["grad_norm"], self.state.global_step
        self._check_finite("gradient norm", norm, step)
        if self.args.should_save:
            self.records.write(step=step, loss=loss, learning_rate=logs["learning_rate"], gradient_norm=norm)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, {"loss": loss})

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights, as safetensors; weights that are tied once."""
        folder = Path(output_dir or self.records.partial)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.pair, str(folder / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(self.pair, Path(resume_from_checkpoint) / WEIGHTS)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._measure()
        super()._save_checkpoint(model, trial)
        self._publish()

    def _publish(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.records.publish(self.state.global_step)
        self.accelerator.wait_for_everyone()

    def _measure(self) -> None:
        """Evaluate in the first process; what the evaluation draws at random does not reach the training."""
        if self.dev is None or not self.args.should_save:
            return
        self.pair.eval()
        with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
            metrics = {name: float(value) for name, value in self.dev(self.pair.encoder).items()}
        self.records.write(step=self.state.global_step, evaluation=metrics)

    def _gather(self, vectors: Tensor) -> Tensor:
        """At least float32 vectors of all processes; those of this one keep their gradient."""
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32)).contiguous()
        if self.args.world_size == 1:
            return vectors
        parts = [torch.empty_like(vectors) for _ in range(self.args.world_size)]
        torch.distributed.all_gather(parts, vectors.detach())
        parts[self.args.process_index] = vectors
        return torch.cat(parts)

    def _check_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            queries = ", ".join(self.query_ids)
            raise FloatingPointError(f"the {what} is {value} at step {step}, in a batch of the queries {queries}")


class _Progress(ProgressCallback):
    """A progress bar that shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is not None and logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.4g}", refresh=False)


class _Records:
    """The folder of a run. A checkpoint and the model are there whole or not at all."""

    def __init__(self, folder: Path, metric: str | None):
        self.folder, self.metric = folder, metric
        self.model, self.lines = folder / "model", folder / "training.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.partial = self.checkpoints / "partial"

    @property
    def finished(self) -> bool:
        """Whether the best model is saved."""
        return self.model.is_dir()

    def begin(self, settings: dict[str, Any]) -> None:
        """Note the settings of a new run; raises ValueError where the folder holds a run with other ones."""
        path = self.folder / "training.json"
        text = json.dumps(settings, indent=2, default=_plain)
        if not path.is_file():
            with whole_file(path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        old, new = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
        if old != new:
            then, now = ([line.strip(" ,") for line in a if line not in b] for a, b in ((old, new), (new, old)))
            raise ValueError(
                f"{self.folder} holds a run with other settings ({', '.join(then)}; now {', '.join(now)}): "
                "use another folder, or delete this one"
            )

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.checkpoints / f"checkpoint-{step}"

    def last(self) -> int | None:
        """The step of the newest checkpoint to continue from."""
        return max(self._steps(), default=None)

    def best(self) -> tuple[int, dict[str, float]]:
        """Step and figures of the best evaluation; without a metric, of the last step."""
        lines = list(self.read())
        evaluations = {line["step"]: line["evaluation"] for line in lines if "evaluation" in line}
        if self.metric is None:
            return lines[-1]["step"], evaluations.get(lines[-1]["step"], {})
        step = max(evaluations, key=lambda step: (evaluations[step][self.metric], -step))
        return step, evaluations[step]

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines of training.jsonl, but for a last one that was not written to its end."""
        if self.lines.is_file():
            with self.lines.open(encoding="utf-8") as file:
                yield from (json.loads(line) for line in file if line.endswith("\n"))

    def write(self, **line: Any) -> None:
        """Add a line. Raises ValueError for an evaluation without a finite figure for the metric."""
        if "evaluation" in line and self.metric is not None:
            figures = line["evaluation"]
            if not math.isfinite(figures.get(self.metric, math.nan)):
                raise ValueError(f"the best {self.metric!r} is wanted, and the evaluation gave {figures}")
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int | None) -> None:
        """Go back to a checkpoint (None: to the start): drop the lines after it, and what was half written."""
        kept = [] if step is None else [line for line in self.read() if line["step"] <= step]
        with whole_file(self.lines) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        shutil.rmtree(self.partial, ignore_errors=True)

    def publish(self, step: int) -> None:
        """Put a written checkpoint in its place; of the others only the best stays."""
        os.replace(self.partial / f"checkpoint-{step}", self.checkpoint(step))
        for other in self._steps() - {step, self.best()[0]}:
            shutil.rmtree(self.checkpoint(other))

    def finish(self, model: Trainable, step: int) -> None:
        """Save the model, and keep of the checkpoints only the weights of this step."""
        if not self.finished:
            shutil.rmtree(self.partial, ignore_errors=True)
            model.save(self.partial / "model")
            os.replace(self.partial / "model", self.model)
        shutil.rmtree(self.partial, ignore_errors=True)
        for other in self._steps() - {step}:
            shutil.rmtree(self.checkpoint(other))
        for path in self.checkpoint(step).iterdir():
            if path.name != WEIGHTS:
                path.unlink()

    def _steps(self) -> set[int]:
        found = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in self.checkpoints.glob("checkpoint-*"))
        return {int(match[1]) for match in found if match}


def _plain(component: Any) -> dict[str, Any]:
    """A component as its recipe has it: type, and the arguments of its constructor."""
    kind = type(component)
    names = [name for name in inspect.signature(kind).parameters if hasattr(component, name)]
    return {"type": f"{kind.__module__}:{kind.__qualname__}"} | {name: getattr(component, name) for name in names}
