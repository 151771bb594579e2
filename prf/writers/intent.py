"""A description of what a query wants and does not want, from documents above and below in the first pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prf._passages import written
from prf._texts import texts_of
from prf._writing import Texts, prompt_of
from prf.append import Append
from retrieval.protocols import Encoder, Generator
from retrieval.reranking import spans
from retrieval.sampling import Sampling
from retrieval.types import Dense, Feedback, Queries

__all__ = ["Intent"]

END = re.compile(r"(?<=[.!?])[\"”’)]*\s+|\n+")


class Intent:
    """An intent description like a TREC narrative, without training: our own formulation after Zhang et al. (2020).

    The sentences of the first documents are weighed by `sentence_weights` against those of the last, and the heaviest
    are shown to a model. A query whose first pass shows no text stays as it is, and is counted.
    """

    needs = ("texts",)

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        relevant: int = 3,
        irrelevant: int = 3,
        sentences: int = 8,
        contrast: float = 1.0,
        sampling: Sampling = Sampling(max_tokens=256),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """The first `relevant` documents of the first pass are wanted, its last `irrelevant` others are not.

        `encoder` gives a vector a text; `contrast` is the lambda of the weights; `sentences` of either kind are shown.
        `prompt` is a file of chat turns with {query}, {relevant} and {irrelevant}; None is
        our own. An answer that failed raises ValueError, unless `fallback` is keep.
        """
        if relevant < 1 or irrelevant < 0 or sentences < 1:
            raise ValueError(
                f"relevant and sentences are at least 1 and irrelevant 0 or more, "
                f"not {relevant}, {sentences} and {irrelevant}"
            )
        self.generator, self.encoder, self.contrast = generator, encoder, contrast
        self.relevant, self.irrelevant, self.sentences = relevant, irrelevant, sentences
        self.documents_read, self.sampling, self.fallback = relevant + irrelevant, sampling, fallback
        self.prompt = prompt_of("intent", prompt, ("query", "relevant", "irrelevant"))
        self.texts = Texts(generator, sampling, 1, fallback)
        self.truncated = self.without = 0

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """A description of each query. Raises ValueError without texts, and for an encoder of other vectors."""
        every = [self._split(texts) for texts in texts_of(self, queries, feedback, None)]
        shown = [one for span in spans(len(queries)) for one in self._chosen(span, queries, every)]
        self.without += sum(not wanted for wanted, _ in shown)
        chats = [
            self.prompt.messages(query=query, relevant=_lines(wanted), irrelevant=_lines(unwanted)) if wanted else None
            for query, (wanted, unwanted) in zip(queries.texts, shown, strict=True)
        ]
        return written(self.texts, chats)

    def join(self) -> Append:
        """The query, then the description."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far."""
        about = {name: getattr(self, name) for name in ("relevant", "irrelevant", "sentences", "contrast")}
        counts = {"truncated sentences": self.truncated, "queries without passages": self.without}
        encoder = {"encoder": dict(self.encoder.contract())}
        return {**about, **encoder, **counts, **self.prompt.about(), **self.texts.provenance()}

    def _split(self, texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """Sentences of the first documents, and of the last ones that are not among these."""
        rest = texts[self.relevant :]
        last = rest[max(len(rest) - self.irrelevant, 0) :]
        wanted, unwanted = (
            [one for text in part for one in sentences_of(text)] for part in (texts[: self.relevant], last)
        )
        return wanted, unwanted

    def _chosen(
        self, span: np.ndarray, queries: Queries, every: Sequence[tuple[list[str], list[str]]]
    ) -> list[tuple[list[str], list[str]]]:
        """The heaviest sentences of both kinds, of the queries in this span."""
        asked = self._vectors(self.encoder.encode_queries([queries.texts[i] for i in span]))
        parts = [part for i in span for part in every[i]]
        texts = [text for part in parts for text in part]
        vectors = self._vectors(self.encoder.encode_docs(texts)) if texts else np.zeros((0, asked.shape[1]))
        split = np.split(vectors, np.cumsum([len(part) for part in parts])[:-1])
        chosen = []
        for place, query in enumerate(asked):
            (wanted, unwanted), (inside, outside) = parts[2 * place :][:2], split[2 * place :][:2]
            weights = sentence_weights(query, inside, outside, self.contrast)
            near = _unit(outside) @ _unit(query)
            chosen.append((_heaviest(wanted, weights, self.sentences), _heaviest(unwanted, near, self.sentences)))
        return chosen

    def _vectors(self, found: Any) -> np.ndarray:
        if not isinstance(found, Dense):
            raise ValueError(f"{type(self.encoder).__name__} gives no single vector a text: choose a dense encoder")
        self.truncated += found.truncated
        return found.vectors.astype(np.float64)


def sentence_weights(query: np.ndarray, relevant: np.ndarray, irrelevant: np.ndarray, contrast: float) -> np.ndarray:
    """float64 [sentences], w(s) = softmax(sim(s, q) + lambda (sim(s, mean of R) - max over I of sim(s, u))).

    Cosines of the vectors of the query [d] and of the sentences of R [sentences, d] and I [others, d]; without any in I
    the weights are softmax(sim(s, q)).
    """
    inside = _unit(relevant)
    score = inside @ _unit(query)
    if len(relevant) and len(irrelevant):
        score = score + contrast * (inside @ _unit(relevant.mean(0)) - (inside @ _unit(irrelevant).T).max(1))
    raised = np.exp(score - score.max(initial=-np.inf))
    return raised / raised.sum()


def sentences_of(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks, and at line ends."""
    return [" ".join(part.split()) for part in END.split(text) if any(map(str.isalnum, part))]


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm == 0, 1, norm)


def _heaviest(texts: Sequence[str], weights: np.ndarray, count: int) -> list[str]:
    """The heaviest texts in the order of reading."""
    return [texts[i] for i in sorted(np.argsort(-weights, kind="stable")[:count].tolist())]


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts) or "(none)"
