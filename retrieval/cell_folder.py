"""What one system retrieved on one task, and what that scored, in a folder that is finished or not there."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.measures import Evaluation
from retrieval.files import whole_file
from retrieval.manifest import Manifest, earlier
from retrieval.run_file import read_run, write_run
from retrieval.types import Run

__all__ = ["CellFolder", "Scored"]

FIGURES, RUN, VERB = "cell.json", "run.parquet", "suite cell"


@dataclass(frozen=True, eq=False)
class Scored:
    """What a system scored on a task, what it cost, and what was counted on the way."""

    evaluation: Evaluation
    cost: Mapping[str, float]
    counts: Mapping[str, int]
    looks: Mapping[str, Any]  # at the test set so far, as retrieval.looks counted when it was evaluated last


@dataclass(frozen=True)
class CellFolder:
    """The folder OUT/<system>/<task>: run.parquet, cell.json (figures, also query by query), and manifest.json.

    The manifest is written first and says that it is finished last: a cell that was interrupted is made again.
    """

    folder: Path
    made_of: dict[str, Any]  # plain values on which its results depend

    def finished(self) -> bool:
        """Whether its results are there. Raises ValueError where they are of another retriever or of other data."""
        before = self._before()
        return before is not None and before["status"] == "finished"

    @contextmanager
    def attempt(self) -> Iterator[Manifest]:
        """A manifest that begins now, for the block to finish; where the block fails, it says why."""
        manifest = Manifest.start(self.folder, VERB, self.made_of, shlex.join(sys.orig_argv), before=self._before())
        try:
            yield manifest
        except BaseException as error:
            manifest.fail(error)
            raise

    def write_run(self, run: Run) -> None:
        """What was retrieved."""
        write_run(run, self.folder / RUN)

    def run(self, query_ids: Sequence[str]) -> Run:
        """What was retrieved."""
        return read_run(self.folder / RUN, query_ids)

    def write(self, scored: Scored) -> None:
        """The figures, query by query and as means."""
        about = {
            "mean": scored.evaluation.mean,
            "counts": {**scored.evaluation.counts, **scored.counts},
            "cost": dict(scored.cost),
            "of retrieving": list(scored.counts),
            "looks": dict(scored.looks),
            "queries": list(scored.evaluation.query_ids),
            "values": {measure: values.tolist() for measure, values in scored.evaluation.values.items()},
            "judge": scored.evaluation.judge,
        }
        with whole_file(self.folder / FIGURES) as part:
            part.write_text(json.dumps(about, ensure_ascii=False) + "\n", encoding="utf-8")

    def read(self) -> Scored:
        """The figures of a finished cell, to the last digit. Raises ValueError where the file is damaged."""
        path = self.folder / FIGURES
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            values = {measure: np.array(one, np.float64) for measure, one in about["values"].items()}
            own = {what: about["counts"][what] for what in about["of retrieving"]}
            counts = {what: count for what, count in about["counts"].items() if what not in own}
            evaluation = Evaluation(tuple(about["queries"]), values, counts, about.get("judge"))
            return Scored(evaluation, about["cost"], own, about["looks"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); delete {self.folder}") from None

    def _before(self) -> dict[str, Any] | None:
        return earlier(self.folder, VERB, self.made_of)
