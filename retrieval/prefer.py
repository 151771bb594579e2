"""Train a query rewriter on what a frozen retriever prefers: `python -m retrieval.prefer configs/x.yaml`."""

from __future__ import annotations

import inspect
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eval import evaluate
from eval.report import figures, print_report
from prf._writing import Texts, prompt_of
from retrieval.asking import Asker
from retrieval.chat_prompt import MessagePrompt
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.composed import settings
from retrieval.files import digest, whole_file
from retrieval.locate import cache_folder
from retrieval.looks import look, told
from retrieval.protocols import Dataset, Generator, Reformulator, Retriever
from retrieval.retrievers.rewrite import Rewrite
from retrieval.run_file import write_run
from retrieval.sampling import Sampling
from retrieval.search import check, searched
from retrieval.types import Feedback, Queries, Run
from training.contamination import contamination
from training.near_duplicates import shingles
from training.preference import Preference, distinct, mine, mine_best, ranks_of, read_pairs, write_pairs
from training.sources.judged import lists_of

if TYPE_CHECKING:
    from training.rewriter import RewriterTrainer

__all__ = ["Pairing", "prefer"]

MEASURES = ["Sufficiency@10", "nDCG@10"]
OWN = {"dpo": "pairs that choose the query", "sft": "texts that are the query"}


@dataclass(frozen=True)
class Pairing:
    """How texts are ranked; training.preference.pair says what `k` and `margin` do, and SFT has no use for a margin.

    `samples` texts are asked for each query, and with `original` its own text takes part, joined to its query like
    any other. `depth` documents are
    searched, one that is not among them ranks next after. A document is needed from the grade `relevant` on.
    """

    samples: int = 4
    original: bool = True
    k: int | None = 10
    margin: float = 0.0
    depth: int = 1000
    relevant: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1 or self.depth < 1 or not (self.k is None or 1 <= self.k <= self.depth):
            raise ValueError(
                f"samples and depth are at least 1 and k is between 1 and depth, not {self.samples}, {self.depth} "
                f"and {self.k}"
            )


