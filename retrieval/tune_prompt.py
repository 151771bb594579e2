"""Tune a soft prompt that makes a language model write queries: `python -m retrieval.tune_prompt configs/x.yaml`.

`retrieval.synthesize` then asks the model with it. Killed and started again, it goes on after the last group of
examples that was tried, or the last whole epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.lists import Lists
from retrieval.protocols import Dataset
from retrieval.types import Queries
from training.contamination import contamination
from training.query_prompt import Pair, write_pairs

if TYPE_CHECKING:
    from training.softprompt import Item, SoftPrompt

__all__ = ["tune_prompt"]


def tune_prompt(
    dataset: Dataset,
    soft_prompt: SoftPrompt,
    split: str = "train",
    evaluation: str | None = None,
    queries: int = 50,
    evaluation_queries: int = 100,
    examples: int = 1,
    shown: Literal["chosen", "random"] = "chosen",
    groups: int = 1,
    seed: int = 10,
    out: Path | None = None,
) -> dict[str, Any]:
    """Tune with the pairs of a few queries of a split, on those of others; the lowest loss on the latter is kept.

    Before each document stand `examples` pairs. "chosen" takes that of `groups` random groups of training pairs with
    the lowest loss before tuning, for all documents, and out of training; "random" draws training pairs for each. The
    evaluation queries are of the split `evaluation`, or others of the same one; what they share with those tuned with,
    exactly or nearly, is counted beside the losses. OUT/prompt is the adapter for a
    generator, OUT/examples.jsonl the `examples` of its prompt, or those that were drawn from.
    """
    if out is None:
        raise ValueError("tuning needs a folder: give out")
    if examples < 0 or groups < 1 or queries < 1 or evaluation_queries < 1:
        raise ValueError("examples is 0 or more, and groups, queries and evaluation_queries are at least 1")
    train, held_out = _pairs(dataset.open(), split, evaluation, queries, evaluation_queries, seed)
    found: dict[str, Any] = {"pairs": len(train), "evaluation pairs": len(held_out)}
    found["contamination"] = _shared(train, held_out)
    if shown == "random":
        used, items = train, _drawn(train, held_out, examples, soft_prompt, seed)
    else:
        kept = out / "groups.json"
        used, found["losses of groups"] = _chosen(train, held_out, examples, groups, soft_prompt, seed, kept)
        items = _after(used, train, held_out, soft_prompt)
    epochs = soft_prompt.tune(*items, out)
    write_pairs(used, out / "examples.jsonl")  # last: a folder of another tuning keeps its own
    return _reported(found, epochs, out)


def _reported(found: dict[str, Any], epochs: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    losses = [one["evaluation"] for one in epochs]
    found |= {"loss at the start": losses[0], "lowest loss": min(losses), "epoch": int(np.argmin(losses))}
    found["epochs"] = len(losses) - 1
    for what, value in found.items():
        if what != "contamination":
            print(f"{what}: {value}")
    counts = {what: count for what, count in found["contamination"].items() if "trained on" in what and count}
    shared = ", ".join(f"{what} {count}" for what, count in counts.items())
    print(f"shared by tuning and evaluation: {shared or 'no query and no document, nor nearly'}")
    print(f"soft prompt: {out / 'prompt'}")
    return found


def _pairs(
    collection: Collection, split: str, evaluation: str | None, queries: int, others: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """The pairs of the queries drawn to train with, and of those drawn to evaluate on; no query is in both."""
    rng = np.random.default_rng(seed)
    names = _relevant(collection, split)
    drawn = [list(names)[place] for place in rng.permutation(len(names)).tolist()]
    train, rest = drawn[:queries], drawn[queries:]
    held_out = names
    if evaluation is not None:
        held_out = _relevant(collection, evaluation)
        left = [name for name in held_out if name not in {*train}]
        rest = [left[place] for place in rng.permutation(len(left)).tolist()]
    if not rest:
        raise ValueError(
            f"{len(names)} queries of {split} leave none to evaluate on: lower queries, or name a split `evaluation`"
        )
    return _written(collection, split, names, train), _written(collection, evaluation or split, held_out, rest[:others])


@dataclass
class _Documents:
    """Texts in memory, as Passages."""

    every: Sequence[str]
    fingerprint: str = "documents of pairs"

    def __len__(self) -> int:
        return len(self.every)

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return [self.every[int(row)] for row in rows]


def _shared(train: Sequence[Pair], held_out: Sequence[Pair]) -> dict[str, int]:
    """What the pairs that are evaluated on share with those tuned with; each query and document counts once."""
    places = np.arange(len(train))
    queries = Queries([str(place) for place in places], [pair.query for pair in train])
    documents = _Documents([pair.document for pair in train])
    lists = Lists.of(queries, documents, places, places, np.ones(len(train)))
    asked, read = (list(dict.fromkeys(texts)) for texts in zip(*(pair[:2] for pair in held_out), strict=True))
    found = contamination(lists, Queries([str(place) for place in range(len(asked))], asked), read)
    return {what.replace("test", "evaluation").replace("judged ", ""): count for what, count in found.items()}


def _relevant(collection: Collection, split: str) -> dict[str, list[int]]:
    """Query id -> rows of the documents that are relevant to it, of queries that have any."""
    qrels = collection.qrels(split)
    rows = collection.corpus.ids.rows(qrels.doc_ids)
    found: dict[str, list[int]] = {}
    for query, row, grade in zip(qrels.query.tolist(), rows.tolist(), qrels.grades.tolist(), strict=True):
        if grade > 0 and row >= 0:
            found.setdefault(qrels.query_ids[query], []).append(row)
    if not found:
        raise ValueError(f"{collection.name} {split} has no query with a relevant document in the corpus")
    return found


def _written(collection: Collection, split: str, relevant: dict[str, list[int]], names: Sequence[str]) -> list[Pair]:
    queries = collection.queries(split)
    texts = dict(zip(queries.ids, queries.texts, strict=True))
    rows = [(name, row) for name in names for row in relevant[name]]
    documents = collection.corpus.texts([row for _, row in rows])
    return [Pair(texts[name], document) for (name, _), document in zip(rows, documents, strict=True)]


def _drawn(
    train: list[Pair], held_out: list[Pair], count: int, soft_prompt: SoftPrompt, seed: int
) -> tuple[list[Item], list[Item]]:
    from training.softprompt import random_examples

    prompt = soft_prompt.prompt
    return (
        random_examples(train, train, count, prompt, seed),
        random_examples(held_out, train, count, prompt, seed),
    )


def _chosen(
    train: list[Pair], held_out: list[Pair], count: int, groups: int, soft_prompt: SoftPrompt, seed: int, kept: Path
) -> tuple[list[Pair], list[float]]:
    """The example pairs, and the loss of each group that was tried, kept in a file as it comes."""
    from training.softprompt import choose, same_examples

    if len(train) <= count:
        raise ValueError(f"{len(train)} training pairs leave none beside {count} examples: show fewer")
    if not count:
        return [], []
    rng = np.random.default_rng([seed, count])
    drawn = [[train[place] for place in rng.permutation(len(train))[:count].tolist()] for _ in range(groups)]
    if groups == 1:
        return drawn[0], []
    return choose(drawn, lambda group: soft_prompt.loss(same_examples(held_out, group, soft_prompt.prompt), kept))


def _after(
    group: list[Pair], train: list[Pair], held_out: list[Pair], soft_prompt: SoftPrompt
) -> tuple[list[Item], list[Item]]:
    """The items of training, without the example pairs, and of evaluation."""
    from training.softprompt import same_examples

    left = [pair for pair in train if pair not in group]
    return same_examples(left, group, soft_prompt.prompt), same_examples(held_out, group, soft_prompt.prompt)


if __name__ == "__main__":
    run(tune_prompt)
