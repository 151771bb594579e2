"""Queries that a language model writes for documents nobody has judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.asking import Asker, answer_of, cut_words
from retrieval.collection import Collection
from retrieval.corpus import Document
from retrieval.protocols import Dataset, Generator
from retrieval.sampling import Request, Sampling
from retrieval.types import Generation
from training.contamination import unjudged
from training.filters import Keep, Sieve, long_enough, once, unlike
from training.query_prompt import QueryPrompt
from training.synthesis._folder import Made, written

__all__ = ["WeakQueries"]

FIRST_ID = 2_000_000  # of the new queries: that of the first answer, dropped or not
TRIES = 3  # while an answer is empty, where another try can be another answer
SEPARATORS = ".,?"
TOGETHER = 1024  # answers asked for at once: what is in memory
READ = ("corpus", "qrels", "queries.jsonl")  # of a collection, what queries depend on


class WeakQueries:
    """A few queries per document, each with that document as its relevant one.

    With a soft prompt that `retrieval.tune_prompt` wrote as the generator's adapter this is SPTAR (Peng et al. 2023);
    with the prompts "inpars" and "good-bad", keep.best 10000, InPars (Bonifacio et al. 2022); with pairs of the task
    and `per_document` 8 at temperature 0.7, Promptagator (Dai et al. 2022); the queries of doc2query and GPL likewise.
    Every query id is the number of its document and sample, whatever is dropped.
    """

    def __init__(
        self,
        generator: Generator,
        prompt: QueryPrompt = QueryPrompt(),
        documents: int | None = None,
        per_document: int = 1,
        judged: bool = False,
        sampling: Sampling = Sampling(128),
        keep: Keep = Keep(),
        seed: int = 0,
        fallback: Literal["drop"] | None = None,
        evaluation: Dataset | None = None,
        splits: list[str] | None = None,
        words: int | None = 50,
    ):
        """`documents` is how many are drawn with `seed` of those without a judgement in any split; None is all.

        `judged` lets the judged ones in as well: doc2query and GPL ask about the collection that they search. What is
        trained on the queries may be tested on another collection: none is asked about that `evaluation` judges, and
        none of its queries is kept, nor one of the collection itself but those of `splits`, by default train alone.
        Queries are cut to `words`, as SPTAR does. `keep.best` and the like go by the mean log-probability of a query's
        tokens: sampling stops at the end of the line then, and a query that is less than its answer is dropped. A
        generation that failed raises ValueError unless `fallback` is drop.
        """
        if (documents is not None and documents < 1) or per_document < 1:
            raise ValueError(f"documents (or None) and per_document are at least 1, not {documents} and {per_document}")
        if per_document > 1 and not sampling.temperature:
            raise ValueError(f"{per_document} queries at temperature 0 are all the same: give sampling a temperature")
        if words is not None and words < 1:
            raise ValueError(f"words is {words}; a query has at least 1 word")
        if keep.scored and "\n" not in sampling.stop:
            raise ValueError(
                "keep goes by the log-probabilities of whole answers, which are those of their first lines alone where "
                'sampling stops there: give sampling.stop ["\\n"]'
            )
        if fallback not in (None, "drop"):
            raise ValueError(f'fallback is "drop" or None, not {fallback!r}')
        self.prompt, self.documents, self.per_document, self.judged = prompt, documents, per_document, judged
        self.keep, self.seed, self.fallback = keep, seed, fallback
        self.evaluation, self.splits, self.words = evaluation, splits, words
        self.sampling = replace(sampling, logprobs=True) if keep.scored else sampling
        self.asker = Asker(generator, self.sampling, fallback)

    def synthesize(self, collection: Collection, folder: Path) -> Mapping[str, int]:
        """Write the corpus, the queries and their documents. Raises ValueError where no query is left, and why."""
        _refuse_unknown(collection, self.splits)
        data = {**_read(collection), "evaluation": self.evaluation and _read(self.evaluation.open())}
        return written(folder, {**data, **self._about()}, partial(self._made, collection))

    def _made(self, collection: Collection, made: Made) -> Iterator[Document]:
        """The documents, once the queries are there."""
        rows, counts = pool(collection, self.documents, self.judged, self.seed, self._evaluation)
        answers = self._answers(collection, rows)
        whole = [clean(_text(one)) for one in answers]
        texts = [self._cut(text) for text in whole]
        kept, dropped = self._kept(collection, answers, texts)
        documents = collection.corpus.ids.take(rows)
        queries = {str(FIRST_ID + place): texts[place] for place in kept.tolist()}
        self._refuse_taken(collection, queries)
        made.queries.update(queries)
        made.qrels.update({name: {documents[(int(name) - FIRST_ID) // self.per_document]: 1} for name in queries})
        made.counts.update(counts | {"answers": len(answers), "queries": len(kept)})
        if self.words is not None:
            made.counts[f"queries cut to {self.words} words"] = sum(texts[place] != whole[place] for place in kept)
        made.counts.update({f"dropped: {what}": count for what, count in dropped.items()})
        yield from collection.corpus

    def provenance(self) -> dict[str, Any]:
        """What determines the queries, as plain values, and counts of all that was asked so far."""
        return {**self._about(), **self.asker.counts()}

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {"documents": self.documents, "per document": self.per_document, "judged": self.judged}
        about |= {"splits": self.splits, "seed": self.seed, "keep": asdict(self.keep), "words": self.words}
        return {**about, **self.prompt.about(), "asked": self.asker.about()}

    @property
    def _evaluation(self) -> Collection | None:
        return None if self.evaluation is None else self.evaluation.open()

    def _answers(self, collection: Collection, rows: np.ndarray) -> list[Generation]:
        """The answers of all documents, those of one beside each other; every one is in the store once it is there."""
        found: list[Generation] = []
        step = max(1, TOGETHER // self.per_document)
        for start in range(0, len(rows), step):
            texts = [self.prompt.text(text) for text in collection.corpus.texts(rows[start : start + step])]
            found += self._asked([(text, sample) for text in texts for sample in range(self.per_document)])
        return found

    def _asked(self, asked: Sequence[tuple[str, int]]) -> list[Generation]:
        """The answer to each text and sample, the last of a few tries where it is empty."""
        answers = self._once(asked)
        for again in range(1, TRIES if self.sampling.temperature else 1):
            empty = [place for place, one in enumerate(answers) if one.failure is None and not clean(_text(one))]
            fresh = [(asked[place][0], asked[place][1] + again * self.per_document) for place in empty]
            for place, one in zip(empty, self._once(fresh), strict=True):
                answers[place] = one
        return answers

    def _once(self, asked: Sequence[tuple[str, int]]) -> list[Generation]:
        answers = self.asker.answered([self._request(text, sample) for text, sample in asked])
        failed = next((one.failure for one in answers if one.failure is not None), None)
        self.asker.failed += sum(one.failure is not None for one in answers)
        if failed and self.fallback is None:
            name = type(self.asker.generator).__name__
            raise ValueError(f"{name} failed ({failed}); lower prompt.words, or fallback: drop leaves such queries out")
        if self.keep.scored and any(one.failure is None and one.logprobs is None for one in answers):
            name = type(self.asker.generator).__name__
            raise ValueError(f"{name} gives no log-probabilities, by which keep goes: take another, or leave out keep")
        return answers

    def _request(self, text: str, sample: int) -> Request:
        if self.prompt.chat:
            return Request([{"role": "user", "content": text}], None, self.sampling, sample)
        return Request(None, text, self.sampling, sample)

    def _kept(
        self, collection: Collection, answers: Sequence[Generation], texts: Sequence[str]
    ) -> tuple[np.ndarray, Mapping[str, int]]:
        sieve = Sieve(len(texts))
        sieve.keep("failed", np.array([one.failure is None for one in answers]))
        sieve.keep("empty", long_enough(sieve.of(texts), 1))
        sieve.keep(f"shorter than {self.keep.min_words} words", long_enough(sieve.of(texts), self.keep.min_words))
        pairs = [(place // self.per_document, text) for place, text in enumerate(texts)]
        sieve.keep("twice for a document", once(sieve.of(pairs)))
        own = ["train"] if self.splits is None else self.splits
        sieve.keep("a query of another split", unlike(sieve.of(texts), _queries(collection, own)))
        if self._evaluation is not None:
            sieve.keep(f"a query of {self._evaluation.name}", unlike(sieve.of(texts), _queries(self._evaluation)))
        if self.keep.scored:
            whole = [one.text.strip() == text for one, text in zip(answers, texts, strict=True)]
            sieve.keep("less than the answer that has a score", np.array(sieve.of(whole), bool))
            sieve.keep(*self.keep.by_score(np.array([_likelihood(one) for one in sieve.of(answers)])))
        return sieve.finish(), sieve.dropped

    def _cut(self, text: str) -> str:
        cut, more = cut_words(text, self.words)
        return cut if more else text

    def _refuse_taken(self, collection: Collection, queries: Mapping[str, str]) -> None:
        taken = {name for split in collection.splits() for name in collection.qrels(split).query_ids} & {*queries}
        if taken:
            raise ValueError(
                f"{collection.name} has queries of its own with ids from {FIRST_ID} on, such as {min(taken)}"
            )


def pool(
    collection: Collection, count: int | None, judged: bool, seed: int, evaluation: Collection | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Rows, ascending, of documents to ask about, and how many were left out. Raises ValueError where none is left.

    Documents without text are never asked about, nor those that `evaluation` judges, and of those that some split
    judges, or that say the same as one of these, none unless `judged`.
    """
    corpus, counts = collection.corpus, {}
    free, rows = np.ones(len(corpus), bool), np.arange(len(corpus))
    for by, what in ((None if judged else collection, "judged documents"), (evaluation, "documents judged elsewhere")):
        if by is not None:
            left = free & unjudged(corpus, rows, by)
            counts[f"{what} left out"] = int(free.sum() - left.sum())
            free = left
    empty = np.array([not (one.title.strip() or one.text.strip()) for one in corpus], bool) & free
    free, counts["empty documents"] = np.flatnonzero(free & ~empty), int(empty.sum())
    if not len(free):
        raise ValueError(f"{collection.name} has no document to ask about ({counts}): judged: true lets judged ones in")
    chosen = free if count is None else np.sort(np.random.default_rng(seed).permutation(free)[:count])
    return chosen, {"documents": len(chosen), **counts}


def _queries(collection: Collection, but: Sequence[str] = ()) -> list[str]:
    """The queries of all splits but these."""
    return [text for split in collection.splits() if split not in but for text in collection.queries(split).texts]


def _read(collection: Collection) -> dict[str, Any]:
    return {what: about for what, about in collection.provenance().items() if what in READ}


def _refuse_unknown(collection: Collection, splits: Sequence[str] | None) -> None:
    for split in splits or ():
        collection.qrels(split)  # which names those that there are


def clean(answer: str) -> str:
    """The first line of an answer, up to where a part between full stops, commas or question marks comes again."""
    text = next(iter(answer.strip().splitlines()), "")
    for separator in SEPARATORS:
        parts = text.split(separator)
        seen = [part.strip() for part in parts]
        again = next((i for i, part in enumerate(seen) if part and part in seen[:i]), None)
        text = text if again is None else separator.join(parts[:again])
    return text.strip()


def _text(one: Generation) -> str:
    return answer_of(one.text)


def _likelihood(one: Generation) -> float:
    """The mean log-probability of the tokens that the model chose, for an answer of which nothing was cut."""
    return float(np.mean(one.logprobs)) if one.logprobs else -np.inf
