"""What a result was made of, in manifest.json beside it; and whether a folder may be used for an experiment.

An experiment is a verb and a resolved recipe. Its folder belongs to it: another's is refused, an unfinished one is
resumed, a finished one is not run again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrieval.environment import environment, git_state, hardware, is_first_process, packages, system
from retrieval.files import whole_file

__all__ = ["NAME", "Manifest", "earlier", "one_line"]

NAME = "manifest.json"
_NEEDED = ("status", "verb", "recipe", "started")


def earlier(folder: Path, verb: str, recipe: dict[str, Any], grows: bool = False) -> dict[str, Any] | None:
    """The manifest of this experiment in a folder; None in an empty folder, or where there is none yet.

    A folder that `grows` belongs to its verb alone, whatever the recipe: its parts have manifests of their own. Raises
    ValueError where the folder is not this experiment's, or its manifest cannot be read.
    """
    fix = f"name another folder with out=..., or delete {folder}"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and the results need a folder; name another with out=...")
    if not (folder / NAME).exists():
        held = sorted(p.name for p in folder.iterdir() if not p.name.startswith(f".{NAME}.")) if folder.exists() else []
        if held:
            raise ValueError(f"{folder} holds {held[0]!r} and no {NAME}, so it is no run folder; {fix}")
        return None
    manifest = _read(folder / NAME, fix)
    then = _experiment(manifest["verb"], {} if grows else manifest["recipe"])
    now = _experiment(verb, {} if grows else recipe)
    # a parameter that came later and is off (null) changes nothing
    differing = [key for key in {**now, **then} if then.get(key, "null") != now.get(key, "null")]
    if differing and manifest["status"] == "failed" and [path.name for path in folder.iterdir()] == [NAME]:
        return None  # it failed before anything was done, so there is nothing to lose
    if differing:
        shown = [f"{key} is {then.get(key, 'absent')} there, {now.get(key, 'absent')} here" for key in differing[:5]]
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise ValueError(f"{folder} holds another experiment ({'; '.join(shown)}{more}); {fix}")
    return manifest


@dataclass
class Manifest:
    """The manifest of a run under way: written when it starts, and again when it has ended."""

    folder: Path
    facts: dict[str, Any]
    began: float  # time.monotonic()

    @classmethod
    def start(
        cls,
        folder: Path,
        verb: str,
        recipe: dict[str, Any],
        command: str,
        point: dict[str, Any] | None = None,
        before: dict[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest of a run that starts now.

        `point` is what a grid chose for it, `before` the manifest of an attempt that did not finish.
        """
        kept = ("status", "started", "ended", "wall_seconds", "error", "git", "hardware")
        attempts = [*before.get("attempts", []), {key: before.get(key) for key in kept}] if before else []
        facts = {
            "status": "running",
            "verb": verb,
            "recipe": recipe,
            "point": point or {},
            "command": command,
            "started": _now(),
            "seeds": _seeds(recipe),
            "git": git_state(),
            **system(),
            "packages": packages(),
            "hardware": hardware(),
            "environment": environment(),
            "attempts": attempts,
        }
        manifest = cls(folder, facts, time.monotonic())
        manifest._write(facts)
        return manifest

    def finish(self, results: Any, made_of: dict[str, Any]) -> None:
        """Record what came out, and what it was made of. Raises TypeError for what JSON cannot hold."""
        self._end("finished", {"results": results, "made_of": made_of, "hardware": hardware()})

    def fail(self, error: BaseException) -> None:
        """Record why it ended early."""
        self._end("failed", {"error": f"{type(error).__name__}: {one_line(error)}"})

    def _end(self, status: str, facts: dict[str, Any]) -> None:
        wall = round(time.monotonic() - self.began, 3)
        self._write({**self.facts, "status": status, "ended": _now(), "wall_seconds": wall, **facts})

    def _write(self, facts: dict[str, Any]) -> None:
        text = json.dumps(facts, indent=2, ensure_ascii=False, default=_plain)
        self.facts = facts
        if not is_first_process():
            return
        with whole_file(self.folder / NAME) as part:
            part.write_text(text + "\n", encoding="utf-8")


def one_line(error: object) -> str:
    """The message of an error, or its type where it has none, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read(path: Path, fix: str) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {fix}") from None
    lacking = [key for key in _NEEDED if not isinstance(manifest, dict) or key not in manifest]
    if lacking or not isinstance(manifest["recipe"], dict):
        raise ValueError(f"{path} is no manifest ({', '.join(lacking) or 'its recipe is no block'}); {fix}")
    return manifest


def _experiment(verb: str, recipe: dict[str, Any]) -> dict[str, str]:
    """What makes two experiments the same, wherever their results are and whatever is asked about them."""
    return _leaves({"verb": verb} | {key: value for key, value in recipe.items() if key not in ("out", "explain")})


def _leaves(value: Any, place: str = "") -> dict[str, str]:
    """Every plain value by its dotted key, written as JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, str] = {}
    for key, one in inner:
        found |= _leaves(one, f"{place}.{key}" if place else str(key))
    return found or {place: json.dumps(value, default=_plain, ensure_ascii=False)}


def _seeds(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in _leaves(recipe).items() if key.rpartition(".")[2] == "seed"}


def _plain(value: Any) -> Any:
    """numpy's numbers and paths as JSON has them."""
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"{type(value).__name__} {str(value)[:60]!r} cannot be written to {NAME}: use numbers, words, lists"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
