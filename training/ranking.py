"""Training to rank: queries and their passages through the model, and a loss of their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.lists import Passages
from retrieval.protocols import Loss, Regulariser
from training.batches import Batches, labels_and_mask
from training.collections import Group, Groups
from training.gradcache import cached_step
from training.past import Past
from training.pieces import Batch, pieces, whole
from training.task import Passes, gathered
from training.trainable import PairTrainable, Trainable, VectorLoss

__all__ = ["Ranking"]

SIDES = ("docs", "queries", "pairs")  # queries after documents: where documents are frozen the last pass has gradients

TOKENS = {"cpu": 1024, "cuda": 65536}  # padded tokens that pass a model at once; measured on a processor


class Ranking:
    """Batches of groups: every query against the listed passages of all of them, or against its own alone."""

    when_out_of_memory = (
        "set trainer.chunk_tokens, such as 4096, which gives the same gradients in less memory, or halve it"
    )

    def __init__(
        self,
        model: Trainable | PairTrainable,
        groups: Groups,
        loss: Loss | VectorLoss,
        batch_size: int,
        seed: int,
        in_batch: bool = True,
        past: int = 0,
        chunk_tokens: int | None = None,
        query_regularisers: Sequence[Regulariser] = (),
        doc_regularisers: Sequence[Regulariser] = (),
        regulariser_steps: int = 0,
    ):
        """The arguments are those of Trainer, which says what they mean."""
        self.reads_pairs = hasattr(model, "tokenize_pairs")
        _check_loss(loss, in_batch, groups.lists.targets is not None)
        _check_positives(loss, groups)
        if self.reads_pairs and (in_batch or past or query_regularisers or doc_regularisers):
            raise ValueError(
                f"{type(model).__name__} reads a query and a passage together: set in_batch to false, and leave out "
                "past and regularisers, which are of vectors"
            )
        if past and not in_batch:
            raise ValueError(f"past is {past}, and earlier passages are compared in a batch only: set in_batch to true")
        self.loss, self.chunk_tokens = loss, chunk_tokens
        self.module: nn.Module = _Faces(cast(nn.Module, model))
        self.in_batch, self.past, self.batch_size, self.seed = in_batch, Past(past), batch_size, seed
        self.query_regularisers, self.doc_regularisers = query_regularisers, doc_regularisers
        self.regulariser_steps = regulariser_steps
        self.take(groups)

    def take(self, groups: Groups) -> None:
        """Go on with other groups."""
        self.batches = Batches(groups, self.batch_size, self.seed)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return self.batches.per_epoch

    def settings(self) -> dict[str, Any]:
        """What determines the data."""
        return {"groups": self.batches.groups.settings()}

    def collate(self, number: int, places: Sequence[int]) -> dict[str, Any]:
        """These queries of the batch and their passages, tokenised; labels and mask of the whole batch."""
        batch = self.batches[number]
        own = [batch[place] for place in places]
        texts = self.batches.groups.lists.passages.texts(np.concatenate([group["rows"] for group in own]))
        queries = [group["query"] for group in own]
        instructions = [group["instruction"] for group in own if "instruction" in group]
        batch = _by_text(batch, self.batches.groups.lists.passages)
        labels, mask = labels_and_mask(batch, self.in_batch)
        about = {"names": [group["query_id"] for group in batch], "batch": batch}
        return (
            about | self._tokenized(queries, instructions, texts) | {"labels": _tensor(labels), "mask": _tensor(mask)}
        )

    def step(self, passes: Passes, inputs: dict[str, Any]) -> Tensor:
        """Add the gradients of the batch's loss, of all processes together."""
        sides = [side for side in SIDES if side in inputs]

        def loss(own: Mapping[str, Tensor]) -> Tensor:
            return self._loss({side: gathered(own[side], passes) for side in sides}, inputs, passes) * passes.world_size

        if self.chunk_tokens is None:
            made = passes.module(**{side: inputs[side] for side in sides}, alike=passes.sharded)
            value = loss({side: one for side, one in zip(_Faces.order, made, strict=True) if one is not None})
            passes.backward(value)
        else:
            parts = {side: pieces(inputs[side], self._held(inputs[side], passes), passes.sharded) for side in sides}
            value = cached_step(passes.module, parts, loss, passes.backward, passes.unsynced)
        return value.detach() / passes.world_size

    def _held(self, batch: Batch, passes: Passes) -> int:
        """Padded tokens of a piece; of sharded weights no more than pass at once, as all processes pass as often."""
        assert self.chunk_tokens is not None
        return min(self.chunk_tokens, _at_once(batch)) if passes.sharded else self.chunk_tokens

    def state(self) -> Mapping[str, Tensor]:
        """The passages of past batches."""
        return self.past.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up the passages of past batches."""
        self.past.restore(state)

    def _tokenized(self, queries: list[str], instructions: list[str], texts: list[str]) -> dict[str, Any]:
        if self.reads_pairs:
            size = self.batches.groups.size
            repeated = [query for query in queries for _ in range(size)]
            return {"pairs": cast(PairTrainable, self.module.model).tokenize_pairs(repeated, texts)}
        model: Any = self.module.model
        instructed = instructions and hasattr(model, "tokenize_instructed")  # others are searched with texts alone
        asked = model.tokenize_instructed(queries, instructions) if instructed else model.tokenize_queries(queries)
        return {"queries": asked, "docs": model.tokenize_docs(texts)}

    def _loss(self, made: dict[str, Tensor], inputs: dict[str, Any], passes: Passes) -> Tensor:
        """Of the representations, or pair scores, of the whole batch."""
        labels, mask = inputs["labels"], inputs["mask"]
        if self.reads_pairs:
            return self.loss(made["pairs"].reshape(labels.shape), labels, mask)  # type: ignore[operator]
        queries, docs = made["queries"], made["docs"]
        model = cast(Trainable, self.module.model)
        penalty = self._penalty(queries, docs, passes.progress)
        docs, labels, mask = self.past.joined(docs, labels, mask, inputs["batch"])
        if isinstance(self.loss, VectorLoss):
            self.loss.step = passes.progress
            value = self.loss.of_vectors(queries, docs, model, labels, mask)
        else:
            value = self.loss(self._scores(model, queries, docs, labels.shape[1]), labels, mask)
        return value if penalty is None else value + penalty

    def _scores(self, model: Trainable, queries: Tensor, docs: Tensor, columns: int) -> Tensor:
        if self.in_batch:
            return model.score(queries, docs)
        own = docs.split(columns)
        return torch.cat([model.score(queries[i : i + 1], docs) for i, docs in enumerate(own)])

    def _penalty(self, queries: Tensor, docs: Tensor, progress: int) -> Tensor | None:
        """Of the regularisers; their weight rises quadratically over the first steps. Formal et al. (2021)."""
        terms = [one(queries) for one in self.query_regularisers] + [one(docs) for one in self.doc_regularisers]
        if not terms:
            return None
        rise = min(1.0, (progress + 1) / self.regulariser_steps) ** 2 if self.regulariser_steps else 1.0
        return rise * torch.stack(terms).sum()


def _check_loss(loss: Any, in_batch: bool, has_targets: bool) -> None:
    """Raises ValueError for scores or labels that a loss would misread."""
    name = type(loss).__name__
    if has_targets and not getattr(loss, "reads_scores", False):
        raise ValueError(f"{name} takes labels for grades, and data has a teacher's scores: use kl, margin_mse ...")
    if has_targets and in_batch:
        raise ValueError("passages of other queries have no teacher's score: set in_batch to false")
    if getattr(loss, "of_own_list", False) and in_batch:
        raise ValueError(f"{name} compares a query's own passages: set in_batch to false")
    if (getattr(loss, "of_batch", False) or isinstance(loss, VectorLoss)) and not in_batch:
        raise ValueError(f"{name} compares the passages of a batch: set in_batch to true")


def _check_positives(loss: Any, groups: Groups) -> None:
    """Raises ValueError where no place is kept for the positives that a loss needs, and a group may be without."""
    if groups.positives:
        return
    name, lists = type(loss).__name__, groups.lists
    if getattr(loss, "first_is_positive", False):
        raise ValueError(f"{name} takes a group's first passage for its positive: set groups.positives to 1 or more")
    if not getattr(loss, "needs_positive", False):
        return
    positive = lists.labels > 0 if groups.graded else lists.labels >= groups.relevant
    sizes, lower = np.diff(lists.offsets), np.bincount(lists.query[~positive], minlength=len(lists))
    kept = sizes >= (groups.size if groups.short == "drop" else 1)
    unsure = np.flatnonzero(kept & ((lower == sizes) | (lower >= groups.size)))
    if len(unsure):
        raise ValueError(
            f"{name} needs a positive in every group, and {len(unsure)} lists, such as that of query "
            f"{lists.queries.ids[unsure[0]]!r}, may give one without: set groups.positives to 1 or more"
        )


def _by_text(batch: Sequence[Group], passages: Passages) -> list[Group]:
    """The groups with a number for each text in place of its row: passages of equal text are one to a mask."""
    rows = np.unique(np.concatenate([np.concatenate([group["rows"], group["known"]]) for group in batch]))
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in passages.texts(rows)]
    numbers = np.frombuffer(b"".join(digests), np.int64)

    def named(own: np.ndarray) -> np.ndarray:
        return numbers[np.searchsorted(rows, own)]

    return [Group(**{**group, "rows": named(group["rows"]), "known": named(group["known"])}) for group in batch]


class _Faces(nn.Module):
    """One forward pass for whatever a step needs of a model, as data parallelism wants it."""

    order = ("queries", "docs", "pairs")

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self,
        queries: Batch | None = None,
        docs: Batch | None = None,
        pairs: Batch | None = None,
        alike: bool = False,
    ) -> tuple[Tensor | None, ...]:
        return (
            None if queries is None else _in_pieces(lambda batch: self.model(batch, queries=True), queries, alike),
            None if docs is None else _in_pieces(self.model, docs, alike),
            None if pairs is None else _in_pieces(self.model, pairs, alike),
        )


def _in_pieces(model: Callable[[Batch], Tensor], batch: Batch, alike: bool) -> Tensor:
    """What a model makes of a batch, texts of like length together."""
    parts = pieces(batch, _at_once(batch), alike)
    return whole([part.places for part in parts], [model(part.batch) for part in parts])


def _at_once(batch: Batch) -> int:
    return TOKENS.get(batch["attention_mask"].device.type, TOKENS["cuda"])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)
