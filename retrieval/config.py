"""Recipes: a YAML file plus `a.b=c` overrides, checked against the signature of the function they call.

A parameter annotated with a protocol (`encoder: Encoder`) is a component: its block names it with `type:`, and the
other keys of the block are the arguments of its constructor. One annotated with any other class (`trainer: Trainer`)
is built from its block too, which then needs no `type`. `grid:` maps dotted keys to lists of values, and makes
one recipe per combination; see VariantsOf for a grid that makes one list of components. Everything is checked before
anything is built.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from retrieval.recipe_file import ConfigError, RecipeFile, read
from retrieval.registry import FOLDERS, NoComponent, components, find, guess, hint, words
from retrieval.yaml_lines import Place, dotted

__all__ = ["FOLDERS", "ConfigError", "Recipe", "VariantsOf", "components", "load"]

Built = dict[str, Any]  # components by Recipe.key(): equal blocks are one object


@dataclass(frozen=True)
class VariantsOf:
    """Marks `choices: Annotated[dict[str, Retriever], VariantsOf("retriever")]`.

    A recipe may then write it as a grid, `choices: {k1: [0.6, 0.9], b: [0.3, 0.4]}`, of dotted keys below that other
    parameter: each combination is that component with these values, by the name "k1=0.6,b=0.3".
    """

    parameter: str


@dataclass(frozen=True)
class Recipe:
    """A call that has been checked but not made: of the recipe itself, or of a component's constructor within it."""

    function: Callable
    arguments: dict[str, Any]
    name: str | None = None  # the `type` that chose it; None for the recipe itself
    protocol: Any = None  # what it is wanted as: a kind, or a union of kinds
    place: Place = ()
    point: dict[str, Any] = field(default_factory=dict)  # what the grid chose for this one: dotted key -> value

    def __call__(self, built: Built | None = None) -> Any:
        """Build the components, then make the call. Recipes that are given the same `built` share equal components."""
        built = {} if built is None else built
        return self.function(
            **{key: _each(value, lambda part: part.build(built)) for key, value in self.arguments.items()}
        )

    def build(self, built: Built) -> Any:
        """The result of the call, made once for all equal blocks."""
        key = self.key()
        if key not in built:
            built[key] = self(built)
        return built[key]

    def parts(self) -> Iterator[Recipe]:
        """Every component in the order of building, those within others first."""
        for value in self.arguments.values():
            for part in _recipes(value):
                yield from part.parts()
                yield part

    def components(self, built: Built) -> dict[str, Any]:
        """The built components by dotted place, after a call with the same `built`."""
        return {dotted(part.place): built[part.key()] for part in self.parts() if part.key() in built}

    def key(self) -> str:
        """The same for equal blocks, and for no others."""
        function = f"{self.function.__module__}:{self.function.__qualname__}"
        values = {key: _map(value, Recipe.key) for key, value in self.arguments.items()}
        return json.dumps([function, values], sort_keys=True)

    def moved(self, old: Place, new: Place) -> Recipe:
        """The same at another place, with its components."""
        arguments = {key: _each(value, lambda part: part.moved(old, new)) for key, value in self.arguments.items()}
        return replace(self, arguments=arguments, place=(*new, *self.place[len(old) :]))

    def to_dict(self) -> dict[str, Any]:
        """The complete configuration, defaults included, of what JSON and YAML can hold."""
        chosen = {"type": self.name} if self.name else {}
        return chosen | {key: _map(value, Recipe.to_dict) for key, value in self.arguments.items()}


def load(function: Callable, path: Any, overrides: Iterable[str] = ()) -> list[Recipe]:
    """Check the recipe at `path` against `function`: one Recipe per combination of its grid, in the order written.

    Raises ConfigError with every mistake found.
    """
    source = read(path)
    for override in overrides:
        source.override(override)
    recipes, mistakes = [], []
    for variant, point in _variants(source):
        recipes.append(_Check(variant).call(function, variant.tree, (), point=point))
        mistakes += variant.mistakes
    if source.mistakes or mistakes:
        raise ConfigError("\n".join(dict.fromkeys(source.mistakes + mistakes)))
    return recipes


def _variants(source: RecipeFile) -> list[tuple[RecipeFile, dict[str, Any]]]:
    """The recipe with each combination of the grid's values in place, and which they are."""
    grid = source.tree.pop("grid", None) or {}
    if not isinstance(grid, dict):
        source.wrong(("grid",), f"a block of dotted keys with a list of values each, not {grid!r}")
        grid = {}
    _check_grid(source, grid, ("grid",))
    return [(source.copy(), {})] if source.mistakes or not grid else list(_combinations(source, grid, ("grid",)))


def _check_grid(source: RecipeFile, grid: dict[str, Any], place: Place) -> None:
    for key, values in grid.items():
        written = [json.dumps(value) for value in values] if isinstance(values, list) else []
        if not written or not all(key.split(".")):
            source.wrong((*place, key), f"a dotted key takes a list of values, not {values!r}")
        elif len(set(written)) < len(written):
            source.wrong((*place, key), "has the same value twice")


