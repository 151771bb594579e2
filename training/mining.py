"""Hard negatives out of a run: what a retriever ranks high and nobody called relevant, less what probably is."""

from __future__ import annotations

import hashlib
import inspect
import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from retrieval.compiled import chosen
from retrieval.composed import settings
from retrieval.files import digest, whole_file
from retrieval.ids import DocIds
from retrieval.lists import Joined, Lists, Passages, added
from retrieval.locate import cache_folder
from retrieval.order import PAD
from retrieval.protocols import Reranker
from retrieval.reranking import pair_scores
from retrieval.types import Run
from training.near_duplicates import NearTexts, shingles

__all__ = ["Mining", "Negatives", "SimANS", "mine", "remine", "rows_among", "shares", "simans", "with_negatives"]

BLOCK = 1024  # queries whose texts are in memory at a time, and what a kill may cost of a reranker's reading
Choice = Literal["top", "random", "simans"]
Against = Literal["highest", "lowest"]


@dataclass(frozen=True)
class SimANS:
    """Negatives are drawn with probability in proportion to exp(-a (s(d) - s(pos) - b)^2); Zhou et al. (2022)."""

    a: float = 0.5
    b: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.a < np.inf or not np.isfinite(self.b):
            raise ValueError(f"SimANS takes a finite a, 0 or more, and a finite b, not {self.a} and {self.b}")


@dataclass(frozen=True)
class Mining:
    """Which documents of a run become negatives.

    Positives, also those that lists dropped, and near-duplicates of positives never do: a near-duplicate shares
    `near_duplicate` of its runs of three words with one (Jaccard). Those of a score above that of the positive -
    `margin`, or above `share` of it, don't either (of a score below 0: as far below it as share says), nor those that a
    reranker scores above `reranker_above`. The positive is the `against` one of those listed in the run; where none is
    there, the score of the first rank stands for it. Of what is left, `k` are the best, at random, or by SimANS.
    """

    k: int | None = 8  # negatives of a query at most; None takes all that are left
    choice: Choice = "random"
    first_rank: int = 1  # of the run as it is, positives included
    last_rank: int = 100
    margin: float | None = None
    share: float | None = None  # 0.95: TopK-PercPos, Moreira et al. (2024)
    against: Against = "highest"
    near_duplicate: float | None = 0.8
    reranker_above: float | None = None  # RocketQA, Qu et al. (2021)
    simans: SimANS = SimANS()
    relevant: float = 1.0  # from this label on a passage is a positive
    label: float = 0.0  # of what is mined
    seed: int = 0

    def __post_init__(self) -> None:
        chosen("choice", self.choice, Choice)
        chosen("against", self.against, Against)
        if not 1 <= self.first_rank <= self.last_rank:
            raise ValueError(f"ranks {self.first_rank} to {self.last_rank}: the first is 1 or more, the last no less")
        if self.k is not None and self.k < 1:
            raise ValueError(f"k is {self.k}; 1 is the least, and null takes all")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it is above 0 and at most 1")
        if self.margin is not None and not 0 <= self.margin < np.inf:
            raise ValueError(f"margin is {self.margin}; it is 0 or more")
        if self.near_duplicate is not None and not 0 < self.near_duplicate <= 1:
            raise ValueError(f"near_duplicate is {self.near_duplicate}; it is above 0 and at most 1")
        if not self.label < self.relevant:
            raise ValueError(f"label {self.label} of negatives would be relevant, which is {self.relevant} or higher")

    def ceiling(self, positive: float) -> float:
        """The highest score a negative may have beside a positive of this score."""
        by_share = np.inf if self.share is None else positive * (self.share if positive >= 0 else 2 - self.share)
        return min(by_share, np.inf if self.margin is None else positive - self.margin)


@dataclass(frozen=True, eq=False)
class Negatives:
    """What was mined for each query, in the order of the run."""

    offsets: np.ndarray  # int64 [queries + 1]
    rows: np.ndarray  # int32 [mined], of the passages of the lists
    columns: np.ndarray  # int64 [mined], of the run: rank - 1; -1 where there is none
    counts: Mapping[str, int]  # what was dropped, and what is short


