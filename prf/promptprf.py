"""PromptPRF: what the first documents say of themselves is put into the query, which is encoded and searched again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prf._texts import reworded
from prf._vectors import best
from retrieval.asking import cut_words
from retrieval.chat_prompt import prompt_file
from retrieval.feature_store import FeatureStore
from retrieval.protocols import COUNTED, Encoder, Extractor
from retrieval.types import Feedback, Queries

__all__ = ["PromptPRF"]

PLACE = re.compile(r"\{(\w+)\}")

Ranked = tuple[int, str]  # the rank of a document in the first pass, and its feature


class PromptPRF:
    """q' = template(q, the features of the first `depth` documents in rank order). Li et al. (2025), arXiv 2503.14887.

    A feature is of a document and knows no query. A query without features, and each at depth 0, keeps its text, which
    is searched with as the retriever alone would.
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
        drops nothing. `rank_labels` puts [1], [2] ... before them, their ranks in the first pass. `template` is a file
        with `# id version` and then text with {query} and {features}.
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
        file = prompt_file("prf", "promptprf", template)
        self.template, self.name = read_template(file)
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.truncated = self.dropped = self.missing = 0

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new texts.

        Raises ValueError without feedback documents of these queries, for features that were not extracted or are of
        another corpus, and for instructions, whose length an `encoder` would not count.
        """
        if not self.depth:
            return reworded(queries, queries.texts)
        if feedback is None:
            raise ValueError("PromptPRF needs feedback documents: put it behind a source, as `model` of feedback")
        if list(feedback.run.query_ids) != list(queries.ids):
            raise ValueError(f"PromptPRF was given {len(queries)} queries and the feedback of others")
        if self.encoder is not None and queries.instructions is not None:
            raise ValueError("PromptPRF cannot tell what fits beside instructions of queries: leave out the encoder")
        rows = best(feedback.run, self.depth)
        distinct = np.unique(np.concatenate([np.zeros(0, np.int32), *rows])).astype(np.int32)
        found = self._stored(distinct, feedback) if self._store else self._extracted(distinct, feedback)
        feature_of = dict(zip(distinct.tolist(), found, strict=True))
        usable = [self._usable([feature_of[row] for row in mine.tolist()]) for mine in rows]
        return reworded(queries, self._fitting(queries.texts, usable))

    def provenance(self) -> dict[str, Any]:
        """Template and settings, what the features are, and counts of all queries so far."""
        store, features = self._store, None
        if store:
            features = {"folder": str(self.features), "extractor": store.contract, "counts": store.counts}
        extractor: Any = self.extractor
        about = extractor.provenance() if hasattr(extractor, "provenance") else {}
        return {
            "template": self.name,
            "template sha256": self.digest,
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

    def _stored(self, rows: np.ndarray, feedback: Feedback) -> list[str]:
        """The features of these documents from the folder."""
        store: Any = self._store
        if store.fingerprint != feedback.run.docs.fingerprint:
            raise ValueError(
                f"{store.folder} holds features of corpus {store.fingerprint[:12]}, and the feedback documents are of "
                f"{feedback.run.docs.fingerprint[:12]}: extract those with retrieval.features"
            )
        return store.features(rows)

    def _extracted(self, rows: np.ndarray, feedback: Feedback) -> list[str]:
        """The same made here, of each text once however many queries found it; none of a blank one."""
        if feedback.texts is None:
            raise ValueError("PromptPRF needs the texts of feedback documents: name a source that shows them")
        texts = list(feedback.texts(rows))
        distinct = list(dict.fromkeys(text for text in texts if text.strip()))
        extractor: Any = self.extractor
        made = dict(zip(distinct, extractor.extract(distinct), strict=True))
        return [made.get(text) or "" for text in texts]

    def _usable(self, features: Sequence[str]) -> list[Ranked]:
        """Each cut to its words, with the rank of its document; an empty one is left out."""
        cut = [(rank, *cut_words(one, self.max_feature_words)) for rank, one in enumerate(features, 1) if one.strip()]
        self.truncated += sum(more for _, _, more in cut)
        self.missing += len(features) - len(cut)
        return [(rank, one) for rank, one, _ in cut]

    def _fitting(self, queries: Sequence[str], features: Sequence[Sequence[Ranked]]) -> list[str]:
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

    def _render(self, query: str, features: Sequence[Ranked]) -> str:
        if not features:
            return query
        marked = [f"[{rank}] {one}" if self.rank_labels else one for rank, one in features]
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
