"""A clarifying question, and the answer of a simulated user: both join the query."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prf._texts import reworded, texts_of
from prf._writing import Texts
from retrieval.asking import cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.columns import whole_text
from retrieval.corpus import read_jsonl
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Clarify"]

WORDS = 150  # of a passage that the one who asks is shown
NOTHING = "(nothing)"


class Clarify:
    """q' = q, question, answer: one turn of ConvSim (Owoicho et al. 2023); several are turns of `multi_round`.

    One model asks, seeing the query and what it found. The other, the simulated user, alone knows the information need.
    Figures are of a conversation with someone who knows what is wanted, and not of a search by the query.
    """

    writes = "texts"

    def __init__(
        self,
        generator: Generator,
        user: Generator | None = None,
        information: Path | None = None,
        passages: int = 3,
        transcript: Path | None = None,
        prompts: Path | None = None,
        max_tokens: int = 64,
        fallback: Literal["keep"] | None = None,
    ):
        """`user` None is the same model. `information` is JSONL of {"_id", "need"}; None takes each instruction.

        `passages` of the first pass are shown to the one who asks. `transcript` is a JSONL file with each turn of each
        query; its number begins at 1 again where a query is asked afresh. `prompts` is a folder with your own
        clarify-question.txt and clarify-answer.txt. A failed generation raises ValueError unless `fallback` is named:
        keep leaves the query as it was, and the turn is written down with null in the place of what failed.
        """
        if passages < 0:
            raise ValueError(f"passages is {passages}; it is 0 or more")
        self.needs = ("texts",) if passages else ()
        self.generator, self.user, self.max_tokens, self.fallback = generator, user, max_tokens, fallback
        self.information, self.passages = information, passages
        self.transcript = None if transcript is None else str(transcript)  # written, so not what it is made of
        self.question = MessagePrompt.read(_file(prompts, "clarify-question"), ("query",), ("passages",))
        self.answer = MessagePrompt.read(_file(prompts, "clarify-answer"), ("need", "question"), ("query",))
        self.prompts = {"question": self.question, "answer": self.answer}
        sampling = Sampling(max_tokens)
        self.asks = Texts(generator, sampling, fallback=fallback, read=first_line)
        self.answers = Texts(user or generator, sampling, fallback=fallback, read=first_line)
        self.lines: list[dict[str, Any]] = []  # of the transcript
        self.last: dict[str, tuple[int, str]] = {}  # the number of each query's last turn, and the text that it left

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with question and answer after their texts.

        Raises ValueError for a query whose need is not known, and for a generation that failed.
        """
        needs = self._needs(queries)
        shown = texts_of(self, queries, feedback, self.passages) if self.passages else [[] for _ in queries.ids]
        chats = [
            self.question.messages(query=query, passages=_passages(texts))
            for query, texts in zip(queries.texts, shown, strict=True)
        ]
        questions = [question for (question,) in self.asks.slots(chats)]
        asked = [place for place, question in enumerate(questions) if question is not None]
        chats = [
            self.answer.messages(need=needs[place], question=questions[place], query=queries.texts[place])
            for place in asked
        ]
        answers = dict(zip(asked, (answer for (answer,) in self.answers.slots(chats)), strict=True))
        turns = zip(queries.ids, queries.texts, questions, map(answers.get, range(len(queries))), strict=True)
        texts = [self._turn(*turn) for turn in turns]
        self._save()
        return reworded(queries, texts)

    def provenance(self) -> dict[str, Any]:
        """What determines a turn, that the user is simulated, and counts of all that was asked so far."""
        asks, answers = self.asks.asker, self.answers.asker
        counts = Counter(asks.counts())
        counts.update(answers.counts())
        about = {"question": self.question.about() | asks.about(), "answer": self.answer.about() | answers.about()}
        return {"simulated user": True, "information": str(self.information), **about, **counts}

    def _needs(self, queries: Queries) -> Sequence[str]:
        """The information need of each query."""
        if self.information is None:
            if queries.instructions is None:
                raise ValueError("Clarify plays a user who knows what is wanted: name a file of `information`")
            return queries.instructions
        known = _read(Path(self.information))
        lacking = [query for query in queries.ids if query not in known]
        if lacking:
            raise ValueError(
                f"{self.information} has no need for {len(lacking)} queries, such as {lacking[0]!r}: add it"
            )
        return [known[query] for query in queries.ids]

    def _turn(self, query: str, text: str, question: str | None, answer: str | None) -> str:
        """The text after a turn, which is noted: the first one, but where the text is what the last turn left."""
        turn, left = self.last.get(query, (0, ""))
        turn = turn + 1 if text == left else 1
        self.lines.append({"_id": query, "turn": turn, "query": text, "question": question, "answer": answer})
        moved = text if answer is None else f"{text} {question} {answer}"
        self.last[query] = turn, moved
        return moved

    def _save(self) -> None:
        if self.transcript:
            with whole_text(Path(self.transcript)) as file:
                for line in self.lines:
                    file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def first_line(answer: str) -> str | None:
    """The first line of an answer that says anything."""
    every = (" ".join(line.split()) for line in answer.splitlines())
    return next((line for line in every if any(one.isalnum() for one in line)), None)


def _file(folder: Path | None, name: str) -> Any:
    return prompt_file("prf", name, Path(folder) / f"{name}.txt" if folder else None)


def _passages(texts: Sequence[str]) -> str:
    cut = (cut_words(text, WORDS)[0] for text in texts)
    return "\n".join(f"[{number}] {text}" for number, text in enumerate(cut, 1)) or NOTHING


def _read(path: Path) -> dict[str, str]:
    """Query id and need of each line. Raises ValueError with file and line."""
    found: dict[str, str] = {}
    for number, record in read_jsonl(path):
        query, need = str(record["_id"]), record.get("need")
        if not isinstance(need, str) or not need.strip():
            raise ValueError(f'{path}:{number}: each line is {{"_id": query id, "need": what is wanted}}')
        if query in found:
            raise ValueError(f"{path}:{number}: the need of query {query!r} is given twice: keep one")
        found[query] = need
    return found
