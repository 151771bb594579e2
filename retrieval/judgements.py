"""What a model judged: a file of its own kind, which no reader of qrels takes, and figures that carry its name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.columns import lines, whole_text
from retrieval.store import plain
from retrieval.types import Qrels

__all__ = ["JUDGED", "Judgement", "Judgements", "judged_by", "read_judgements", "refuse_two_judges", "write_judgements"]

GRADES = (0, 1, 2, 3)
JUDGED = b'{"judge"'  # how a file begins


@dataclass(frozen=True)
class Judgement:
    """What a model said of one pair; no grade is what could not be read or had, and is never taken for one."""

    query: str
    document: str
    grade: int | None
    answer: str  # the last, as it was given
    asked: int = 1  # times


@dataclass(frozen=True, eq=False)
class Judgements:
    """The judgements of one model, and all that determined them, as plain values."""

    judge: str
    about: Mapping[str, Any]  # model, prompt and its digest, sampling, corpus
    pairs: Sequence[Judgement]

    def qrels(self, query_ids: Sequence[str]) -> Qrels:
        """The grades of these queries, under the model's name; a query without any is kept, and scores 0."""
        judged: dict[str, dict[str, int]] = {query: {} for query in query_ids}
        for one in self.pairs:
            if one.grade is not None and one.query in judged:
                judged[one.query][one.document] = one.grade
        return Qrels.from_dict(judged, self.judge)


def judged_by(name: str, judge: str | None) -> str:
    """What figures are called: their own name, with the model where a model judged."""
    return name if judge is None else f"{name}, judged by {judge}"


def refuse_two_judges(judges: Iterable[str | None]) -> None:
    """Raises ValueError where figures that are to be compared or averaged are not all by the same judge."""
    names = list(dict.fromkeys("people" if judge is None else judge for judge in judges))
    if len(names) > 1:
        raise ValueError(f"judgements of {' and of '.join(names)} are not mixed: measure all by the same judge")


def write_judgements(judgements: Judgements, path: Path | str) -> None:
    """Write JSON lines, whole or not at all: the judge, then a pair a line, gzipped for .gz.

    Raises ValueError for a place below a folder of qrels, where they would be taken for people's.
    """
    path = Path(path)
    if any(part.startswith("qrels") for part in path.resolve().parts):
        raise ValueError(f"{path} is among qrels: those are what people judged; write judgements of a model elsewhere")
    with whole_text(path) as file:
        file.write(f"{plain({'judge': judgements.judge, 'made of': judgements.about})}\n".encode())
        for one in judgements.pairs:
            file.write(json.dumps(asdict(one), ensure_ascii=False).encode() + b"\n")


def read_judgements(path: Path | str) -> Judgements:
    """What `write_judgements` wrote. Raises ValueError with file and line for what is no judgement, or there twice."""
    path = Path(path)
    first, *rest = list(lines(path)) or [(1, b"")]
    if not first[1].startswith(JUDGED):
        raise ValueError(f"{path}:{first[0]}: no judgements of a model, which begin with their judge; are these qrels?")
    try:
        head = json.loads(first[1])
        judge, about = head["judge"], head["made of"]
    except (ValueError, KeyError):
        raise ValueError(f"{path}:{first[0]}: the line of the judge is damaged; judge again") from None
    return Judgements(judge, about, list(_pairs(path, rest)))


def _pairs(path: Path, rest: Sequence[tuple[int, bytes]]) -> Iterator[Judgement]:
    seen: set[tuple[str, str]] = set()
    for number, line in rest:
        try:
            one = Judgement(**json.loads(line))
        except (ValueError, TypeError):
            raise ValueError(f"{path}:{number}: this line is no judgement; judge again") from None
        if one.grade not in (None, *GRADES):
            raise ValueError(f"{path}:{number}: the grade is {one.grade!r}, not one of {GRADES} or null")
        if (one.query, one.document) in seen:
            raise ValueError(f"{path}:{number}: query {one.query!r} and document {one.document!r} are there twice")
        seen.add((one.query, one.document))
        yield one
