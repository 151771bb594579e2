"""Preference pairs of query rewrites, chosen by a frozen retriever (QTA, SIGIR-AP 2024)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from retrieval.files import whole_file
from retrieval.order import PAD
from retrieval.types import Run

__all__ = ["Preference", "distinct", "mine", "mine_best", "pair", "ranks_of", "read_pairs", "write_pairs"]

Ranks = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Preference:
    """Two answers to a chat, of which one serves a query better; or the best one alone."""

    query_id: str
    messages: Sequence[Mapping[str, str]]  # the chat, {"role": ..., "content": ...}
    chosen: str
    rejected: str | None = None


def pair(ranks: Ranks, k: int | None = None, margin: float = 0.0) -> tuple[str, str] | None:
    """The chosen and the rejected text: the best and the worst of those that were searched.

    `ranks` has, for each text, the rank from 1 of every document that is needed. With `k`, texts are compared by
    whether all of these are among the first k (Sufficiency@k) and, among equals, by the mean rank; without, by the mean
    rank alone. None where best and worst are as good, or equal by Sufficiency@k and less than `margin` ranks apart:
    there is nothing to learn. Raises ValueError for a text without ranks.
    """
    worth = _worth(ranks, k)
    best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
    close = worth[best][0] == worth[worst][0] and worth[best][1] - worth[worst][1] < margin
    return None if worth[best] == worth[worst] or close else (best, worst)


def _worth(ranks: Ranks, k: int | None) -> dict[str, tuple[bool, float]]:
    """By what texts are compared, the higher the better. Raises ValueError for a text without ranks."""
    lacking = next((text for text, found in ranks.items() if not len(found)), None)
    if lacking is not None:
        raise ValueError(f"{lacking!r} has no rank of any document that is needed")
    return {text: (k is not None and max(found) <= k, -float(np.mean(found))) for text, found in ranks.items()}


def mine(
    chats: Mapping[str, Sequence[Mapping[str, str]]],
    ranks: Mapping[str, Ranks],
    k: int | None = None,
    margin: float = 0.0,
) -> tuple[list[Preference], dict[str, int]]:
    """The pair of each query that has one, and how many queries have none, by why.

    `chats` has, by query id, the chat that asked for the texts, `ranks` the texts as `pair` takes them.
    """
    pairs: list[Preference] = []
    dropped = dict.fromkeys(("queries without a second text", "queries without a difference"), 0)
    for query, messages in chats.items():
        found = pair(ranks[query], k, margin) if len(ranks[query]) > 1 else None
        if found:
            pairs.append(Preference(query, messages, *found))
        else:
            dropped[f"queries without a {'second text' if len(ranks[query]) < 2 else 'difference'}"] += 1
    return pairs, {"queries": len(chats), **dropped, "pairs": len(pairs)}


def mine_best(
    chats: Mapping[str, Sequence[Mapping[str, str]]], ranks: Mapping[str, Ranks], k: int | None = None
) -> tuple[list[Preference], dict[str, int]]:
    """The best text of every query that has any, the first of equal ones, and how many queries have none.

    Texts are compared as `pair` compares them: the best of n is learned also where it is as good as the others.
    Kachuee et al. (2025).
    """
    found = []
    for query, messages in chats.items():
        worth = _worth(ranks[query], k)
        if worth:
            found.append(Preference(query, messages, max(worth, key=worth.__getitem__)))
    return found, {"queries": len(chats), "queries without a text": len(chats) - len(found), "texts": len(found)}


def ranks_of(run: Run, needed: Sequence[np.ndarray], depth: int) -> list[list[int]]:
    """The rank from 1 of each needed row (an array for each query); `depth` + 1 for one not among the first `depth`.

    So ranks a row -1 too, a document that the corpus does not have.
    """
    places = [{row: n for n, row in enumerate(rows[:depth].tolist(), 1) if row != PAD} for rows in run.rows]
    return [[place.get(row, depth + 1) for row in rows.tolist()] for place, rows in zip(places, needed, strict=True)]


def distinct(texts: Iterable[str | None]) -> list[str]:
    """The texts in order, each once: case and blanks make no other text. None, a text that failed, is left out."""
    found: dict[str, str] = {}
    for text in texts:
        if text is not None:
            found.setdefault(" ".join(text.split()).casefold(), text)
    return list(found.values())


def write_pairs(path: Path, pairs: Iterable[Preference]) -> None:
    """Write one pair a line as JSON; the file is there whole or not at all."""
    with whole_file(path) as part:
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in pairs]
        part.write_text("".join(lines), encoding="utf-8")


def read_pairs(path: Path) -> list[Preference]:
    """The pairs of a file. Raises ValueError that names the line that is wrong."""
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                found.append(Preference(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number}: each line is a pair with query_id, messages, chosen and rejected ({error})"
                ) from None
    return found
