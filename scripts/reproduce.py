"""Run the recipes that this machine can, and say whether each gives the figures of its first lines: `make reproduce`.

    python -m scripts.reproduce [--only 'bm25/*'] [--minutes 30] [--report REPRODUCTIONS.md]

retrieval/expected.py says how a recipe states its figures. Results go to runs/reproduce/<time>/<recipe>, so that none of
an earlier run is taken for a new one; corpora, indexes and vectors in RETRIEVAL_CACHE are used where they are there (an
empty folder as RETRIEVAL_CACHE makes everything anew). Nothing is downloaded. Exits with 1 where a figure differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from retrieval import protocols
from retrieval.config import Recipe, load
from retrieval.environment import git_state, hardware, packages, system
from retrieval.expected import Expected, given, head, read_expected
from retrieval.model_files import find_model
from retrieval.verbs import verb_of

REPRODUCED, DIFFERS, FAILED = "reproduced", "DIFFERS", "FAILED"
SERVERS = ("openai", "api")  # components that ask one, which costs money or is not there
ABSENT = ("FileNotFoundError", "ModuleNotFoundError", "ImportError")  # of a manifest: the machine lacks something
COSTLY = [protocols.Encoder, protocols.Reranker, protocols.ListReranker, protocols.Generator]


@dataclass
class Row:
    """One figure that a recipe must give, and what it gave."""

    expected: Expected
    got: list[float]
    status: str

    def cells(self) -> list[str]:
        """Figure, expected, tolerance, got, status."""
        one = self.expected
        got = sorted({f"{value:.6f}" for value in self.got})
        return [
            str(one),
            one.written,
            f"{one.tolerance:.7f}".rstrip("0"),
            " to ".join(got[:1] + got[1:][-1:]) or "-",
            self.status,
        ]


@dataclass
class Job:
    """A recipe, what it must give, and what came of it."""

    path: Path
    expected: list[Expected]
    recipes: list[Recipe] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    why_not: str = "interrupted before"  # it was not run, or why it failed
    seconds: float = 0.0
    manifests: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path below configs/, without the ending."""
        return self.path.relative_to("configs").with_suffix("").as_posix()

    @property
    def verb(self) -> str:
        """Of `python -m retrieval.<verb>`."""
        return self.recipes[0].function.__name__

    def cost(self) -> int:
        """Deterministic and quick ones first, then what needs a model, others' runs, training, a language model."""
        parts = [part for recipe in self.recipes for part in recipe.parts()]
        kinds = {part.protocol for part in parts}
        if protocols.Generator in kinds or any(part.name in SERVERS for part in parts):
            return 4
        if self.verb == "train":
            return 3
        return 2 if "runs" in self.recipes[0].arguments else int(any(kind in kinds for kind in COSTLY))