def mine(lists: Lists, run: Run, mining: Mining, reranker: Reranker | None = None) -> Negatives:
    """Negatives for each query of the lists out of its results in a run over their passages, or over some of them.

    Passages that the list holds already are not mined again, whatever their label, nor are documents that have the id
    of a positive out of another collection, which was made of them, as ICT's are. A reranker is asked only until a
    query has its k; what comes of it is kept in the cache, block by block. Raises ValueError for a run of other queries
    or passages, and for a reranker without `reranker_above` or the reverse.
    """
    _refuse(lists, run, mining, reranker)
    miner = _Miner(
        lists,
        rows_among(lists.passages, run.rows, run.docs.fingerprint),
        run.scores,
        mining,
        reranker,
        Counter(dict.fromkeys(COUNTS, 0)),
        _namesakes(lists, run.docs, mining.relevant),
        *lists.relevant(mining.relevant),
    )
    block = miner.block if reranker is None else miner.kept_in(_folder(lists, run, mining, reranker))
    found = [one for start in range(0, len(lists), BLOCK) for one in block(start, min(start + BLOCK, len(lists)))]
    sizes = np.array([len(one) for one in found], np.int64)
    query, columns = np.repeat(np.arange(len(found)), sizes), np.concatenate([np.zeros(0, np.int64), *found])
    miner.counts["mined negatives"] = len(columns)
    if mining.k is not None:
        miner.counts["queries with fewer than k"] = int((sizes < mining.k).sum())
    counts = {f"mining: {what}": int(count) for what, count in miner.counts.items()}
    return Negatives(np.cumsum([0, *sizes]), miner.rows[query, columns], columns, counts)


def with_negatives(lists: Lists, negatives: Negatives, label: float = 0.0) -> Lists:
    """The lists with the negatives of each query after its own passages.

    Raises ValueError where the lists have a teacher's scores, which the negatives lack.
    """
    if lists.targets is not None:
        raise ValueError(
            "the lists have a teacher's scores, and mined passages have none: mine first, and score what was mined"
        )
    query = np.concatenate([lists.query, np.repeat(np.arange(len(lists)), np.diff(negatives.offsets))])
    order = np.argsort(query, kind="stable")
    labels = np.append(lists.labels, np.full(len(negatives.rows), label, np.float32))[order]
    rows = np.append(lists.rows, negatives.rows)[order]
    counts = added(lists.counts, negatives.counts)
    return replace(lists, offsets=lists.offsets + negatives.offsets, rows=rows, labels=labels, counts=counts)


def remine(lists: Lists, run: Run, mining: Mining, reranker: Reranker | None = None) -> Lists:
    """The lists with the negatives of a new run (ANCE, Xiong et al. 2021); `lists` are those without mined ones."""
    return with_negatives(lists, mine(lists, run, mining, reranker), mining.label)


def rows_among(passages: Passages, rows: np.ndarray, fingerprint: str) -> np.ndarray:
    """int32 rows of the corpus of this fingerprint as those of passages; pads stay.

    Raises ValueError where the corpus is not among the passages.
    """
    if fingerprint == passages.fingerprint:
        return rows
    parts = passages.parts if isinstance(passages, Joined) else []
    part = next((part for part in parts if part.fingerprint == fingerprint), None)
    if not isinstance(passages, Joined) or part is None:
        raise ValueError(
            f"the run is over the documents {fingerprint[:16]}, which are not among the passages "
            f"{passages.fingerprint[:16]} of the lists: search the corpus of the lists"
        )
    return np.where(rows == PAD, PAD, passages.moved(np.maximum(rows, 0), part)).astype(np.int32)


def simans(scores: np.ndarray, positive: float, a: float, b: float) -> np.ndarray:
    """float64 [documents], the probabilities of SimANS; they sum to 1 and are highest at the score positive + b."""
    logits = _logits(scores, positive, SimANS(a, b))
    weights = np.exp(logits - logits.max(initial=-np.inf))
    return weights / weights.sum()


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """How many of the candidates look like relevant ones that nobody judged: by their texts, scores, and reranker."""

    def share(dropped: str, among: str) -> float:
        return counts[f"mining: {dropped}"] / max(counts[f"mining: {among}"], 1)

    return {
        "share of near-duplicates of positives": share("near-duplicates of positives", "candidates"),
        "share scored too near the positive": share("scored too near the positive", "candidates"),
        "share the reranker calls relevant": share("called relevant by the reranker", "read by the reranker"),
    }


COUNTS = (  # all of them stand beside a figure, also where they are 0
    "mined negatives",
    "queries with fewer than k",
    "queries without results",
    "queries without a positive in the run",
    "positives in the window",
    "listed already",
    "of the id of a positive",
    "candidates",  # what is left of the window
    "scored too near the positive",
    "near-duplicates of positives",
    "read by the reranker",
    "called relevant by the reranker",
)