def _combinations(
    source: RecipeFile, grid: dict[str, Any], place: Place, under: Place = ()
) -> Iterator[tuple[RecipeFile, dict[str, Any]]]:
    for chosen in itertools.product(*(range(len(values)) for values in grid.values())):
        variant, point = source.copy(), {}
        for (key, values), i in zip(grid.items(), chosen, strict=True):
            variant.choose(place, key, i, values[i], under)
            point[key] = values[i]
        yield variant, point


@dataclass
class _Check:
    """Walks a recipe next to the signatures it must fit, noting mistakes instead of stopping at the first."""

    source: RecipeFile

    def call(
        self,
        function: Callable,
        block: dict[str, Any],
        place: Place,
        name: str | None = None,
        protocol: Any = None,
        point: dict[str, Any] | None = None,
    ) -> Recipe:
        parameters = _parameters(function)
        title = name or getattr(function, "__name__", str(function))
        for key in [key for key in block if key not in parameters]:
            takes = f"takes {', '.join(parameters)}" if parameters else "takes no arguments"
            self.source.wrong((*place, key), f"{title} {takes}.{guess(key, parameters)}")
        arguments = {}
        for key, parameter in parameters.items():
            if key in block:
                arguments[key] = self.argument(function, key, _completed(block[key], parameter), (*place, key))
            elif parameter.default is not inspect.Parameter.empty:
                arguments[key] = parameter.default
            else:
                self.source.wrong((*place, key), f"missing, and {title} has no default for it")
        return Recipe(function, arguments, name, protocol, place, point or {})

    def argument(self, function: Callable, key: str, value: Any, place: Place) -> Any:
        try:
            wanted = hint(function, key)
        except NoComponent as error:
            self.source.wrong(place, str(error))
            return None
        form = _form(wanted)
        if form is None:
            return self.plain(wanted, value, place)
        varied = next((one.parameter for one in getattr(wanted, "__metadata__", ()) if isinstance(one, VariantsOf)), "")
        if varied and isinstance(value, dict) and not all(isinstance(one, dict | str) for one in value.values()):
            return self.variants(form.protocol, value, place, (*place[:-1], varied))
        if value is None and form.optional:
            return None
        if form.many is list and isinstance(value, list):
            return [self.component(form.protocol, item, (*place, i)) for i, item in enumerate(value)]
        if form.many is dict and isinstance(value, dict):
            return {name: self.component(form.protocol, item, (*place, name)) for name, item in value.items()}
        if form.many:
            what = "a list" if form.many is list else "a block of names and their components"
            self.source.wrong(place, f"{what} is wanted, each a {words(form.protocol)}, not {value!r}")
            return None
        return self.component(form.protocol, value, place)

    def component(self, protocol: Any, value: Any, place: Place) -> Recipe | None:
        block = value if isinstance(value, dict) else {"type": value}  # `index: flat` is short for its block
        if isinstance(value, list):
            self.source.wrong(place, f"one {words(protocol)} is wanted, not a list")
            return None
        try:
            function = find(protocol, block.get("type"))
        except NoComponent as error:
            self.source.wrong((*place, "type"), str(error))
            return None
        return self.call(function, {k: v for k, v in block.items() if k != "type"}, place, block["type"], protocol)

    def variants(self, protocol: Any, grid: dict[str, Any], place: Place, base: Place) -> dict[str, Recipe]:
        """The component at `base` with each combination of the grid's values in place, by what these are."""
        before = len(self.source.mistakes)
        _check_grid(self.source, grid, place)
        if len(self.source.mistakes) > before or base[-1] not in self.source.tree:
            return {}
        found = {}
        for variant, point in _combinations(self.source, grid, place, base):
            recipe = _Check(variant).component(protocol, variant.tree[str(base[-1])], base)
            self.source.mistakes += variant.mistakes
            if recipe is not None:
                name = ",".join(
                    f"{key}={one if isinstance(one, str) else json.dumps(one)}" for key, one in point.items()
                )
                found[name] = recipe.moved(base, (*place, name))
        return found

    def plain(self, wanted: Any, value: Any, place: Place) -> Any:
        if isinstance(value, bool) and _is_number(wanted):  # pydantic would take it for 0 or 1
            self.source.wrong(place, f"input should be a number, not {str(value).lower()}")
            return None
        try:
            return _adapter(wanted).validate_python(value, extra="forbid")
        except ValidationError as error:
            for e in error.errors(include_url=False):
                where = (*place, *_within(value, e["loc"], e["type"]))
                self.source.wrong(where, f"{e['msg'][0].lower()}{e['msg'][1:]}{_advice(e)}")
        except PydanticUserError as error:
            only = _only_class(wanted)  # not a kind with a folder, and no value: the one class that fits here
            if only and value is None and only is not wanted:
                return None
            if only:
                return self.fixed(only, value, place)
            self.source.wrong(place, f"no recipe can hold {wanted}: {str(error).splitlines()[0]}")
        return None

    def fixed(self, wanted: type, value: Any, place: Place) -> Recipe | None:
        if isinstance(value, dict):
            return self.call(wanted, value, place)
        self.source.wrong(place, f"a block with the arguments of {wanted.__name__} is wanted, not {value!r}")
        return None