def main() -> None:
    """Exits with 1 where a figure differs or a recipe fails for another reason than what this machine lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="GLOB", help="of paths below configs/, such as bm25/*"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="no recipe goes on after so many")
    parser.add_argument("--report", type=Path, default=Path("REPRODUCTIONS.md"))
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    jobs = [job_of(path) for path in sorted(Path("configs").rglob("*.yaml"))]
    for pattern in asked.only:
        if not any(fnmatch(job.name, pattern) for job in jobs):
            parser.error(f"--only {pattern}: no recipe below configs/ is so named")
    folder = Path("runs", "reproduce", datetime.now(UTC).strftime("%Y%m%dT%H%M%S"))
    try:
        run_all([job for job in jobs if job.recipes], asked.only, asked.minutes, folder)
    except KeyboardInterrupt:
        print("interrupted: what is not done yet is listed as not run")
    asked.report.write_text("\n".join(report(jobs, folder)) + "\n", encoding="utf-8")
    show(jobs)
    print(f"{asked.report}: {summary(jobs)}")
    sys.exit(1 if any(row.status != REPRODUCED for job in jobs for row in job.rows) else 0)


def job_of(path: Path) -> Job:
    """A recipe and its figures; one that does not load has failed. Raises ValueError for first lines off the grammar."""
    try:
        expected = read_expected(head(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        return Job(path, expected, load(verb_of(path), path) if expected else [])
    except ValueError as error:
        return Job(path, expected, rows=[Row(one, [], f"{FAILED}: {brief(str(error))}") for one in expected])


def run_all(jobs: Sequence[Job], only: Iterable[str], minutes: float, folder: Path) -> None:
    """Run what was asked for and can be run, cheap ones first, until the time is over."""
    end = time.monotonic() + 60 * minutes
    patterns = list(only)
    for job in sorted(jobs, key=lambda job: (job.cost(), job.name)):
        if not any(fnmatch(job.name, pattern) for pattern in patterns):
            job.why_not = "not asked for (--only)"
            continue
        job.why_not = lacking(job.recipes)
        left = end - time.monotonic()
        if not job.why_not and left <= 0:
            job.why_not = f"the {minutes:g} minutes were over"
        if not job.why_not:
            reproduce(job, folder, left)
        print(f"{job.name}: {', '.join(row.status for row in job.rows) or f'not run: {job.why_not}'}", flush=True)


def lacking(recipes: Iterable[Recipe]) -> str:
    """What this machine has not that a recipe needs: data, a model, a server; nothing where all is there."""
    for part in {part.key(): part for recipe in recipes for part in recipe.parts()}.values():
        if part.name in SERVERS:
            return f"asks a server ({part.name})"
        model = part.arguments.get("model")
        try:
            if isinstance(model, str):
                find_model(model)
            if part.protocol is protocols.Dataset:
                part.build({}).open()
        except (FileNotFoundError, ImportError) as error:
            return brief(str(error))
        except ValueError:  # nothing is lacking: its run fails, and says so
            return ""
    return ""


def brief(error: str) -> str:
    """What is wrong, in one line without the places of this machine and what to do about it."""
    for place, name in ((os.environ.get("RETRIEVAL_DATA"), "$RETRIEVAL_DATA"), (str(Path.cwd()), ".")):
        error = error.replace(place, name) if place else error
    return " ".join(error.split()).partition(" and could not be downloaded")[0][:200]


def reproduce(job: Job, folder: Path, seconds: float) -> None:
    """Run a recipe in a process of its own, and compare what it gave."""
    moved = moved_runs(job, folder)
    if job.why_not:
        return
    out = folder / job.name
    command = [sys.executable, "-m", f"retrieval.{job.verb}", str(job.path), f"out={out}", *moved]
    started = time.monotonic()
    job.why_not = "interrupted"
    code, said = run_for(command, seconds)
    job.why_not, job.seconds = "", time.monotonic() - started
    read = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.rglob("manifest.json"))}
    own = {path: one for path, one in read.items() if one["verb"] == job.verb}  # a suite's cells have others
    job.manifests, manifests = list(own), list(own.values())
    if code is None:
        job.why_not = f"stopped after {job.seconds:.0f} s, as the time was over"
    elif code:
        error = next((one["error"] for one in manifests if "error" in one), said)
        if error.startswith(ABSENT):
            job.why_not = brief(error)
        else:
            job.rows = [Row(one, [], f"{FAILED}: {brief(error)}") for one in job.expected]
    else:
        job.rows = [judged(one, manifests) for one in job.expected]
    job.manifests = job.manifests if job.rows else []


def moved_runs(job: Job, folder: Path) -> list[str]:
    """Overrides that make a recipe over others' run files read those of this reproduction; else why it cannot run."""
    moved = []
    for name, path in (job.recipes[0].arguments.get("runs") or {}).items():
        if Path(path).parts[:1] != ("runs",):
            continue
        there = folder.joinpath(*Path(path).parts[2:])
        if not there.exists():
            job.why_not = f"needs {path} from a recipe that was not reproduced before"
        moved.append(f"runs.{name}={there}")
    return moved


