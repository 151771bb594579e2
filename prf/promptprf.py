"""PromptPRF: what the first documents say of themselves is put into the query, which is encoded and searched again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prf._texts import reworded, texts_of
from retrieval.asking import cut_words
from retrieval.chat_prompt import prompt_file
from retrieval.feature_store import FeatureStore
from retrieval.protocols import COUNTED, Encoder, Extractor
from retrieval.types import Feedback, Queries

__all__ = ["PromptPRF"]

PLACE = re.compile(r"\{(\w+)\}")


class PromptPRF:
    """q' = template(q, the features of the first `depth` documents in rank order). Li et al. (2025), arXiv 2503.14887.

    A feature is of a document and knows no query. A query without features, and each at depth 0, stays as it is.
    """

    writes = "texts"

    def __init__(
        self,
        extractor: Extractor | None = None,
        features: Path | None = None,
        encoder: Encoder | None = None,
        depth: int = 5,
        rank_labels: bool = True,
        template: Path | None = None,
        max_feature_words: int | None = 40,
    ):
        """Features are those of the `features` folder that retrieval.features wrote, or made here by an `extractor`.

        `encoder` is that of the retriever: of a query longer than it reads the lowest-ranked features are dropped. None
        drops nothing. `rank_labels` puts [1], [2] ... before the features. `template` is a file with `# id version` and
        then text with {query} and {features}.
        """
        if (extractor is None) == (features is None):
            raise ValueError("PromptPRF needs an extractor, or a folder of features: exactly one of them")
        if depth < 0 or (max_feature_words is not None and max_feature_words < 1):
            raise ValueError(
                f"PromptPRF needs a depth of at least 0 and max_feature_words of at least 1, or None for whole ones, "
                f"not {depth} and {max_feature_words}"
            )
        if encoder is not None and not hasattr(encoder, "query_excess"):
            name = type(encoder).__name__
            raise ValueError(f"{name} has no query_excess(), which says what it would cut off: leave out the encoder")
        self.extractor, self.features, self.encoder = extractor, features, encoder
        self.needs: Sequence[str] = ("texts",) if features is None else ()
        self.depth, self.rank_labels, self.max_feature_words = depth, rank_labels, max_feature_words
        self.template, self.name = read_template(prompt_file("prf", "promptprf", template))
        self.truncated = self.dropped = self.missing = 0

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new texts. Raises ValueError without feedback documents, or with features of other ones."""
        if not self.depth:
            return queries
        if feedback is None:
            raise ValueError("PromptPRF needs feedback documents: put it behind a source, as `model` of feedback")
        found = self._stored(feedback) if self._store else self._extracted(queries, feedback)
        return reworded(queries, self._fitting(queries.texts, [self._usable(one) for one in found]))

    def provenance(self) -> dict[str, Any]:
        """Template and settings, what the features are, and counts of all queries so far."""
        features = {"folder": str(self.features), "extractor": self._store.contract} if self._store else None
        extractor: Any = self.extractor
        about = extractor.provenance() if hasattr(extractor, "provenance") else {}
        return {
            "template": self.name,
            "depth": self.depth,
            "rank labels": self.rank_labels,
            "max feature words": self.max_feature_words,
            "features": features or dict(extractor.contract()),
            **{what: count for what, count in about.items() if what.startswith((*COUNTED, "cached"))},
            "truncated features": self.truncated,
            "dropped features": self.dropped,
            "missing features": self.missing,
        }

    @cached_property
    def _store(self) -> FeatureStore | None:
        return FeatureStore(self.features) if self.features else None

    def _stored(self, feedback: Feedback) -> Iterator[list[str]]:
        """The features of each query's documents from the folder."""
        store: Any = self._store
        if store.fingerprint != feedback.run.docs.fingerprint:
            raise ValueError(
                f"{store.folder} holds features of corpus {store.fingerprint[:12]}, and the feedback documents are of "
                f"{feedback.run.docs.fingerprint[:12]}: extract those with retrieval.features"
            )
        yield from (store.features(rows[rows >= 0]) for rows in feedback.run.rows[:, : self.depth])

    def _extracted(self, queries: Queries, feedback: Feedback) -> Iterator[list[str]]:
        """The same made here, of each document once however many queries found it."""
        texts = list(texts_of(self, queries, feedback, self.depth))
        distinct = list(dict.fromkeys(text for one in texts for text in one))
        extractor: Any = self.extractor
        made = dict(zip(distinct, extractor.extract(distinct), strict=True))
        yield from ([made[text] for text in one] for one in texts)

    def _usable(self, features: Sequence[str]) -> list[str]:
        """Each cut to its words; an empty one is left out."""
        cut = [cut_words(one, self.max_feature_words) for one in features if one.strip()]
        self.truncated += sum(more for _, more in cut)
        self.missing += len(features) - len(cut)
        return [one for one, _ in cut]

    def _fitting(self, queries: Sequence[str], features: Sequence[list[str]]) -> list[str]:
        """The new texts, each with as many of its first features as the encoder reads whole."""
        kept = np.array([len(one) for one in features], int)
        texts = [self._render(query, one) for query, one in zip(queries, features, strict=True)]
        left = np.flatnonzero(kept).tolist() if self.encoder else []
        while len(left):
            excess = self.encoder.query_excess([texts[i] for i in left])  # type: ignore[union-attr]
            left = [i for i, over in zip(left, excess, strict=True) if over and kept[i]]
            for i in left:
                kept[i] -= 1
                texts[i] = self._render(queries[i], features[i][: kept[i]])
            self.dropped += len(left)
        return texts

    def _render(self, query: str, features: Sequence[str]) -> str:
        if not features:
            return query
        marked = [f"[{rank}] {one}" for rank, one in enumerate(features, 1)] if self.rank_labels else features
        values = {"query": query, "features": " ".join(marked)}
        return PLACE.sub(lambda place: values[place[1]], self.template)


def read_template(path: Any) -> tuple[str, str]:
    """The text of a template, and its id and version. Raises ValueError for what it lacks or does not know."""
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    if not re.fullmatch(r"# \S+ \S+", first.strip()):
        raise ValueError(f"{path} begins with {first[:40]!r}: the first line is `# id version`")
    places = PLACE.findall(text)
    if sorted(places) != ["features", "query"]:
        raise ValueError(f"{path} has the places {places}: it needs {{query}} and {{features}}, once each")
    return text.strip(), first.strip()[2:]
