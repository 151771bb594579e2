"""The command line of a recipe: `python -m retrieval.search configs/x.yaml retriever.k1=1.2 [--dry-run]`."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from retrieval import protocols
from retrieval.config import ConfigError, Recipe, load
from retrieval.describe import MENDABLE, help_text, plan, usage
from retrieval.environment import git_state, is_first_process
from retrieval.manifest import Manifest, earlier, one_line
from retrieval.run_file import find_run
from retrieval.store import USED, used_answers, write_keys
from retrieval.yaml_lines import dotted

__all__ = ["errors_in_a_line", "out_folder", "run"]

RECIPE_ONLY = (protocols.Dataset, protocols.Encoder)  # what tells of itself before anything ran
RUNS = "runs"  # a parameter whose paths retrieval.run_file.find_run looks up
ASKS = "explain"  # a parameter that asks about an experiment: the answer is printed, and no folder is touched


def run(function: Callable, arguments: Sequence[str] | None = None, grows: bool = False) -> Any:
    """Run what the command line (or `arguments`) says; the results of the recipe, or a list of those of its grid.

    A function whose results may grow in the same folder keeps account itself of what is finished, and always runs.
    Exits with 2 where the recipe is wrong, with 1 where it failed for a reason that the user can mend, with 130 where
    it was interrupted. RETRIEVAL_DEBUG=1 shows where an error came from.
    """
    if "out" not in inspect.signature(function).parameters:
        raise TypeError(f"{function.__name__} needs a parameter `out: Path | None = None`, the folder of its results")
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags, words = [one for one in given if one.startswith("-")], [one for one in given if not one.startswith("-")]
    if {"-h", "--help"} & {*flags}:
        print(help_text(function))
        return None
    if not words or flags not in ([], ["--dry-run"]):
        _tell(f"usage: {usage(function)}\n--help says more")
        sys.exit(2)
    with errors_in_a_line():
        recipes = [_with_folder(recipe, words[0]) for recipe in load(function, words[0], words[1:])]
        if flags:
            print("\n".join(plan(recipes, grows)))
            return None
        results = _run_all(recipes, grows)
        return results if recipes[0].point else results[0]


def out_folder(recipe: Recipe, path: str | Path) -> Path:
    """Where results go: `out`, else runs/<verb>/<path below configs/>; within it, a folder for each point of a grid."""
    below = Path(path).with_suffix("").parts
    inside = [n for n, part in enumerate(below[:-1]) if part == "configs"]
    below = below[inside[-1] + 1 :] if inside else below[-1:]
    folder = Path(recipe.arguments["out"] or Path("runs", recipe.function.__name__, *below))
    if not recipe.point or "out" in recipe.point:
        return folder
    name = ",".join(f"{key}={_safe(value)}" for key, value in recipe.point.items())
    return folder / (name if len(name) <= 200 else f"{name[:180]}-{sha256(name.encode()).hexdigest()[:12]}")


def _with_folder(recipe: Recipe, path: str | Path) -> Recipe:
    return replace(recipe, arguments=recipe.arguments | {"out": out_folder(recipe, path)})


def _safe(value: Any) -> str:
    """A value as part of a file name, without two values becoming one."""
    return quote(value if isinstance(value, str) else json.dumps(value, separators=(",", ":")), safe="")


def _run_all(recipes: list[Recipe], grows: bool) -> list[Any]:
    """Run what has not finished yet; every folder is looked at before anything runs."""
    before = [
        None if _asks(recipe) else earlier(recipe.arguments["out"], recipe.function.__name__, recipe.to_dict(), grows)
        for recipe in recipes
    ]
    built: dict[str, Any] = {}
    results = []
    for n, (recipe, manifest) in enumerate(zip(recipes, before, strict=True)):
        if recipe.point:
            _tell(f"[{n + 1}/{len(recipes)}] {' '.join(f'{key}={value}' for key, value in recipe.point.items())}")
        if manifest and manifest["status"] == "finished" and not grows:
            _refuse_changed(recipe, manifest)
            results.append(_recorded(recipe, manifest))
        elif _asks(recipe):
            results.append(recipe(built))
        else:
            results.append(_run_one(recipe, manifest, built, RECIPE_ONLY if grows else ()))
        needed = {part.key() for later in recipes[n + 1 :] for part in later.parts()}
        built = {key: component for key, component in built.items() if key in needed}  # frees the others' memory
    return results


def _asks(recipe: Recipe) -> bool:
    return recipe.arguments.get(ASKS) is not None


def _run_one(recipe: Recipe, before: dict[str, Any] | None, built: dict[str, Any], kinds: tuple[type, ...] = ()) -> Any:
    folder = recipe.arguments["out"]
    if before:
        _tell(f"{folder}: resuming what started {before['started']} ({before['status']}){_code_since(before)}")
    manifest = Manifest.start(
        folder, recipe.function.__name__, recipe.to_dict(), shlex.join(sys.orig_argv), recipe.point, before
    )
    try:
        with used_answers() as used:
            results = recipe(built)
        if used and is_first_process():
            write_keys(used, folder / USED)
        manifest.finish(results, _made_of(recipe, built, kinds) if is_first_process() else {})
    except BaseException as error:
        manifest.fail(error)
        raise
    _tell(f"{folder}: finished in {manifest.facts['wall_seconds']:.1f} s")
    return results


def _made_of(recipe: Recipe, built: dict[str, Any], kinds: tuple[type, ...] = ()) -> dict[str, Any]:
    """What the components say of their origin, by place, and the files a recipe names; a dataset's is its collection's.

    An index is what a retriever makes of it, which tells of it. `kinds` limits it to components of these protocols,
    which are built where they are not.
    """
    origins: dict[str, Any] = {key: {"sha256": _digest(path)} for key, path in _files(recipe)}
    for part in recipe.parts():
        if part.protocol is protocols.Index or (kinds and part.protocol not in kinds):
            continue
        component = part.build(built)
        if part.protocol is protocols.Dataset and not hasattr(component, "provenance"):
            component = component.open()
        if hasattr(component, "provenance"):
            origins[dotted(part.place)] = component.provenance()
    return origins


def _files(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """The files that the recipe itself names, by dotted key; of `runs` those that a folder of results stands for."""
    for key, value in recipe.arguments.items():
        named = value.items() if isinstance(value, dict) else [("", value)]
        for name, path in named:
            if isinstance(path, Path) and (key == RUNS or path.is_file()):
                yield f"{key}.{name}".rstrip("."), find_run(path) if key == RUNS else path


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _refuse_changed(recipe: Recipe, manifest: dict[str, Any]) -> None:
    """Raises ValueError where the data, models or files of a finished experiment are no longer what they were."""
    now = json.loads(json.dumps(_made_of(recipe, {}, RECIPE_ONLY), default=str))
    then = manifest.get("made_of") or {}
    for place, origin in now.items():
        for key in {**origin, **then.get(place, {})}:
            before, after = then.get(place, {}).get(key), origin.get(key)
            if before != after and key != "folder":  # the same data may have moved
                raise ValueError(
                    f"{recipe.arguments['out']} was finished with other input: {place} {key} was {before}, is {after}; "
                    "name another folder with out=..., or delete it"
                )


def _recorded(recipe: Recipe, manifest: dict[str, Any]) -> Any:
    """Show the results of an earlier run instead of running again."""
    now = f"at commit {_state(manifest.get('git'))}{_code_since(manifest)}"
    _tell(f"{recipe.arguments['out']}: finished already, {manifest.get('ended')}, {now}")
    print(json.dumps(manifest.get("results"), indent=2, ensure_ascii=False))
    return manifest.get("results")


def _code_since(manifest: dict[str, Any]) -> str:
    then, now = manifest.get("git"), git_state()
    return "" if then == now else f"; the code has changed since: {_state(then)} then, {_state(now)} now"


def _state(git: dict[str, Any] | None) -> str:
    if git is None:
        return "unknown"
    return git["commit"][:12] + (f" with changes {git['diff']}" if git["dirty"] else "")


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """What the user can mend becomes a line and an exit code; every other error is a bug, and shows where."""
    try:
        yield
    except KeyboardInterrupt:
        _tell(f"interrupted; the same command resumes: {shlex.join(sys.orig_argv)}")
        sys.exit(130)
    except ConfigError as error:
        _tell(str(error))
        sys.exit(2)
    except MENDABLE as error:
        if os.environ.get("RETRIEVAL_DEBUG") == "1":
            raise
        _tell(f"error: {one_line(error)}  (RETRIEVAL_DEBUG=1 shows where)")
        sys.exit(1)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
