"""What may be wrong with a collection before it is measured on: `python -m retrieval.doctor configs/doctor/x.yaml`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval.analyzers.wordpiece import WordPiece
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.examination import CHECKS, Finding, Patient
from retrieval.files import whole_file
from retrieval.lengths import lengths
from retrieval.protocols import Analyzer, Dataset
from retrieval.resemblance import near_documents, training_and_test
from retrieval.traps import traps
from retrieval.types import Qrels

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["doctor", "examined"]

SEVERITIES = {"error": "bold red", "warning": "yellow", "note": "cyan"}  # worst first; Finding says what each means
Check = Callable[[Patient], Iterator[Finding]]
Part = TypeVar("Part")


def doctor(
    dataset: Dataset,
    splits: list[str] | None = None,
    near: float = 0.8,
    most: int = 100_000,
    tokenizer: Analyzer | None = None,
    limits: tuple[int, ...] = (256, 512),
    out: Path | None = None,
) -> dict[str, Any]:
    """Print what is odd about a collection and what to do, worst first; the same in OUT/doctor.json.

    `splits` are those looked at, by default all. `near` is the Jaccard similarity from which texts nearly repeat; of
    a corpus of more than `most` documents neither near duplicates are looked for nor every length is counted. Lengths
    are in the tokens of `tokenizer`, by default BERT's, against the `limits` of encoders.
    """
    if not 0 < near <= 1 or most < 1 or not limits or min(limits) < 1:
        raise ValueError("near is above 0 and at most 1, most and each of limits is at least 1")
    collection = dataset.open()
    found = examined(collection, splits, near, most, tokenizer or WordPiece(), limits)
    _show(collection, found)
    if out:
        with whole_file(out / "doctor.json") as part:
            part.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def examined(
    collection: Collection,
    splits: list[str] | None,
    near: float,
    most: int,
    tokenizer: Analyzer,
    limits: tuple[int, ...],
) -> dict[str, Any]:
    """All findings, worst first, the checks that found nothing, and those that were not made with the reason.

    A part that cannot be read is a finding itself. Raises ValueError for a split that the collection has not.
    """
    unknown = sorted({*(splits or [])} - {*collection.splits()})
    if unknown:
        raise ValueError(f"{collection.name} has no split {unknown[0]!r}; it has {', '.join(collection.splits())}")
    patient, findings = _opened(collection, splits)
    checks: dict[str, Check] = {**CHECKS, "known traps": traps}
    checks["near-duplicate documents"] = lambda one: near_documents(one, near)
    checks["training and test"] = lambda one: training_and_test(one, near)
    checks["lengths"] = lambda one: lengths(one, tokenizer, limits, most)
    skipped = {}
    if findings:  # of files that cannot be read
        skipped, checks = dict.fromkeys(checks, "a file cannot be read"), {}
    elif len(collection.corpus) > most:
        skipped["near-duplicate documents"] = f"more than {most:,} documents; raise `most` to look all the same"
        del checks["near-duplicate documents"]
    made = {name: list(check(patient)) for name, check in checks.items()}
    findings += [one for several in made.values() for one in several]
    order = list(SEVERITIES)
    return {
        "collection": collection.name,
        "splits": list(patient.qrels),
        "counts": _counts(patient) if made else {},
        "findings": [one.to_dict() for one in sorted(findings, key=lambda one: order.index(one.severity))],
        "nothing found": [name for name, several in made.items() if not several],
        "not looked at": skipped,
    }


def _opened(collection: Collection, splits: list[str] | None) -> tuple[Patient, list[Finding]]:
    """The parts of a collection that can be read, and what is wrong with the others."""
    broken: list[Finding] = []

    def tried(read: Callable[[], Part], otherwise: Part) -> Part:
        try:
            return read()
        except (ValueError, FileNotFoundError) as error:
            broken.append(Finding("error", f"cannot be read: {error}", "mend the file; nothing else is looked at"))
            return otherwise

    tried(lambda: len(collection.corpus), 0)
    queries: Mapping[str, str] = tried(collection.every_query, {})
    qrels: dict[str, Qrels] = {}
    for split in collection.splits() if splits is None else splits:
        qrels[split] = tried(lambda split=split: collection.qrels(split), Qrels.from_dict({}))  # type: ignore[misc]
    if not qrels:
        broken.append(Finding("error", "there are no judgements", "put them at qrels/<split>.tsv"))
    return Patient(collection, queries, qrels), broken


def _counts(patient: Patient) -> dict[str, int]:
    found = {"documents": len(patient.collection.corpus), "queries": len(patient.queries)}
    for split, qrels in patient.qrels.items():
        found |= {f"{split} queries": len(qrels.query_ids), f"{split} judgements": len(qrels)}
    return found


def _show(collection: Collection, found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    counts = ", ".join(f"{count:,} {what}" for what, count in found["counts"].items())
    console.print(f"{collection.name}: {counts or 'not counted'}", markup=False)
    if found["findings"]:
        console.print(_table(found["findings"]))
    if found["nothing found"]:
        console.print(f"nothing found: {', '.join(found['nothing found'])}", markup=False)
    for name, reason in found["not looked at"].items():
        console.print(f"not looked at: {name} ({reason})", markup=False)


def _table(findings: list[dict[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("severity", "finding", show_lines=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("what to do")
    for one in findings:
        shown = f"{one['what']}\n{'; '.join(one['examples'])}".strip()
        count = "" if one["count"] is None else f"{one['count']:,}"
        style = SEVERITIES[one["severity"]]
        table.add_row(f"[{style}]{one['severity']}[/]", escape(shown), count, escape(one["advice"]))
    return table


if __name__ == "__main__":
    run(doctor)
