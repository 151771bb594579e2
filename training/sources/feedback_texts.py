"""Training data whose queries are read together with what a first pass finds for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrieval.composed import refuse_lack
from retrieval.lists import Lists
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, FeedbackSource, Reformulator, Source
from training.retrieved import retrieved

__all__ = ["FeedbackTexts"]


class FeedbackTexts:
    """Another source, each query's text with its first documents behind it, its list as it was. Yu et al. (2021).

    What ANCE-PRF is trained on: `model`, such as ance_prf, says how query and documents make one text. Only its
    `texts` are asked for, so its encoder need not be trained yet. Documents judged relevant stay among those found, as
    they do when a query is searched.
    """

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        retriever: FeedbackSource,
        model: Reformulator,
        depth: int = 10,
    ):
        """`depth` is how many documents `retriever` finds in `dataset`, no fewer than the model reads."""
        if not hasattr(model, "texts"):
            raise ValueError(f"{type(model).__name__} has no texts() that an encoder could be trained on: use ance_prf")
        if not hasattr(retriever, "retrieve"):
            raise ValueError(f"{type(retriever).__name__} retrieves nothing, so it cannot be a source of feedback")
        read = getattr(model, "fb_docs", 1)
        if depth < max(1, read):
            raise ValueError(f"depth is {depth}, and {type(model).__name__} reads {read} documents: give at least that")
        self.source, self.dataset, self.depth = source, dataset, depth
        self.retriever: Any = retriever
        self.model: Any = model

    def lists(self) -> Lists:
        """The lists of the source. Raises ValueError where the retriever shows no texts of its documents."""
        lists, collection = self.source.lists(), self.dataset.open()
        self.retriever.open(collection.corpus, cache_folder())
        run = retrieved(self.retriever, collection.corpus, lists.queries, self.depth, opened=True)
        own, feedback = self.retriever.feedback(lists.queries, run)
        refuse_lack(self.model, feedback, self.retriever)
        queries = replace(lists.queries, texts=self.model.texts(own, feedback))
        alone = int(np.count_nonzero(~(run.rows >= 0).any(1)))
        counts = {**lists.counts, "queries without feedback": alone}
        return replace(lists, queries=queries, counts=counts, asked=lists.original)
