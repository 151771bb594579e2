"""The folder is the registry: `type: rocchio`, where a Reformulator is wanted, is the one class of prf/rocchio.py.

Folders are read with `ast`; only the component that a recipe chose is imported.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from retrieval import protocols

__all__ = ["FOLDERS", "NoComponent", "components", "find", "guess", "hint", "kinds", "words"]

FOLDERS: dict[type, str] = {
    protocols.Analyzer: "retrieval.analyzers",
    protocols.Dataset: "retrieval.datasets",
    protocols.Suite: "retrieval.suites",
    protocols.Encoder: "retrieval.encoders",
    protocols.Index: "retrieval.indexes",
    protocols.Retriever: "retrieval.retrievers",
    protocols.FeedbackSource: "retrieval.retrievers",
    protocols.Reranker: "retrieval.rerankers",
    protocols.ListReranker: "retrieval.rerankers",
    protocols.Generator: "retrieval.generators",
    protocols.Reformulator: "prf",
    protocols.Writer: "prf.writers",
    protocols.Predictor: "prf.predictors",
    protocols.Stop: "prf.stops",
    protocols.Extractor: "prf.extractors",
    protocols.Loss: "training.losses",
    protocols.Regulariser: "training.regularisers",
    protocols.Source: "training.sources",
    protocols.Tuning: "training.tunings",
    protocols.Synthesizer: "training.synthesis",
    protocols.Objective: "training.objectives",
}


class NoComponent(LookupError):
    """A `type` that cannot be used; the message says why and what could be."""


def components(protocol: type) -> dict[str, str]:
    """The components of a kind: name -> first line of the docstring. Nothing is imported."""
    found = {}
    for path in _files(FOLDERS[protocol]):
        exported, classes = _exports(path)
        if len(exported) == 1 and exported[0] in classes:
            found[path.stem] = classes[exported[0]].partition("\n")[0]
    return found


def kinds(protocol: Any) -> tuple[type, ...]:
    """The protocols of `Reranker | ListReranker`, or the one."""
    return get_args(protocol) or (protocol,)


def words(protocol: Any) -> str:
    """What is wanted, for a message."""
    return " or ".join(kind.__name__ for kind in kinds(protocol))


def find(protocol: Any, name: Any) -> Callable:
    """The class that `type: name` means where `protocol`, or one of several of one folder, is wanted.

    Raises NoComponent.
    """
    module, colon, attribute = str(name).partition(":")
    if not colon:
        module, attribute = _in_folder(protocol, name)
    names = vars(_import(module))
    found = names.get(attribute)
    if found is None:
        raise NoComponent(f"{module} has no {attribute!r}.{guess(attribute, names)}")
    if not callable(found):
        raise NoComponent(f"{name} is no class")
    lacking = [_lacking(found, kind) for kind in kinds(protocol)] if inspect.isclass(found) else [[]]
    if all(lacking):
        raise NoComponent(f"{name} is no {words(protocol)}: it has no {' and no '.join(map(', '.join, lacking))}")
    return found


def hint(function: Callable, key: str) -> Any:
    """The type of a parameter, `if TYPE_CHECKING:` imports included. Raises NoComponent where it has no meaning."""
    called: Any = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)  # type: ignore[misc]
    names = dict(getattr(called, "__globals__", {}))

    def only() -> None: ...

    only.__annotations__ = {key: getattr(called, "__annotations__", {}).get(key, Any)}
    while True:
        try:
            return get_type_hints(only, names, include_extras=True)[key]
        except NameError as error:
            try:
                names[str(error.name)] = _type_checked(names, str(error.name))
            except ImportError as cause:
                written = only.__annotations__[key]
                raise NoComponent(f"its annotation {written!r} cannot be read: {cause}") from error


def guess(word: Any, words: Iterable[str]) -> str:
    """' Did you mean ...?', or nothing where no word is close."""
    close = difflib.get_close_matches(str(word), list(words), 1)
    return f" Did you mean {close[0]}?" if close else ""


def _in_folder(protocol: Any, name: Any) -> tuple[str, str]:
    """The module and class of a file in the folder of a kind."""
    kind = kinds(protocol)[0]
    folder, shown = FOLDERS[kind], FOLDERS[kind].replace(".", "/")
    known = list(components(kind))
    has = (
        f"{shown}/ has {', '.join(known)}" if known else f"{shown}/ has none yet; `type: module:Class` names any class"
    )
    path = next((path for path in _files(folder) if path.stem == name), None)
    if path is None:
        problem = "missing" if name in (None, "") else f"no {words(protocol)} {name!r}"
        raise NoComponent(f"{problem}: {has}.{guess(name, known)}")
    exported, classes = _exports(path)
    if len(exported) == 1 and exported[0] in classes:
        return f"{folder}.{name}", exported[0]
    if len(exported) > 1:
        problem = f"exports {' and '.join(exported)} in __all__, where a component's file exports its one class"
    elif exported:
        problem = f"exports {exported[0]} in __all__, which is not a class defined there"
    else:
        problem = "exports no class in __all__, so it holds no component"
    raise NoComponent(f"{shown}/{name}.py {problem}; {has}")


def _import(module: str) -> ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        raise NoComponent(f"{module!r} is no module; `type: module:Class` names a class from anywhere")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise NoComponent(f"no module {error.name!r} can be imported from here") from None
        raise NoComponent(f"{module} needs the package {error.name!r}, which is not installed: {error}") from None
    except ImportError as error:
        raise NoComponent(f"{module} cannot be imported: {error}") from None


def _files(folder: str) -> list[Path]:
    """The files of a package that may hold components, by name; none where there is no such package."""
    try:
        spec = importlib.util.find_spec(folder)
    except ModuleNotFoundError:
        spec = None
    paths = [path for place in (spec and spec.submodule_search_locations) or () for path in Path(place).glob("*.py")]
    return sorted((path for path in paths if not path.stem.startswith("_")), key=lambda path: path.stem)


def _exports(path: Path) -> tuple[list[str], dict[str, str]]:
    """The names in `__all__`, and the docstring of each class in the file, which is read again when it changes."""
    about = path.stat()
    return _read_exports(path, about.st_mtime_ns, about.st_size)


@cache
def _read_exports(path: Path, changed: int, size: int) -> tuple[list[str], dict[str, str]]:
    exported: list[str] = []
    classes: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported = list(ast.literal_eval(node.value))
    return exported, classes


def _lacking(found: type, protocol: type) -> list[str]:
    """The methods of a protocol that a class has not: neither its own nor inherited, save from the protocol."""
    own = {name for base in found.__mro__ if base is not protocol for name in vars(base)}
    methods = [name for name, member in vars(protocol).items() if inspect.isfunction(member)]
    return [name for name in methods if name not in own and (name == "__call__" or not name.startswith("_"))]


def _type_checked(module: dict[str, Any], name: str) -> Any:
    """What a module imports as `name` under `if TYPE_CHECKING:`. Raises ImportError where it does not or cannot."""
    file = module.get("__file__")
    for statement in _type_checking(Path(file)) if file else ():
        for alias in statement.names:
            if name == (alias.asname or alias.name) and isinstance(statement, ast.Import):
                return importlib.import_module(alias.name)
            if name == (alias.asname or alias.name) and isinstance(statement, ast.ImportFrom):
                source = "." * statement.level + (statement.module or "")
                return getattr(importlib.import_module(source, module.get("__package__")), alias.name)
    raise ImportError(f"{module.get('__name__')} does not import {name}")


def _type_checking(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (statement for statement in node.body if isinstance(statement, ast.Import | ast.ImportFrom))