@dataclass
class _Miner:
    """Mines block by block; what it finds are columns of the run, ascending."""

    lists: Lists
    rows: np.ndarray  # int32 [queries, depth], of the passages, -1 pads
    scores: np.ndarray  # float32 [queries, depth]
    mining: Mining
    reranker: Reranker | None
    counts: Counter[str]
    namesakes: Mapping[int, list[int]]  # by query, rows of the passages
    relevant: np.ndarray  # int32, of the passages, all that is relevant, also what lists dropped, query after query
    offsets: np.ndarray  # int64 [queries + 1], of each query's part

    def kept_in(self, folder: Path) -> Callable[[int, int], list[np.ndarray]]:
        """`block`, of which an earlier call's finding in this folder is taken where it is there."""

        def block(start: int, stop: int) -> list[np.ndarray]:
            path = folder / f"queries-{start:08d}.json"
            if path.is_file():
                held = json.loads(path.read_text(encoding="utf-8"))
                self.counts.update(held["counts"])
                return [np.array(columns, np.int64) for columns in held["columns"]]
            before = self.counts.copy()
            found = self.block(start, stop)
            counts = {what: count - before[what] for what, count in self.counts.items()}
            with whole_file(path) as part:
                columns = [one.tolist() for one in found]
                part.write_text(json.dumps({"columns": columns, "counts": counts}) + "\n", encoding="utf-8")
            return found

        return block

    def block(self, start: int, stop: int) -> list[np.ndarray]:
        queries = range(start, stop)
        positive = [self.positive(query) for query in queries]
        left = [self.candidates(query, score) for query, score in zip(queries, positive, strict=True)]
        if self.mining.near_duplicate is not None:
            left = self.distinct(queries, left, self.mining.near_duplicate)
        left = [self.preferred(*one) for one in zip(queries, left, positive, strict=True)]
        k = self.mining.k
        kept = self.denoised(queries, left) if self.reranker else [columns[:k] for columns in left]
        return [np.sort(columns) for columns in kept]

    def positives(self, query: int) -> np.ndarray:
        return self.relevant[self.offsets[query] : self.offsets[query + 1]]

    def positive(self, query: int) -> float:
        """The score that those of negatives are held against; -inf for a query without results."""
        rows, scores = self.rows[query], self.scores[query]
        own = slice(self.lists.offsets[query], self.lists.offsets[query + 1])
        listed = self.lists.rows[own][self.lists.labels[own] >= self.mining.relevant]
        there = scores[np.isin(rows, listed)]
        self.counts["queries without results"] += not (rows != PAD).any()
        self.counts["queries without a positive in the run"] += not len(there)
        if len(there):
            return float(there[0] if self.mining.against == "highest" else there[-1])
        return float(scores[0]) if len(scores) else -np.inf

    def candidates(self, query: int, positive: float) -> np.ndarray:
        """Columns of the window that may be negatives by rank, label and score."""
        rows = self.rows[query][: self.mining.last_rank]
        columns = np.arange(self.mining.first_rank - 1, len(rows))
        columns = columns[rows[columns] != PAD]
        columns = self.keep("positives in the window", columns, ~np.isin(rows[columns], self.positives(query)))
        listed = self.lists.rows[self.lists.offsets[query] : self.lists.offsets[query + 1]]
        columns = self.keep("listed already", columns, ~np.isin(rows[columns], listed))
        namesakes = self.namesakes.get(query, [])
        columns = self.keep("of the id of a positive", columns, ~np.isin(rows[columns], namesakes))
        self.counts["candidates"] += len(columns)
        low = self.scores[query][columns].astype(np.float64) <= self.mining.ceiling(positive)
        return self.keep("scored too near the positive", columns, low)

    def distinct(self, queries: range, left: list[np.ndarray], threshold: float) -> list[np.ndarray]:
        """Without those whose text is nearly that of a positive of the query."""
        rows = [self.rows[query][columns] for query, columns in zip(queries, left, strict=True)]
        positives = [self.positives(query) for query in queries]
        near = self.near(_each_once(rows), _each_once(positives), threshold)
        kept = []
        for columns, mine, own in zip(left, rows, positives, strict=True):
            known = set(own.tolist())
            far = [near.get(row, set()).isdisjoint(known) for row in mine.tolist()]
            kept.append(self.keep("near-duplicates of positives", columns, np.array(far, bool)))
        return kept

    def near(self, rows: np.ndarray, positives: np.ndarray, threshold: float) -> dict[int, set[int]]:
        """Which of the positives each of these rows resembles."""
        texts = self.lists.passages.texts
        index = NearTexts(shingles(texts(positives)), threshold)
        found: dict[int, set[int]] = {}
        row, positive, _ = index.find(shingles(texts(rows)))
        for one, other in zip(rows[row].tolist(), positives[positive].tolist(), strict=True):
            found.setdefault(one, set()).add(other)
        return found

    def preferred(self, query: int, columns: np.ndarray, positive: float) -> np.ndarray:
        """The columns in the order in which they are taken; drawn without replacement where chance has a part."""
        if self.mining.choice == "top" or not len(columns):
            return columns
        rng = np.random.default_rng([self.mining.seed, zlib.crc32(self.lists.queries.ids[query].encode())])
        if self.mining.choice == "random":
            return rng.permutation(columns)
        # Gumbel noise on logits is drawing one after another, also where a probability is too small for a float
        logits = _logits(self.scores[query][columns], positive, self.mining.simans)
        return columns[np.argsort(-(logits + rng.gumbel(size=len(columns))), kind="stable")]

    def denoised(self, queries: range, left: list[np.ndarray]) -> list[np.ndarray]:
        """The first k of each query that the reranker doesn't call relevant; it reads no more than it takes."""
        kept: list[list[int]] = [[] for _ in left]
        at = [0] * len(left)
        while True:
            asked = []
            for n, columns in enumerate(left):
                more = len(columns) if self.mining.k is None else self.mining.k - len(kept[n])
                asked += [(n, column) for column in columns[at[n] : at[n] + more].tolist()]
                at[n] += more
            if not asked:
                return [np.array(one, np.int64) for one in kept]
            for (n, column), noisy in zip(asked, self.noisy(queries, asked), strict=True):
                if not noisy:
                    kept[n].append(column)

    def noisy(self, queries: range, asked: Sequence[tuple[int, int]]) -> np.ndarray:
        """Whether the reranker calls each of these (number in the block, column) relevant."""
        places = np.array([queries[n] for n, _ in asked])
        rows = self.rows[places, [column for _, column in asked]]
        texts = self.lists.passages.texts(rows)
        pairs = [(self.lists.queries.texts[query], text) for query, text in zip(places, texts, strict=True)]
        relevant = pair_scores(self.reranker, pairs) > self.mining.reranker_above  # type: ignore[arg-type, operator]
        self.counts["read by the reranker"] += len(pairs)
        self.counts["called relevant by the reranker"] += int(relevant.sum())
        return relevant

    def keep(self, what: str, columns: np.ndarray, kept: np.ndarray) -> np.ndarray:
        self.counts[what] += int(len(kept) - kept.sum())
        return columns[kept]