def run_for(command: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """The exit code of a command and its last words; None where it was stopped, with all that it started."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, ""
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, (said.strip().splitlines() or ["nothing was said"])[-1]


def judged(one: Expected, manifests: Sequence[dict[str, Any]]) -> Row:
    """Whether results give a figure."""
    try:
        got = given(one, [(manifest["point"], manifest["results"]) for manifest in manifests])
    except ValueError as error:
        return Row(one, [], f"{FAILED}: {error}")
    return Row(one, got, REPRODUCED if all(map(one.agrees, got)) else DIFFERS)


def summary(jobs: Sequence[Job]) -> str:
    """How many came out how, in a line."""
    rows = [row for job in jobs for row in job.rows]
    counts = {status: sum(row.status.startswith(status) for row in rows) for status in (REPRODUCED, DIFFERS, FAILED)}
    ran = sum(bool(job.rows) for job in jobs)
    figures = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    without = sum(not job.expected for job in jobs)
    return (
        f"figures of {ran} recipes: {figures}; {len(jobs) - ran - without} recipes not run; "
        f"{without} have no figure to check"
    )


def show(jobs: Sequence[Job]) -> None:
    """The matrix on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if Console().is_terminal else 150)
    table = Table("recipe", "figure", *("expected", "tolerance", "got"), "status", "seconds")
    for job in jobs:
        for n, row in enumerate(job.rows):
            colour = "green" if row.status == REPRODUCED else "bold red"
            *cells, status = row.cells()
            plain = [cell.replace("[", r"\[") for cell in (*cells, status)]
            table.add_row(job.name, *plain[:-1], f"[{colour}]{plain[-1]}[/]", "" if n else f"{job.seconds:.1f}")
    console.print(table)


def report(jobs: Sequence[Job], folder: Path) -> list[str]:
    """The lines of REPRODUCTIONS.md."""
    ran = [job for job in jobs if job.rows]
    matrix = [[job.name, *row.cells(), f"{job.seconds:.1f}"] for job in ran for row in job.rows]
    waiting = [job for job in jobs if job.expected and not job.rows]
    return [
        "# Reproductions",
        "",
        f"Written by `make reproduce`: {summary(jobs)}. What was not run is not known to come out.",
        "",
        *machine(),
        "",
        "## Run",
        "",
        *markdown(["recipe", "figure", "expected", "tolerance", "got", "status", "seconds"], matrix),
        "",
        "## Their manifests",
        "",
        f"Below {folder.as_posix()}/; inputs are the fingerprint of the corpus and, where there is one, of the weights.",
        "",
        *markdown(
            ["manifest", "sha256", "commit", "inputs", "seconds"], [about(p, folder) for j in ran for p in j.manifests]
        ),
        "",
        "## Not run",
        "",
        *markdown(["recipe", "must give", "why not"], [[job.name, wanted(job), job.why_not] for job in waiting]),
        "",
        "## No figure to check",
        "",
        ", ".join(f"`{job.name}`" for job in jobs if not job.expected) or "none",
    ]


def machine() -> list[str]:
    """What everything ran on."""
    about, git = hardware(), git_state()
    state = "unknown" if git is None else git["commit"][:12] + (", with changes" if git["dirty"] else "")
    return markdown(
        ["", ""],
        [
            ["date", datetime.now(UTC).isoformat(timespec="minutes")],
            ["commit", state],
            ["processor", f"{about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB"],
            ["GPUs", ", ".join(about["gpus"]) or "none"],
            ["system", ", ".join(system().values())],
            ["packages", ", ".join(f"{name} {version}" for name, version in packages().items())],
        ],
    )


def about(path: Path, folder: Path) -> list[str]:
    """A manifest in a row."""
    text = path.read_bytes()
    manifest = json.loads(text)
    commit = ((manifest.get("git") or {}).get("commit") or "unknown")[:12]
    inputs = sorted(set(fingerprints(manifest.get("made_of"))))
    place = path.parent.relative_to(folder).as_posix()
    return [f"{place}/", sha256(text).hexdigest()[:16], commit, ", ".join(inputs), str(manifest.get("wall_seconds"))]


def fingerprints(value: Any) -> Iterable[str]:
    """The corpora and weights that a result was made of."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in ("corpus", "weights", "fingerprint") and isinstance(inner, str) and len(inner) >= 32:
            yield f"{key} {inner[:12]}"
        else:
            yield from fingerprints(inner)


def wanted(job: Job) -> str:
    """All figures of a recipe in a line."""
    return ", ".join(f"{one} {one.written}" for one in job.expected)


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table."""
    lines = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


if __name__ == "__main__":
    main()
