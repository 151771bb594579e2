"""Choose a retriever's settings without the queries they are tested on: `python -m retrieval.tune configs/x.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from eval import evaluate
from eval.measures import parse
from eval.nested import best, folds_of, nested
from eval.report import figures, print_report
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.config import VariantsOf
from retrieval.files import digest
from retrieval.locate import cache_folder
from retrieval.looks import choose_on, look, told
from retrieval.order import PAD
from retrieval.protocols import Dataset, Retriever
from retrieval.remembered import remembering
from retrieval.run_file import read_run, write_run
from retrieval.search import MEASURES, check, searched
from retrieval.types import Queries, Run

__all__ = ["tune"]

SHOWN = 5  # of what was tried, the best


def tune(
    dataset: Dataset,
    retriever: Retriever,
    choices: Annotated[dict[str, Retriever], VariantsOf("retriever")],
    split: str | None = None,
    folds: int | None = None,
    test: str = "test",
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    k: int = 1000,
    bound: bool = False,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Choose settings of a retriever by the first measure, and show what they score on queries that had no say in it.

    `choices` maps dotted keys of the retriever's block to lists of values, of which every combination is tried, or
    names whole retrievers. With a `split` one is chosen there, and measured on `test` once. With `folds` the queries of
    `test` are parted, equal ones together: for those of each fold one is chosen on all others, and each query scores
    what the choice made without it gives. The retriever as written is the row `defaults`.

    `bound` also tells what the choice that is best on `test` itself scores, which no choice made beforehand can
    promise; with a `split` it looks at the test set with every choice. OUT holds the runs, defaults.* and tuned.*, and
    choices/SPLIT/*, from which a killed one goes on.
    """
    if (split is None) == (folds is None):
        raise ValueError("give `split` to choose on it, or `folds` to choose by nested cross-validation within `test`")
    if len(choices) < 2:
        raise ValueError(f"choices: {len(choices)} leaves nothing to choose; give a key two values at least")
    collection = dataset.open()
    check(collection, test, measures, k)
    trial = _Trial(collection, choices, str(parse(measures[0])), k, out)
    made = _within(trial, test, folds, seed) if folds is not None else _across(trial, split or "", test, bound)
    default = next((made.tried[name] for name, one in choices.items() if one is retriever and name in made.tried), None)
    runs = {"defaults": default or trial.run(retriever, collection.queries(test)), "tuned": made.tuned}
    for name, found in runs.items() if out else ():
        write_run(found, out / f"{name}.parquet")  # type: ignore[operator]
        write_run(found, out / f"{name}.trec")  # type: ignore[operator]
    results = _reported(trial, test, measures, runs, made, bound)
    if folds is not None:  # told beside whatever is measured there from now on
        choose_on(collection, test, "tune", made.tried.values())
    return results


@dataclass(frozen=True, eq=False)
class _Trial:
    """Choices, and how they are tried."""

    collection: Collection
    choices: Mapping[str, Retriever]
    measure: str
    k: int
    out: Path | None

    def runs(self, split: str) -> dict[str, Run]:
        """What each choice finds; a part that stands in several of them searches once."""
        queries = self.collection.queries(split)
        with remembering(queries):
            every = tqdm(self.choices.items(), f"choices on {split}", leave=False)
            return {name: self._kept(one, queries, split, name) for name, one in every}

    def run(self, retriever: Retriever, queries: Queries) -> Run:
        """What one retriever finds."""
        retriever.open(self.collection.corpus, cache_folder())
        return searched(self.collection, retriever, queries, self.k)

    def values(self, runs: Mapping[str, Run], split: str) -> np.ndarray:
        """float64 [choices, queries] of the measure, in the order of the judgements."""
        qrels = self.collection.qrels(split)
        return np.stack([evaluate(one, qrels, [self.measure]).values[self.measure] for one in runs.values()])

    def _kept(self, retriever: Retriever, queries: Queries, split: str, name: str) -> Run:
        key = digest([name, self.k, self.collection.corpus.fingerprint, [*queries.ids], [*queries.texts]])
        path = self.out / "choices" / split / f"{key}.parquet" if self.out else None
        if path and path.is_file():
            retriever.open(self.collection.corpus, cache_folder())  # the manifest asks what it is made of
            return read_run(path, queries.ids, self.collection.corpus.ids)
        found = self.run(retriever, queries)
        if path:
            write_run(found, path)
        return found


@dataclass(frozen=True, eq=False)
class _Made:
    """A choice, or one for each fold, and the run that it makes of the test queries."""

    chosen: Sequence[str]
    means: Mapping[str, float]  # of each choice, on the queries that had a say
    tuned: Run
    tried: Mapping[str, Run]  # choices that were tried on the test queries
    notes: Sequence[str]


def _across(trial: _Trial, split: str, test: str, bound: bool) -> _Made:
    """Chosen on one split for another, which is searched only then."""
    own = _own(trial.collection, split, test)
    runs = trial.runs(split)
    values = trial.values(runs, split)[:, own]
    choose_on(trial.collection, split, "tune", runs.values())
    name = list(trial.choices)[best(values)]
    tried = trial.runs(test) if bound else {}
    tuned = tried.get(name) or trial.run(trial.choices[name], trial.collection.queries(test))
    notes = [f"chosen on {own.sum()} queries of {split}, of {len(values)} choices: {name}"]
    if not own.all():
        notes.append(f"queries of {split} that had no say, as {test} asks the same: {(~own).sum()}")
    return _Made([name], _means(runs, values), tuned, tried, notes)