def _namesakes(lists: Lists, docs: DocIds, relevant: float) -> dict[int, list[int]]:
    """By query, the passages of a run that have the id of a positive out of another collection, or that query's own."""
    passages, named = lists.passages, dict[int, list[int]]()
    if not isinstance(passages, Joined):
        return named
    own, offsets = lists.relevant(relevant)
    query = np.repeat(np.arange(len(lists)), np.diff(offsets))
    part = np.searchsorted(passages.starts, own, "right") - 1
    for number, other in enumerate(passages.parts):
        places = np.flatnonzero(part == number)
        if other.fingerprint == docs.fingerprint or not len(places):
            continue
        queries, ids = query[places], getattr(other, "ids", None)
        names = [lists.queries.ids[one] for one in queries]
        names += ids.take(own[places] - passages.starts[number]) if ids is not None else []
        rows = rows_among(passages, docs.rows(names), docs.fingerprint)
        for one, row in zip(np.resize(queries, len(names)).tolist(), rows.tolist(), strict=True):
            if row != PAD:
                named.setdefault(one, []).append(row)
    return named


def _folder(lists: Lists, run: Run, mining: Mining, reranker: Reranker) -> Path:
    """Where what a reranker's reading came to is kept, by all that it is of."""
    ranked = hashlib.sha256(run.rows.tobytes() + run.scores.tobytes()).hexdigest()
    made_of = [lists.fingerprint(), run.docs.fingerprint, ranked, asdict(mining), settings(reranker), BLOCK]
    return cache_folder() / "mined" / digest([*made_of, inspect.getsource(_Miner)])


def _logits(scores: np.ndarray, positive: float, simans: SimANS) -> np.ndarray:
    return -simans.a * (np.asarray(scores, np.float64) - positive - simans.b) ** 2


def _each_once(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.int32), *rows]))


def _refuse(lists: Lists, run: Run, mining: Mining, reranker: Reranker | None) -> None:
    if (reranker is None) != (mining.reranker_above is None):
        raise ValueError(
            "a reranker drops what it scores above `reranker_above`: give both the reranker and the threshold, or none"
        )
    if list(run.query_ids) != list(lists.queries.ids):
        raise ValueError(
            f"the run is of {len(run.query_ids)} queries{_such(run.query_ids)}, and the lists of "
            f"{len(lists)}{_such(lists.queries.ids)}: negatives are mined from a run for the queries of the lists"
        )


def _such(ids: Sequence[str]) -> str:
    return f" from {ids[0]!r} on" if len(ids) else ""
