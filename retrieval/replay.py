"""Whether packed results are what they say, to the last digit: `python -m retrieval.replay bundle.zip [rerun=true]`.

Every run file is evaluated again and every figure of its manifest compared; nothing that a bundle names as module:Class
is imported for that. `rerun=true` also runs each recipe again, from nothing and with the packed answers in the place of
language models, and compares runs and figures; a recipe may name any class that is installed here, so do that with
bundles of people you know. What could not be compared is said,
with the reason, and never counts as the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval import evaluate
from eval.report import figures
from retrieval import environment
from retrieval.bundle import read_bundle
from retrieval.cli import errors_in_a_line
from retrieval.finished import Finished, given_options, leaves, read_finished, recipe_of
from retrieval.known import digest_of_qrels
from retrieval.manifest import one_line
from retrieval.protocols import Dataset
from retrieval.qrels_file import read_qrels
from retrieval.run_file import read_run
from retrieval.types import Qrels, Run
from retrieval.yaml_lines import Place, dump

__all__ = ["Check", "main", "replay"]

USAGE = "usage: python -m retrieval.replay bundle.zip [rerun=true]"
COLOURS = {"same": "green", "differs": "bold red", "not verified": "yellow"}
CLASS = re.compile(r"[\w.]+:\w+")  # a component that is in no folder of ours
OF_ITS_TIME = ("cost", "looks", "collection")  # of results: not a figure, or counted anew each time
NOT_HERE = (
    "FileNotFoundError",
    "ModuleNotFoundError",
    "ImportError",
)  # why a recipe failed: the machine lacks something


@dataclass(frozen=True)
class Check:
    """One comparison, and how it came out."""

    result: str
    what: str
    status: Literal["same", "differs", "not verified"]
    detail: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Verify the bundle that the command line names. Exits with 1 where something differs or nothing was verified."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with errors_in_a_line():
        files, options = given_options(given, {"rerun": "false"}, USAGE)
        if len(files) != 1:
            raise ValueError(USAGE)
        checks = replay(Path(files[0]), options["rerun"] == "true")
    _show(checks)
    counts = {status: sum(one.status == status for one in checks) for status in COLOURS}
    print(f"{files[0]}: {', '.join(f'{count} {status}' for status, count in counts.items())}")
    sys.exit(1 if counts["differs"] or not counts["same"] else 0)


def replay(path: Path, rerun: bool = False) -> list[Check]:
    """Every comparison of a bundle. Raises ValueError for a file that is no bundle, or was changed."""
    with tempfile.TemporaryDirectory() as folder:
        about = read_bundle(path, Path(folder))
        checks: list[Check] = []
        for one in about["results"]:
            replayed = _Replayed(one, Path(folder), read_finished(Path(folder) / one["folder"])[0], rerun)
            checks += replayed.evaluated()
            checks += replayed.rerun() if rerun else []
        return checks


class _Replayed:
    """One result of an unpacked bundle."""

    def __init__(self, about: Mapping[str, Any], folder: Path, result: Finished, trusted: bool):
        """`trusted` lets its recipe name any class."""
        self.about, self.folder, self.result, self.name = about, folder, result, about["name"]
        self.trusted = trusted
        self.files = {system: [folder / one for one in files] for system, files in about["runs"].items()}

    def evaluated(self) -> Iterator[Check]:
        """The run files, evaluated again."""
        qrels, why = self._qrels()
        if qrels is None:
            yield Check(self.name, "figures", "not verified", why)
            return
        runs = {system: read_run(files[0]) for system, files in self.files.items()}
        yield from self._alike(runs)
        then = self.result.systems()
        measures = list(next(iter(then.values()))["mean"])
        found = {system: evaluate(run, qrels, measures) for system, run in runs.items()}
        now = json.loads(json.dumps(figures(found, self._baseline())))
        for system, one in then.items():
            yield from _compared(self.name, system, one, now[system])

    def rerun(self) -> Iterator[Check]:
        """The recipe, run again in a process and a cache of its own."""
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "out"
            error = self._run(Path(scratch), out)
            manifest = (
                json.loads((out / "manifest.json").read_text("utf-8")) if (out / "manifest.json").is_file() else {}
            )
            error = manifest.get("error", error) if error else ""
            another = self._other_corpus(manifest)
            if error or another:
                lacks = error.startswith(NOT_HERE) or another
                yield Check(self.name, "rerun", "not verified" if lacks else "differs", another or one_line(error))
                return
            versions = self._versions()
            for system, files in Finished(out, manifest).run_files().items():
                difference = _difference(read_run(self.files[system][0]), read_run(files[0]))
                yield _check(self.name, f"rerun: run of {system}", difference, versions)
            for system, one in Finished(out, manifest).systems().items():
                for check in _compared(self.name, system, self.result.systems()[system], one):
                    detail = f"{check.detail}; {versions}" if check.status == "differs" and versions else check.detail
                    yield Check(self.name, f"rerun: {check.what}", check.status, detail)

    def _qrels(self) -> tuple[Qrels | None, str]:
        """The judgements, packed or of this machine; None with the reason where they are not those."""
        about = self.about["qrels"]
        if about["file"]:
            return read_qrels(self.folder / about["file"]), ""
        dataset = self.result.manifest["recipe"].get("dataset")
        strange = [] if self.trusted else [one for _, one in leaves(dataset) if CLASS.fullmatch(str(one))]
        if strange:
            return None, f"the dataset names {strange[0]}, which only rerun=true imports; pack with qrels=true"
        try:
            qrels = recipe_of(_judgements, {"dataset": dataset, "split": about["split"]})()
        except (FileNotFoundError, ImportError, ValueError) as error:
            return None, f"no judgements in the bundle nor here: {one_line(error)}"
        digest = digest_of_qrels(qrels)
        if digest != about["digest"]:
            return (
                None,
                f"other judgements here ({digest[:12]}) than there ({about['digest'][:12]}); pack with qrels=true",
            )
        return qrels, ""

    def _alike(self, runs: Mapping[str, Run]) -> Iterator[Check]:
        """Whether other files of a run say what the first says."""
        for system, (_, *others) in self.files.items():
            for path in others:
                again = read_run(path, runs[system].query_ids)
                yield _check(self.name, f"{path.name} is the run of {system}", _difference(runs[system], again))

    def _baseline(self) -> str | None:
        """The system that others were tested against: where there are tests, the one that has none."""
        tested = [name for name, one in self.result.systems().items() if "paired t-test" in one]
        return next((name for name in self.result.systems() if name not in tested), None) if tested else None

    def _run(self, scratch: Path, out: Path) -> str:
        """Run the recipe; the last words of one that failed."""
        recipe = {key: value for key, value in self.result.manifest["recipe"].items() if key not in ("out", "explain")}
        for one in self.about["inputs"]:
            _put(recipe, tuple(one["place"]), str(self.folder / one["file"]))
        for one in self.about["generators"]:
            _put(recipe, tuple(one["place"]), {"type": "replay", "file": str(self.folder / one["file"])})
        if isinstance(recipe.get("runs"), Mapping):
            recipe["runs"] = {system: str(files[0]) for system, files in self.files.items()}
        if self.about["collection"]:
            there = self.about["collection"]
            folder = {"type": "folder", "path": str(self.folder / there["folder"])}
            recipe["dataset"] = folder | {"excludes_self": there["excludes_self"]}
        (scratch / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")
        command = [sys.executable, "-m", f"retrieval.{self.about['verb']}", str(scratch / "recipe.yaml"), f"out={out}"]
        own = os.environ | {"RETRIEVAL_CACHE": str(scratch / "cache")}
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        return (done.stderr.strip().splitlines() or ["it failed and said nothing"])[-1] if done.returncode else ""

    def _other_corpus(self, manifest: Mapping[str, Any]) -> str:
        then = self.result.made_of("dataset").get("corpus")
        now = ((manifest.get("made_of") or {}).get("dataset") or {}).get("corpus")
        if then is None or now is None or then == now:
            return ""
        return f"another corpus here (fingerprint {now[:12]}) than there ({then[:12]}); pack with texts=true"

    def _versions(self) -> str:
        """What else is installed here than there."""
        then = self.result.manifest.get("packages")
        if then is None:
            return "versions there are not known (a manifest of an older version)"
        there = {**then, "python": self.result.manifest.get("python")}
        here = {**environment.packages(), "python": environment.system()["python"]}
        off = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in sorted({*there} | {*here})
               if there.get(name) != here.get(name)]  # fmt: skip
        return ", ".join(off)


def _judgements(dataset: Dataset, split: str) -> Qrels:
    """Those of a split, as a recipe asks for them that looks at nothing else of a bundle's."""
    return dataset.open().qrels(split)


