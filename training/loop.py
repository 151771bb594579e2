"""transformers' training loop with our batches, gradients, evaluation and records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers.integrations import TensorBoardCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from retrieval.batching import NO_MEMORY
from training.records import WEIGHTS, Records
from training.sharded import fill, launched_sharded, load_optimiser, sharding, whole_optimiser
from training.task import Passes, Task

__all__ = ["Hooks", "Loop"]

STATE = "state.safetensors"


@dataclass(frozen=True)
class Hooks:
    """What is done at a checkpoint besides writing it."""

    evaluate: Callable[[Any], Mapping[str, float]] | None = None  # of the model; in the first process
    refresh: Callable[[Any, int], Any] | None = None  # of model and step: what the task takes; in every process
    refresh_steps: int = 0
    patience: int | None = None  # evaluations without a better one, after which training ends


class Loop(transformers.Trainer):
    """A step is the task's; a checkpoint is weights, optimiser, random numbers and the task's state."""

    def __init__(
        self,
        arguments: transformers.TrainingArguments,
        task: Task,
        records: Records,
        hooks: Hooks,
        tensorboard: Path | None = None,
    ):
        super().__init__(task.module, arguments)
        if launched_sharded() and not self.is_fsdp_enabled:
            raise ValueError("FSDP needs several processes with an accelerator each: launch without it")
        self.task, self.records, self.hooks = task, records, hooks
        self.names: list[str] = []  # of the last batch
        self.of_step: list[str] = []  # of all batches since the last optimiser step
        self.remove_callback(PrinterCallback)
        self.add_callback(_Progress)
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.add_callback(TensorBoardCallback(SummaryWriter(str(tensorboard))))

    def run(self) -> None:
        """Train from the last checkpoint, or from the start, to the end."""
        last = self.records.last()
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.records.rewind(last)
        self.accelerator.wait_for_everyone()
        if last is None and self.hooks.evaluate is not None:
            self._measure()
            self._write(self.records.partial / "checkpoint-0")
            self._publish()
        elif last is not None:
            self._load_from_checkpoint(str(self.records.checkpoint(last)))
        if last:
            self._refresh(last - last % self.hooks.refresh_steps if self.hooks.refresh_steps else 0)
            if self._is_enough():
                return
        if self.is_fsdp_enabled:
            plugin = self.accelerator.state.fsdp_plugin
            self.model = self.model_wrapped = sharding(self.task.module, plugin, self.args.bf16)
        self.train(resume_from_checkpoint=str(self.records.checkpoint(last)) if last else None)

    def get_train_dataloader(self) -> DataLoader:
        """Which items, in order: item i belongs to batch i // size. They are read ahead, and only named here."""
        size = self.task.batch_size
        items: Any = range(self.args.max_steps * self.args.gradient_accumulation_steps * size)

        return self.accelerator.prepare(DataLoader(items, self.args.train_batch_size, collate_fn=_named))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Add the gradients of a batch. Raises FloatingPointError for a loss that is not finite."""
        model.train()
        items, size = inputs["items"].tolist(), self.task.batch_size
        inputs = self.task.collate(items[0] // size, [item % size for item in items])
        self.names = inputs["names"]
        self.of_step += self.names
        share = self.current_gradient_accumulation_steps
        passes = Passes(
            model,
            lambda loss: self.accelerator.backward(loss / share),
            lambda: self.accelerator.no_sync(model),
            self.args.world_size,
            self.args.process_index,
            self.state.global_step,
            self.is_fsdp_enabled,
        )
        try:
            loss = self.task.step(passes, self._prepare_inputs(inputs))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            raise self._advised(error) from error
        self._check_finite("loss", float(loss), self.state.global_step + 1, self.names)
        return loss / share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Record a step."""
        if "loss" not in logs:
            return
        loss, norm, step = logs["loss"], logs["grad_norm"], self.state.global_step
        self._check_finite("gradient norm", norm, step, self.of_step)
        self.of_step = []
        figures = {"loss": loss, "learning_rate": logs["learning_rate"], "gradient_norm": norm}
        if self.args.should_save:
            self.records.write(step=step, **figures)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, figures)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights, as safetensors; weights that are tied once."""
        self._write(Path(output_dir or self.records.partial))

    def _write(self, folder: Path) -> None:
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.task.module, str(folder / WEIGHTS))
            state = dict(self.task.state())
            if state:
                save_file(state, folder / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_model(self.task.module, folder / WEIGHTS)
        if (folder / STATE).is_file():
            self.task.restore(load_file(folder / STATE))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state, schedule = whole_optimiser(self.optimizer), cast(LRScheduler, self.lr_scheduler)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(schedule.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_optimiser(self.optimizer, Path(checkpoint) / OPTIMIZER_NAME)
        state = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
        cast(LRScheduler, self.lr_scheduler).load_state_dict(state)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.is_fsdp_enabled:
            fill(self.task.module, model)
        self._measure()
        super()._save_checkpoint(model, trial)
        self._publish()
        step = self.state.global_step
        if self.hooks.refresh_steps and step % self.hooks.refresh_steps == 0 and step < self.args.max_steps:
            self._refresh(step)
        if self._is_enough():
            self.control.should_training_stop = True

    def _publish(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.records.publish(self.state.global_step)
        self.accelerator.wait_for_everyone()

    def _measure(self) -> None:
        """Evaluate in the first process; what the evaluation draws at random does not reach the training."""
        if self.hooks.evaluate is None or not self.args.should_save:
            return
        figures = {name: float(value) for name, value in self._aside(self.hooks.evaluate).items()}
        self.records.write(step=self.state.global_step, evaluation=figures)
        self.callback_handler.on_log(self.args, self.state, self.control, {f"dev/{k}": v for k, v in figures.items()})

    def _refresh(self, step: int) -> None:
        """Go on with what the model finds now, or found at an earlier step; the first process looks first."""
        if self.hooks.refresh is None or not step:
            return
        with self.args.main_process_first(local=False):
            found = self._aside(lambda model: self.hooks.refresh(model, step))  # type: ignore[misc]
        self.task.take(found)  # type: ignore[attr-defined]

    def _aside(self, look: Callable[[Any], Any]) -> Any:
        module = self.task.module.eval()
        if self.is_fsdp_enabled:
            module.to(self.args.device)
        try:
            with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
                return look(module.model)
        finally:
            if self.is_fsdp_enabled:
                module.to("cpu")

    def _is_enough(self) -> bool:
        """Whether so many evaluations in a row were no better than the best before them."""
        patience = self.hooks.patience
        return patience is not None and self.records.since_best() >= patience

    def _advised(self, error: BaseException) -> BaseException:
        """The same error, or, of one that means that memory ran out, one that says what to do."""
        known = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(w in str(error) for w in NO_MEMORY)
        if not known:
            return error
        batch = f"a batch of {len(self.names)}, such as {', '.join(self.names[:3])}"
        return ValueError(
            f"out of memory at step {self.state.global_step + 1} ({batch}): {self.task.when_out_of_memory}"
        )

    def _check_finite(self, what: str, value: float, step: int, names: Sequence[str]) -> None:
        if not math.isfinite(value):
            listed = ", ".join(names)
            raise FloatingPointError(f"the {what} is {value} at step {step}, in a batch of the queries {listed}")


def _named(items: Sequence[int]) -> dict[str, Tensor]:
    return {"items": torch.tensor(items)}


class _Progress(ProgressCallback):
    """A progress bar that shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.4g}", refresh=False)
