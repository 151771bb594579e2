"""Passages at several levels of relevance, written by a language model for each query."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.asking import Asker, answer_of
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.collection import Collection
from retrieval.columns import lines
from retrieval.corpus import Document
from retrieval.files import digest
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Queries
from training.synthesis._folder import Made, refuse_empty, written

__all__ = ["GradedPassages"]

FIX = "take another model; or fallback: drop asks again and then drops the query, and counts it"
TOGETHER = 4096  # queries asked for before their passages are written
Answer = tuple[tuple[str, ...], str]  # its passages, level by level, and where there are none what was wrong with it
FAILED: Answer = (), "failed generation"
PASSAGE = re.compile(r'<passage level="([^"<>]*)">(.*?)</passage>', re.DOTALL)


@dataclass(frozen=True)
class Level:
    """A level of relevance: what the model is told of it, and the label of a passage that it wrote for it."""

    name: str
    definition: str
    label: int


LEVELS = (  # names and labels are SyCL's, definitions ours
    Level("perfectly relevant", "answers what the query asks, correctly, wholly and to the point", 3),
    Level("highly relevant", "helps with what the query asks, but answers only a part of it or in passing", 2),
    Level("related", "is about the subject of the query and uses some of its words, but answers nothing of it", 1),
    Level("irrelevant", "is about another subject and of no use to whoever asks, even where a word is the same", 0),
)
LENGTHS = ("one or two sentences", "about 50 words", "about 100 words", "about 200 words")
DIFFICULTIES = ("children of primary school", "anyone who reads newspapers", "people who work in the field")


class GradedPassages:
    """Four passages a query from one generation, perfectly relevant to irrelevant. SyCL (arXiv 2503.23239), 1.1.

    Their wording was not published: prompt, definitions, lengths and difficulties are ours. An answer that is not just
    one passage for each level is asked for again, as the next sample of the same request, and after `tries` the query
    is dropped. Answers are in the store, so that a killed run asks only what is missing.
    """

    def __init__(
        self,
        generator: Generator,
        sampling: Sampling = Sampling(2048, 1.0),
        split: str = "train",
        levels: Sequence[Level] = LEVELS,
        lengths: Sequence[str] = LENGTHS,
        difficulties: Sequence[str] = DIFFICULTIES,
        examples: Path | None = None,
        prompt: Path | None = None,
        tries: int = 3,
        queries: int | None = None,
        seed: int = 0,
        fallback: Literal["drop"] | None = None,
    ):
        """A query has a length and a difficulty of these, by `seed`, which also chooses so many `queries` of the split.

        `examples` is a JSONL file of {"query": ..., "passages": {level: text}}, with "length" and "difficulty" where
        they are to be shown. `prompt` is a file of chat turns with {levels}, {format} and {query}, and {examples} where
        there are some. An answer that could not be had fails the run, or counts as one that cannot be read where the
        `fallback` is drop.
        """
        _check(levels, lengths, difficulties, tries, queries, sampling)
        self.split, self.levels, self.lengths, self.difficulties = split, levels, lengths, difficulties
        self.tries, self.queries, self.seed = tries, queries, seed
        name = "graded_passages_few_shot" if examples else "graded_passages"
        needed = ("levels", "format", "query", *(["examples"] if examples else []))
        own = prompt_file("training.synthesis", name, prompt)
        self.prompt = MessagePrompt.read(own, needed, ("length", "difficulty"))
        self.examples = "\n\n".join(_examples(examples, levels)) if examples else ""
        self.asker = Asker(generator, sampling, fallback)

    def synthesize(self, collection: Collection, folder: Path) -> Mapping[str, int]:
        """Write the passages as documents <query id>-<label>. Raises ValueError where no query is left, with why.

        Counts add up: queries = kept + dropped, and generations = parsed + unparsed, each of these by reason too.
        """
        queries = self._chosen(collection.queries(self.split))
        made_of = {**self.contract(), "texts": digest([list(queries.ids), list(queries.texts)])}
        return written(folder, made_of, lambda made: self._documents(queries, made), collection.instructions)

    def contract(self) -> dict[str, Any]:
        """All that determines the passages of given queries, as plain values."""
        own = ("split", "lengths", "difficulties", "examples", "tries", "queries", "seed")
        settings = {name: getattr(self, name) for name in own} | {"levels": [asdict(level) for level in self.levels]}
        return {**settings, **self.prompt.about(), "asked": self.asker.about()}

    def provenance(self) -> dict[str, Any]:
        """What determines the passages, and counts of all that was asked so far."""
        return self.contract() | self.asker.counts()

    def _chosen(self, queries: Queries) -> Queries:
        if self.queries is None or self.queries >= len(queries):
            return queries
        return queries.take(np.sort(np.random.default_rng(self.seed).permutation(len(queries))[: self.queries]))

    def _documents(self, queries: Queries, made: Made) -> Iterator[Document]:
        """The passages of all queries in order, asked for as they are wanted."""
        made.counts.update(dict.fromkeys(("queries", "kept", "dropped", "generations", "parsed", "unparsed"), 0))
        for start in range(0, len(queries), TOGETHER):
            some = queries.take(range(start, min(start + TOGETHER, len(queries))))
            for name, text, (passages, wrong) in zip(some.ids, some.texts, self._answers(some, made), strict=True):
                made.counts["queries"] += 1
                if not passages:
                    made.counts.update(["dropped", f"dropped: {wrong}"])
                    continue
                made.counts["kept"] += 1
                made.queries[name] = text
                made.qrels[name] = {f"{name}-{level.label}": level.label for level in self.levels}
                yield from map(Document, made.qrels[name], [""] * len(passages), passages)
        refuse_empty(made)

    def _answers(self, queries: Queries, made: Made) -> list[Answer]:
        """The last answer for each query."""
        answers: list[Answer] = [((), "empty query")] * len(queries)
        asked = [place for place, text in enumerate(queries.texts) if text.strip()]
        for number in range(self.tries):
            chats = [self._chat(queries.ids[place], queries.texts[place]) for place in asked]
            said = self.asker.ask(chats, self._read, FIX, thoughts=True, first=number)
            for place, one in zip(asked, said, strict=True):
                answers[place] = passages, wrong = one or FAILED
                made.counts.update(["generations", *(["parsed"] if passages else ["unparsed", f"unparsed: {wrong}"])])
            again = [place for place in asked if not answers[place][0]]
            made.counts[f"kept at try {number + 1}"] += len(asked) - len(again)
            asked = again
        return answers

    def _read(self, place: int, text: str) -> Answer:
        return parsed(answer_of(text), [level.name for level in self.levels])

    def _chat(self, name: str, query: str) -> list[dict[str, str]]:
        drawn = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        length, difficulty = (int.from_bytes(part) for part in (drawn[:8], drawn[8:16]))
        return self.prompt.messages(
            levels="\n".join(f"- {level.name}: {level.definition}" for level in self.levels),
            length=self.lengths[length % len(self.lengths)],
            difficulty=self.difficulties[difficulty % len(self.difficulties)],
            format="\n".join(_tagged(level.name, "...") for level in self.levels),
            examples=self.examples,
            query=query,
        )


def parsed(answer: str, levels: Sequence[str]) -> Answer:
    """The passage of each level, blanks evened out, or in a word or two why there are none."""
    found = [(" ".join(name.split()).casefold(), " ".join(text.split())) for name, text in PASSAGE.findall(answer)]
    names, texts = [name for name, _ in found], dict(found)
    outside = PASSAGE.sub("", answer).strip()
    wrong = {
        "empty answer": not answer,
        "unclosed passage": "<passage" in outside or any("<passage" in text for _, text in found),
        "text outside": bool(outside),
        "foreign level": not {*names} <= {level.casefold() for level in levels},
        "repeated level": len(texts) < len(found),
        "missing level": len(texts) < len(levels),
        "empty passage": not all(any(one.isalnum() for one in text) for text in texts.values()),
        "repeated passage": len({*texts.values()}) < len(texts),  # one text cannot have two labels
    }
    reason = next((what for what, is_so in wrong.items() if is_so), "")
    return () if reason else tuple(texts[level.casefold()] for level in levels), reason


def _tagged(level: str, text: str) -> str:
    return f'<passage level="{level}">\n{text}\n</passage>'


def _check(
    levels: Sequence[Level],
    lengths: Sequence[str],
    difficulties: Sequence[str],
    tries: int,
    queries: int | None,
    sampling: Sampling,
) -> None:
    names, labels = [level.name for level in levels], [level.label for level in levels]
    plain = all(name == " ".join(name.split()) and name and not {*'"<>'} & {*name} for name in names)
    apart = len({name.casefold() for name in names}) == len({*labels}) == len(levels)
    if len(levels) < 2 or not plain or not apart or min(labels) < 0:
        raise ValueError(
            "levels are at least 2, names differ and have no quotes, tags or blanks at the ends, labels differ and are "
            f"0 or more, not {dict(zip(names, labels, strict=True))}"
        )
    if not lengths or not difficulties:
        raise ValueError("lengths and difficulties: name at least one of each, to draw from")
    if tries < 1 or (queries is not None and queries < 1):
        raise ValueError(f"tries and queries are at least 1, not {tries} and {queries}")
    if tries > 1 and sampling.temperature == 0:
        raise ValueError(f"{tries} tries at temperature 0 are all the same: give sampling a temperature, or tries: 1")


def _examples(path: Path, levels: Sequence[Level]) -> list[str]:
    """Each line of the file as it is shown. Raises ValueError that names the line that is wrong, or an empty file."""
    found = []
    for number, line in lines(Path(path)):
        try:
            record = json.loads(line)
            texts = {level.name: record["passages"][level.name] for level in levels}
            told = {key: record[key] for key in ("length", "difficulty") if key in record} | {"query": record["query"]}
            whole = len(record["passages"]) == len(texts)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole or not all(isinstance(one, str) and one.strip() for one in (*texts.values(), *told.values())):
            names = ", ".join(f'"{level.name}": ...' for level in levels)
            raise ValueError(f'{path}:{number}: each line is {{"query": ..., "passages": {{{names}}}}}')
        shown = [f"{key.capitalize()}: {text}" for key, text in told.items()]
        found.append("\n".join(shown + [_tagged(name, text) for name, text in texts.items()]))
    if not found:
        raise ValueError(f"{path} has no examples: add some, or leave out `examples`")
    return found