def prefer(
    dataset: Dataset,
    retriever: Retriever,
    generator: Generator,
    trainer: RewriterTrainer,
    pairs: Pairing = Pairing(),  # noqa: B008 - frozen
    join: Reformulator | None = None,
    prompt: Path | None = None,
    sampling: Sampling = Sampling(max_tokens=128, temperature=1.0),
    rounds: int = 1,
    split: str = "train",
    test: str = "test",
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    fallback: Literal["keep"] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Sample rewrites of the queries of `split`, learn which the retriever prefers, measure on `test` before and after.

    `prompt` is a file of chat turns with {query}; None is `general` of the writer multi_query. `join` puts a rewrite to
    its query, as in `rewrite`; None lets it take the query's place. DPO learns the best text of a query against its
    worst, SFT the best of every query. Each of the `rounds` goes on from the adapter of the one before, which then
    samples too. On `test` the likeliest rewrite is taken; with `fallback: keep` a query whose rewrite failed stays as
    it is. Queries of `split` that `test` has too are left out, and counted as is what else the two share.
    OUT/round-N holds pairs.jsonl, pairs.json (counts) and adapter/, for a generator's `adapter`; OUT a run file per
    system. Killed, it goes on: answers, pairs and adapters that are finished are kept, an unfinished adapter is begun
    anew.
    """
    if out is None or rounds < 1:
        raise ValueError(f"preference training needs out, a folder, and at least 1 round, not {rounds}")
    _refuse_untrainable(generator)
    Texts(generator, sampling, pairs.samples, fallback)  # refuses what cannot be before anything is asked
    _refuse_margin(trainer, pairs)
    collection = _opened(dataset, split, test, measures, pairs.depth)
    trained_on, left_out = _apart(collection, split, test)
    shared = _shared(collection, trained_on, split, test, pairs.relevant)
    search = _Search(collection, retriever, join, pairs.depth)
    rewriter = _Rewriter(prompt_of("multi_query_general", prompt, ("query",)), sampling, fallback)
    mining = _Mining(rewriter, search, pairs, trainer.objective, split, trained_on)
    queries = collection.queries(test)
    systems, made = {"query": search.found(queries)}, []
    systems["untrained"] = search.found(queries, rewriter.likeliest(generator, queries))
    for number in range(1, rounds + 1):
        folder = out / f"round-{number}"
        chosen, counts = mining.kept(generator, folder)
        made.append({**counts, "training": trainer.train(generator, chosen, folder / "adapter")})
        generator = _wearing(generator, folder / "adapter")
        systems[f"round {number}"] = search.found(queries, rewriter.likeliest(generator, queries))
    notes = [*_told(made), f"adapter: {out / f'round-{rounds}' / 'adapter'}", *_told_shared(shared, left_out, split)]
    about = {"rounds": made, "test queries left out of training": left_out, "contamination": shared, **rewriter.counts}
    return _report(collection, systems, test, measures, out, notes) | about


class _Given:
    """A writer of texts that are there already."""

    needs: Sequence[str] = ()

    def __init__(self) -> None:
        self.texts: Sequence[str | None] = ()

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        return [[] if text is None else [text] for text in self.texts]


class _Search:
    """The frozen retriever, opened, with what puts a text to a query."""

    def __init__(self, collection: Collection, retriever: Retriever, join: Reformulator | None, depth: int):
        self.collection, self.retriever, self.depth, self.given = collection, retriever, depth, _Given()
        self.joined = Rewrite(self.given, retriever, join) if join else None
        self.made_with = {"retriever": settings(retriever), "join": join and settings(join)}
        (self.joined or retriever).open(collection.corpus, cache_folder())

    def found(self, queries: Queries, texts: Sequence[str | None] | None = None) -> Run:
        """The run of each query with its text; a query whose text is None is searched as it is."""
        if texts is not None and self.joined is not None:
            self.given.texts = texts
            return searched(self.collection, self.joined, queries, self.depth)
        said = [own if text is None else text for own, text in zip(queries.texts, texts or queries.texts, strict=True)]
        return searched(self.collection, self.retriever, replace(queries, texts=said), self.depth)

    def about(self, split: str) -> dict[str, Any]:
        """What determines the ranks of given texts for the queries of a split, as plain values."""
        held = self.collection.provenance()
        data = {"queries": held["queries.jsonl"], "qrels": held["qrels"][f"{split}.tsv"]}
        return {"corpus": held["corpus"], "split": split, **data, **self.made_with}


class _Rewriter:
    """Asks for rewrites by one prompt, whichever the generator, and adds up what came of it."""

    def __init__(self, prompt: MessagePrompt, sampling: Sampling, fallback: Literal["keep"] | None):
        self.prompt, self.sampling, self.fallback = prompt, sampling, fallback
        self.counts: Counter[str] = Counter()

    def chats(self, queries: Queries) -> list[list[dict[str, str]]]:
        """The chat that asks for a rewrite of each query."""
        return [self.prompt.messages(query=query) for query in queries.texts]

    def sampled(self, generator: Generator, queries: Queries, samples: int) -> list[list[str | None]]:
        """The rewrites of each query, None for one that failed."""
        return self._written(Texts(generator, self.sampling, samples, self.fallback), queries)

    def likeliest(self, generator: Generator, queries: Queries) -> list[str | None]:
        """The rewrite that the model is surest of, by temperature 0."""
        greedy = replace(self.sampling, temperature=0.0)
        return [text for (text,) in self._written(Texts(generator, greedy, 1, self.fallback), queries)]

    def about(self, generator: Generator) -> dict[str, Any]:
        """What determines the rewrites, as plain values."""
        return {**self.prompt.about(), **Asker(generator, self.sampling, self.fallback).about()}

    def _written(self, texts: Texts, queries: Queries) -> list[list[str | None]]:
        found = texts.slots(self.chats(queries))
        self.counts.update(texts.asker.counts())
        return found


class _Mining:
    """What is learned from the texts that a generator writes for the queries that are trained on."""

    def __init__(
        self,
        rewriter: _Rewriter,
        search: _Search,
        pairing: Pairing,
        objective: Literal["dpo", "sft"],
        split: str,
        queries: Queries,
    ):
        self.rewriter, self.search, self.pairing, self.objective = rewriter, search, pairing, objective
        self.split, self.queries = split, queries

    def kept(self, generator: Generator, folder: Path) -> tuple[list[Preference], dict[str, int]]:
        """What a round trains on and how many queries gave nothing; that in `folder` where it has it.

        Raises ValueError where this was made of something else, with what, and where there is nothing.
        """
        about = {**self._about(), **self.rewriter.about(generator)}
        kept = folder / "pairs.json"
        if kept.is_file():
            before = json.loads(kept.read_text(encoding="utf-8"))
            _refuse_other(folder, before["made of"], json.loads(json.dumps(about)))
            return read_pairs(folder / "pairs.jsonl"), before["counts"]
        pairs, counts = self._mined(generator)
        if not pairs:
            listed = ", ".join(f"{what} {count}" for what, count in counts.items() if count)
            what = "pair" if self.objective == "dpo" else "text"
            raise ValueError(
                f"no {what} to train on ({listed}): more samples, or a higher temperature, make more of them"
            )
        write_pairs(folder / "pairs.jsonl", pairs)
        with whole_file(kept) as part:
            part.write_text(json.dumps({"made of": about, "counts": counts}, indent=2) + "\n", encoding="utf-8")
        return pairs, counts

    def _about(self) -> dict[str, Any]:
        own = {"objective": self.objective, "trained on": digest(list(self.queries.ids))}
        return {**self.search.about(self.split), "pairing": asdict(self.pairing), **own}

    def _mined(self, generator: Generator) -> tuple[list[Preference], dict[str, int]]:
        pairing = self.pairing
        needed = _needed(self.search.collection, self.split, self.queries, pairing.relevant)
        own = [place for place, rows in enumerate(needed) if len(rows)]
        queries, needed = self.queries.take(own), [needed[place] for place in own]
        slots = self.rewriter.sampled(generator, queries, pairing.samples)
        first = [[text] if pairing.original else [] for text in queries.texts]
        texts = [distinct([*own, *some]) for own, some in zip(first, slots, strict=True)]
        ranks = self._ranks(queries, texts, needed)
        chats = dict(zip(queries.ids, self.rewriter.chats(queries), strict=True))
        if self.objective == "dpo":
            pairs, counts = mine(chats, ranks, pairing.k, pairing.margin)
        else:
            pairs, counts = mine_best(chats, ranks, pairing.k)
        by_id = dict(zip(queries.ids, queries.texts, strict=True))
        return pairs, {
            "queries without a needed document": len(self.queries) - len(queries),
            **counts,
            OWN[self.objective]: sum(one.chosen == by_id[one.query_id] for one in pairs),
            "failed generations": sum(text is None for some in slots for text in some),
        }

    def _ranks(
        self, queries: Queries, texts: Sequence[Sequence[str]], needed: Sequence[np.ndarray]
    ) -> dict[str, dict[str, list[int]]]:
        """For each query and text the ranks of the needed documents; the n-th texts of all are searched at once."""
        ranks: dict[str, dict[str, list[int]]] = {query: {} for query in queries.ids}
        for number in range(max(map(len, texts), default=0)):
            own = [place for place, some in enumerate(texts) if number < len(some)]
            said = [texts[place][number] for place in own]
            run = self.search.found(queries.take(own), said)
            found = ranks_of(run, [needed[place] for place in own], self.pairing.depth)
            for place, text, one in zip(own, said, found, strict=True):
                ranks[queries.ids[place]][text] = one
        return ranks


def _refuse_other(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError, with what differs, where the pairs there were made of something else."""
    differing = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if differing:
        shown = "; ".join(f"{key} was {then.get(key)}, is {now.get(key)}" for key in differing)
        raise ValueError(f"{folder} holds pairs made of something else ({shown}): name another folder with out=...")


def _needed(collection: Collection, split: str, queries: Queries, relevant: int) -> list[np.ndarray]:
    """The rows of the documents that each query needs; -1 for one that the corpus lacks."""
    qrels = collection.qrels(split)
    rows, good = collection.corpus.ids.rows(qrels.doc_ids), qrels.grades >= relevant
    place = {name: n for n, name in enumerate(qrels.query_ids)}
    return [np.unique(rows[good & (qrels.query == place[name])]) for name in queries.ids]


def _wearing(generator: Generator, adapter: Path) -> Generator:
    """A generator with the same settings and this adapter."""
    kind: Any = type(generator)
    own = {name: getattr(generator, name) for name in inspect.signature(kind).parameters}
    return kind(**{**own, "adapter": str(adapter)})


def _refuse_untrainable(generator: Generator) -> None:
    """Raises ValueError for a generator whose model cannot be trained here, or that does not keep its arguments."""
    takes = inspect.signature(type(generator)).parameters
    lacking = [name for name in ("model", "adapter", "revision", "template_options") if name not in takes]
    lacking += [name for name in takes if not hasattr(generator, name)]
    if lacking or not hasattr(generator, "contract"):
        raise ValueError(
            f"{type(generator).__name__} cannot be trained ({lacking or 'no contract'}): take transformers"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("preference training runs in one process: start it without accelerate launch")


def _opened(dataset: Dataset, split: str, test: str, measures: list[str], depth: int) -> Collection:
    """The collection. Raises ValueError for a split or measure that is none."""
    collection = dataset.open()
    check(collection, test, measures, depth)
    check(collection, split, measures)
    return collection


def _refuse_margin(trainer: RewriterTrainer, pairs: Pairing) -> None:
    """Raises ValueError for a margin between two texts where one alone is learned."""
    if trainer.objective == "sft" and pairs.margin:
        raise ValueError(
            f"pairs.margin is {pairs.margin}, of the best text over the worst, and sft learns the best of every query "
            "alone: leave it out, or take trainer.objective: dpo"
        )


def _apart(collection: Collection, split: str, test: str) -> tuple[Queries, int]:
    """The queries of a split that are not measured, told apart by id and by words, and how many are.

    Raises ValueError where all are.
    """
    own, measured = collection.queries(split), collection.queries(test)
    words = shingles(own.texts, 1).whole
    same = np.isin(words, shingles(measured.texts, 1).whole) & (words != 0)
    same |= np.isin(own.ids, measured.ids)
    if same.all():
        raise ValueError(
            f"all {len(own)} queries of split {split} are queries of {test}, such as {own.ids[0]!r}: name two others"
        )
    return own.take(np.flatnonzero(~same)), int(same.sum())


def _shared(collection: Collection, queries: Queries, split: str, test: str, relevant: int) -> dict[str, int]:
    """What the queries that are trained on and the documents that they need share with the test."""
    lists = lists_of(collection.corpus, queries, collection.qrels(split))
    rows = np.unique(collection.corpus.ids.rows(collection.qrels(test).doc_ids))
    documents = collection.corpus.texts(rows[rows >= 0])
    return contamination(lists.where(lists.labels >= relevant), collection.queries(test), documents)


def _told_shared(shared: Mapping[str, int], left_out: int, split: str) -> list[str]:
    counts = ", ".join(f"{what} {count}" for what, count in shared.items() if "trained on" in what and count)
    lines = [f"left out of training: {left_out} queries of {split} that are test queries"] if left_out else []
    return [*lines, f"shared by training and test: {counts or 'no query and no judged document, nor nearly'}"]


def _told(made: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, one in enumerate(made, 1):
        counts = {**{what: count for what, count in one.items() if what != "training" and count}, **one["training"]}
        lines.append(f"round {number}: " + ", ".join(f"{what} {_short(count)}" for what, count in counts.items()))
    return lines


def _report(
    collection: Collection,
    systems: Mapping[str, Run],
    test: str,
    measures: list[str],
    out: Path,
    notes: Sequence[str],
) -> dict[str, Any]:
    qrels = collection.qrels(test)
    for name, found in systems.items():
        write_run(replace(found, name=name), out / f"{name.replace(' ', '-')}.parquet")
    measured = {name: evaluate(found, qrels, measures) for name, found in systems.items()}
    seen = look(collection, test, "prefer", systems.values())
    print_report(measured, f"{collection.name}, {test}", "untrained", [*notes, told(seen)])
    return figures(measured, "untrained") | {"looks": seen}


def _short(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run(prefer)
