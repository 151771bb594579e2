"""YAML whose every value knows the line it was written on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

__all__ = ["Place", "Reader", "dotted", "dump", "problem"]

Place = tuple[str | int, ...]  # of a value in a recipe: ("retrievers", 0, "k1")
Inside = tuple[yaml.Node, ...]  # the blocks around a value, outermost first


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars, as people expect them: `2e-5`, `010` are numbers; `no`, `2024-01-01` are words."""


class _Dumper(yaml.SafeDumper):
    """Quotes the words that `_Loader` would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write an object that occurs twice twice."""
        return True


_NUMBER = list("-+.0123456789")
_SCALARS = {
    "null": (r"(null|Null|NULL|~|)\Z", ["n", "N", "~", ""]),
    "bool": (r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    "int": (r"[-+]?\d+\Z", _NUMBER),
    "float": (r"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z", _NUMBER),
    "merge": (r"<<\Z", ["<"]),
}
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _kind, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern, re.ASCII), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 10))


class Reader:
    """Turns YAML into plain values; `origins` says where each was written, `mistakes` which keys were given twice.

    Anchors, aliases and `<<` work; the line of what they bring is the line it was first written on.
    """

    def __init__(self, file: str, numbered: bool = True):
        """`file` is what origins name, followed by the line if `numbered`."""
        self.file, self.numbered = file, numbered
        self.origins: dict[Place, str] = {}
        self.mistakes: list[str] = []

    def parse(self, text: str, place: Place = ()) -> Any:
        """The value of a text, which is at `place` in the recipe. Raises YAMLError."""
        self.loader = _Loader(text)
        return self._plain(self.loader.get_single_node(), place, ())

    def _plain(self, node: yaml.Node | None, place: Place, inside: Inside) -> Any:
        if node is None:
            return None
        if any(node is other for other in inside):
            raise _at(node, "this block contains itself")
        self._refuse_tag(node)
        if isinstance(node, yaml.ScalarNode):
            return self.loader.construct_object(node)
        if isinstance(node, yaml.SequenceNode):
            self.origins |= {(*place, i): self._line(item) for i, item in enumerate(node.value)}
            return [self._plain(item, (*place, i), (*inside, node)) for i, item in enumerate(node.value)]
        block: dict[str, Any] = {}
        for key, value in self._pairs(node, place, (*inside, node)):
            self.origins[(*place, key.value)] = self._line(key)
            block[key.value] = self._plain(value, (*place, key.value), (*inside, node))
        return block

    def _pairs(self, node: yaml.Node, place: Place, inside: Inside) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The keys and values of a block, then those that `<<` merges in and the block has not itself."""
        seen: set[str] = set()
        merged: list[yaml.Node] = []  # a block's own keys come before those it merges in, wherever `<<` stands
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _at(key, "a key is a word")
            if key.tag == "tag:yaml.org,2002:merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.value in seen:
                self.mistakes.append(f"{self._line(key)}: {dotted((*place, key.value))}: given twice")
            else:
                seen.add(key.value)
                yield key, value
        for key, value in self._merged(merged, place, inside):
            if key.value not in seen:
                seen.add(key.value)
                yield key, value

    def _merged(self, blocks: list[yaml.Node], place: Place, inside: Inside) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        for block in blocks:
            if not isinstance(block, yaml.MappingNode) or any(block is other for other in inside):
                raise _at(block, "<< takes another block, or a list of them")
            yield from self._pairs(block, place, (*inside, block))

    def _refuse_tag(self, node: yaml.Node) -> None:
        text, plain = (node.value, node.style is None) if isinstance(node, yaml.ScalarNode) else (None, True)
        if node.tag != self.loader.resolve(type(node), text, (plain, True)):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise _at(node, f"the tag {tag} is not read here; leave it out, and quote what is a word")

    def _line(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}" if self.numbered else self.file


def dump(tree: Any) -> str:
    """YAML that reads back as the same values."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def dotted(place: Place) -> str:
    """A place as overrides write it: `retrievers.0.k1`."""
    return ".".join(map(str, place))


def problem(error: yaml.YAMLError) -> tuple[int, str]:
    """The line of a YAML error, from 1, and what is wrong there."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return error.problem_mark.line + 1, str(error.problem)
    return 1, " ".join(str(error).split())


def _at(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
