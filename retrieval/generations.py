"""Look at what language models have answered, take it along: `python -m retrieval.generations [export|load FILE]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.describe import MENDABLE
from retrieval.manifest import one_line
from retrieval.store import GenerationStore

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["main"]

DIGEST = re.compile("[0-9a-f]{32,}")
FIRST = ("model", "revision")  # of a contract, shown first
COUNTS = ("answers", "failures", "hits", "tokens in", "tokens out", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Statistics of the store, all of it written to a file, or what such a file holds taken in.

    The store is generations.sqlite in the folder RETRIEVAL_CACHE. Exits with 1 where something can be mended.
    """
    parser = argparse.ArgumentParser(prog="python -m retrieval.generations", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("statistics", help="what each model was asked (the default)")
    for verb, does in (("export", "write all answers to"), ("load", "take in the answers of")):
        verbs.add_parser(verb, help=f"{does} a file of JSON lines, gzipped for .gz").add_argument("file", type=Path)
    asked = parser.parse_args(arguments)
    store = GenerationStore()
    try:
        _do(store, asked.verb or "statistics", getattr(asked, "file", None))
    except MENDABLE as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    finally:
        store.close()


def _do(store: GenerationStore, verb: str, file: Path | None) -> None:
    if verb == "load" and file:
        print(f"{store.path}: {store.load(file):,} new answers from {file}")
        return
    if not store.path.exists():
        raise FileNotFoundError(
            f"{store.path} is not there: nothing was kept yet, or RETRIEVAL_CACHE names another folder"
        )
    if verb == "export" and file:
        print(f"{file}: {store.export(file):,} answers of {store.path}")
    else:
        _show(store)


def _show(store: GenerationStore) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(_table(store.statistics(), f"{store.path} ({store.path.stat().st_size / 2**20:.1f} MiB)"))
    console.print("seconds: of generating, failures included; hits: answers that were used again")


def _table(models: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A line for each model, and the sums of several."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("model", title=escape(title), title_justify="left")
    for count in COUNTS:
        table.add_column(count, justify="right", no_wrap=True)
    for one in models:
        table.add_row(escape(_named(one["model"])), *(_number(one[count]) for count in COUNTS))
    if len(models) > 1:
        table.add_section()
        table.add_row("all", *(_number(sum(one[count] for one in models)) for count in COUNTS))
    return table


def _named(contract: Mapping[str, Any]) -> str:
    """The plain values of a contract, model and revision first, digests cut."""
    keys = [*(name for name in FIRST if name in contract), *(name for name in contract if name not in FIRST)]
    plain = {name: str(contract[name]) for name in keys if isinstance(contract[name], str | int | float)}
    short = {name: text[:12] if DIGEST.fullmatch(text) else text for name, text in plain.items()}
    return ", ".join(text if name == "model" else f"{name} {text}" for name, text in short.items())


def _number(value: float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


if __name__ == "__main__":
    main()