def _compared(result: str, system: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Check]:
    """Each group of figures of a system: means, counts, tests. What is only there is not verified."""
    for group, held in then.items():
        if group in OF_ITS_TIME:
            continue
        what = f"{system}: {group}"
        if group not in now:
            yield Check(result, what, "not verified", "evaluating run files does not give it; rerun=true may")
            continue
        differing = _differing(held, now[group])
        shown = ", ".join(f"{key} {value}" for key, value in held.items()) if group == "mean" else ""
        yield Check(result, what, "differs" if differing else "same", "; ".join(differing[:3]) or shown)


def _differing(then: Any, now: Any, place: str = "") -> list[str]:
    """Every plain value that is not the same, with both."""
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        return [f"{place} {then} there, {now} here".strip()] if then != now else []
    return [one for key, value in then.items() for one in _differing(value, now.get(key), f"{place} {key}".strip())]


def _check(result: str, what: str, difference: str, versions: str = "") -> Check:
    reasons = f"{difference}; {versions}" if difference and versions else difference
    return Check(result, what, "differs" if difference else "same", reasons)


def _difference(one: Run, other: Run) -> str:
    """How two runs differ, in documents, order or scores; nothing where they do not."""
    if list(one.query_ids) != list(other.query_ids):
        return f"other queries: {len(one.query_ids)} there, {len(other.query_ids)} here"
    lists = zip(one.to_dict().items(), other.to_dict().values(), strict=True)
    off = [(query, found, again) for (query, found), again in lists if list(found.items()) != list(again.items())]
    if not off:
        return ""
    documents = sum(list(found) != list(again) for _, found, again in off)
    gaps = [abs(score - again[doc]) for _, found, again in off for doc, score in found.items() if doc in again]
    far = max(gaps, default=0.0)
    return f"{len(off)} of {len(one.query_ids)} queries, {documents} in documents or order, scores by up to {far:.3g}"


def _put(recipe: Any, place: Place, value: Any) -> None:
    for part in place[:-1]:
        recipe = recipe[part]
    recipe[place[-1]] = value


def _show(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    table = Table("result", "compared", "status", "detail")
    for one in checks:
        table.add_row(
            escape(one.result), escape(one.what), f"[{COLOURS[one.status]}]{one.status}[/]", escape(one.detail)
        )
    console.print(table)


if __name__ == "__main__":
    main()