@dataclass(frozen=True)
class _Form:
    """How a parameter takes components."""

    protocol: Any  # a kind, or a union of kinds that share a folder
    many: type | None = None  # list, dict, or None for one
    optional: bool = False


def _form(wanted: Any) -> _Form | None:
    """The form of `Encoder`, `Encoder | None`, `Reranker | ListReranker`, `list[Encoder]` or `dict[str, Encoder]`.

    None for plain values.
    """
    if isinstance(wanted, type) and wanted in FOLDERS:
        return _Form(wanted)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _form(inner[0])
    if origin in (Union, types.UnionType):
        members = [one for one in inner if one is not type(None)]
        form = _form(members[0]) if len(members) == 1 else _either(members)
        return form and _Form(form.protocol, form.many, optional=len(members) < len(inner))
    for many, origins in ((list, (list, Sequence, Iterable)), (dict, (dict, Mapping))):
        if origin in origins and (form := _form(inner[-1])):
            return _Form(form.protocol, many)
    return None


def _either(members: Sequence[Any]) -> _Form | None:
    """The form of a union of kinds that share a folder."""
    folders = {FOLDERS.get(one) if isinstance(one, type) else None for one in members}
    return None if None in folders or len(folders) > 1 else _Form(Union[tuple(members)])  # noqa: UP007 - built here


def _only_class(wanted: Any) -> type | None:
    """The class that `Class` or `Class | None` names."""
    members = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    classes = [member for member in members if member is not type(None)]
    return classes[0] if len(classes) == 1 and inspect.isclass(classes[0]) else None


def _completed(given: Any, parameter: inspect.Parameter) -> Any:
    """A block for a dataclass, with what it leaves out as in the parameter's own default."""
    default = parameter.default
    if not isinstance(given, dict) or not is_dataclass(default) or isinstance(default, type):
        return given
    return {one.name: getattr(default, one.name) for one in fields(default)} | given


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key: p for key, p in inspect.signature(function).parameters.items() if p.kind in named}


def _is_number(wanted: Any) -> bool:
    members = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    return bool({int, float} & {*members}) and bool not in members


@cache
def _adapter(wanted: Any) -> TypeAdapter:
    return TypeAdapter(wanted)


def _within(value: Any, loc: Sequence[str | int], kind: str) -> Place:
    """pydantic's place of an error without the names of union members, which are nowhere in the recipe."""
    place: Place = ()
    inner: Any = dict(enumerate(value)) if isinstance(value, list) else value
    for part in loc:
        if isinstance(inner, dict) and part in inner:
            place, inner = (*place, part), inner[part]
            inner = dict(enumerate(inner)) if isinstance(inner, list) else inner
        elif kind in ("missing", "missing_argument") and part == loc[-1]:
            place = (*place, part)
    return place


def _advice(error: Any) -> str:
    """What was given instead, and what to do about it."""
    kind, given = error["type"], error["input"]
    if kind in ("missing", "missing_argument", "unexpected_keyword_argument", "extra_forbidden"):
        return ""
    shown = repr(given) if len(repr(given)) <= 80 else f"{repr(given)[:77]}..."
    if kind == "string_type" and isinstance(given, int | float):
        return f", not {shown}: put it in quotes"
    words = re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
    return f", not {shown}.{guess(given, words)}" if guess(given, words) else f", not {shown}"


def _recipes(value: Any) -> list[Recipe]:
    values = value if type(value) is list else value.values() if type(value) is dict else [value]
    return [one for one in values if isinstance(one, Recipe)]


def _each(value: Any, change: Callable[[Recipe], Any]) -> Any:
    """A value with its components changed."""
    if type(value) is list:
        return [_each(one, change) for one in value]
    if type(value) is dict:
        return {name: _each(one, change) for name, one in value.items()}
    return change(value) if isinstance(value, Recipe) else value


def _map(value: Any, component: Callable[[Recipe], Any]) -> Any:
    """A value as JSON has it, its components by `component`."""
    if isinstance(value, Recipe):
        return component(value)
    if type(value) is list:
        return [_map(one, component) for one in value]
    if type(value) is dict:
        return {str(name): _map(one, component) for name, one in value.items()}
    if isinstance(value, set | frozenset):  # without an order of its own
        return sorted((_map(one, component) for one in value), key=str)
    return _adapter(Any).dump_python(value, mode="json", fallback=repr)
