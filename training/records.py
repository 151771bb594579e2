"""The folder of a training run: its settings, a line per step, checkpoints, and the model that came of it."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from retrieval.files import whole_file

__all__ = ["WEIGHTS", "Records", "plain"]

WEIGHTS = "model.safetensors"


class Records:
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
        text = json.dumps(settings, indent=2, default=plain)
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

    def since_best(self) -> int:
        """How many evaluations followed the best one."""
        steps = sorted({line["step"] for line in self.read() if "evaluation" in line})
        return 0 if not steps or self.metric is None else len(steps) - 1 - steps.index(self.best()[0])

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

    def steps(self) -> int:
        """The steps that were done."""
        return max(line["step"] for line in self.read())

    def finish(self, step: int, save: Callable[[Any, Path], None], model: Any) -> None:
        """Save the model, and keep of the checkpoints only the weights of this step."""
        if not self.finished:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            save(model, self.partial / "model")
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


def plain(component: Any) -> dict[str, Any]:
    """A component as its recipe has it: type, and the arguments of its constructor."""
    kind = type(component)
    names = [name for name in inspect.signature(kind).parameters if hasattr(component, name)]
    return {"type": f"{kind.__module__}:{kind.__qualname__}"} | {name: getattr(component, name) for name in names}