def _within(trial: _Trial, test: str, folds: int, seed: int) -> _Made:
    """Chosen for the queries of each fold on those of the others."""
    ids = trial.collection.qrels(test).query_ids
    fold = _folds(trial.collection.queries(test), ids, folds, seed)
    runs = trial.runs(test)
    values = trial.values(runs, test)
    made, names = nested(values, fold), list(runs)
    tuned = _pieced(runs, {query: names[place] for query, place in zip(ids, made.choice, strict=True)})
    chosen, sizes = [names[place] for place in made.chosen], np.bincount(fold)
    notes = [
        f"fold {n}: {size} queries, by what was best on the other {len(ids) - size}: {name}"
        for n, (name, size) in enumerate(zip(chosen, sizes, strict=True), 1)
    ]
    return _Made(chosen, _means(runs, values), tuned, runs, notes)


def _folds(queries: Queries, ids: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """int [ids], the fold of each query; those of the same words are in one, so that none has a say in its like."""
    words = dict(zip(queries.ids, map(_words, queries.texts), strict=True))
    first: dict[str, str] = {}
    for query in ids:
        first.setdefault(words[query], query)
    fold = dict(zip(first, folds_of(list(first.values()), folds, seed).tolist(), strict=True))
    return np.array([fold[words[query]] for query in ids])


def _words(text: str) -> str:
    """A text, the same whatever its capitals and blanks."""
    return " ".join(text.casefold().split())


def _own(collection: Collection, split: str, test: str) -> np.ndarray:
    """bool [queries of the split], those whose words test does not ask. Raises ValueError for queries of test."""
    fix = "choose on another split, or give folds to choose by nested cross-validation"
    if split in ("test", test):
        raise ValueError(f"split {split} is what systems are tested on: {fix}")
    queries, tested = collection.queries(split), collection.queries(test)
    both = set(queries.ids) & set(tested.ids)
    if both:
        raise ValueError(f"{len(both)} queries of {split} are queries of {test}, such as {min(both)!r}: {fix}")
    words, asked = dict(zip(queries.ids, map(_words, queries.texts), strict=True)), {*map(_words, tested.texts)}
    own = np.array([words[query] not in asked for query in collection.qrels(split).query_ids])
    if not own.any():
        raise ValueError(f"all {len(own)} queries of {split} are asked in {test} too: {fix}")
    return own


def _means(runs: Mapping[str, Run], values: np.ndarray) -> dict[str, float]:
    return dict(zip(runs, values.mean(axis=1).tolist(), strict=True))


def _pieced(runs: Mapping[str, Run], choice: Mapping[str, str]) -> Run:
    """One run that has each query from the run that was chosen for it."""
    first = next(iter(runs.values()))
    width = max(one.rows.shape[1] for one in runs.values())
    rows = np.full((len(first.query_ids), width), PAD, np.int32)
    scores = np.full(rows.shape, -np.inf, np.float32)
    for place, query in enumerate(first.query_ids):
        found = runs[choice[query]]
        rows[place, : found.rows.shape[1]], scores[place, : found.rows.shape[1]] = (
            found.rows[place],
            found.scores[place],
        )
    return Run(first.query_ids, first.docs, rows, scores, "tuned")


def _reported(
    trial: _Trial, test: str, measures: Sequence[str], runs: Mapping[str, Run], made: _Made, bound: bool
) -> dict[str, Any]:
    """Print the figures, what was chosen and what was looked at; the same as plain values."""
    qrels = trial.collection.qrels(test)
    systems = {name: evaluate(found, qrels, measures) for name, found in runs.items()}
    seen = look(trial.collection, test, "tune", [*runs.values(), *made.tried.values()])
    notes, found = [*made.notes, *_tried(trial, made)], {}
    if bound:
        means = _means(made.tried, trial.values(made.tried, test))
        name = max(means, key=means.__getitem__)
        found = {"best on test": {"choice": name, "mean": {trial.measure: means[name]}, "optimistic": True}}
        notes.append(
            f"optimistic bound: {trial.measure} {means[name]:.4f} by {name}, chosen on the queries it is measured on"
        )
    print_report(systems, f"{trial.collection.name}, {test}", "defaults", [*notes, told(seen)])
    made_of = {"chosen": list(made.chosen), "tried": dict(made.means)}
    return figures(systems, "defaults") | found | made_of | {"looks": seen}


def _tried(trial: _Trial, made: _Made) -> list[str]:
    """The best of what was tried, by its mean on the queries that had a say."""
    ranked = sorted(made.means.items(), key=lambda one: -one[1])[:SHOWN]
    lines = [f"  {mean:.4f} {name}" for name, mean in ranked]
    return [f"{trial.measure} on the queries that had a say, the best {len(lines)} of {len(made.means)}:", *lines]


if __name__ == "__main__":
    run(tune)
