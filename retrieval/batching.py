"""Texts to batches of tokens of like length, each encoded once, on all cores or on the GPU."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

__all__ = ["Budget", "batches", "distinct", "in_batches", "pad", "tokenize"]

Found = TypeVar("Found")

log = logging.getLogger(__name__)

# What torch's allocators say where there is no class of error for it: of a processor, and of cuBLAS.
NO_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
_HALVING = threading.Lock()  # not one a budget: an encoder is sent to other processes


class Budget:
    """The most tokens of a padded batch. Out of memory halves it, and it stays halved for all that comes after.

    It changes the last bits of what is computed, so an encoder has one for its lifetime and tells of it.
    """

    def __init__(self, tokens: int):
        if tokens < 1:
            raise ValueError(f"batch_tokens is {tokens}: a batch holds at least 1 token")
        self.first = self.tokens = tokens

    def halve(self, seen: int, what: str) -> None:
        """Halve it, if it is still what the batch that failed was cut by: batches that run at once fail together."""
        with _HALVING:
            if self.tokens == seen:
                self.tokens = max(1, seen // 2)
                log.warning("%s: out of memory, batches of %d tokens instead of %d", what, self.tokens, seen)

    def about(self) -> dict[str, int]:
        """Plain values for a manifest."""
        halved = {} if self.tokens == self.first else {"batch tokens halved to": self.tokens}
        return {"batch_tokens": self.first, **halved}


def tokenize(tokenizer: Any, texts: Sequence[str], limit: int | None, prompt: str = "") -> tuple[list[list[int]], int]:
    """Token ids of each text, special tokens included, and how many texts had to be cut."""
    found: list[list[int]] = []
    cut = 0
    for start in range(0, len(texts), 1024):
        part = [prompt + text for text in texts[start : start + 1024]]
        whole = tokenizer(part, truncation=True, max_length=limit, return_overflowing_tokens=True)
        source = np.asarray(whole["overflow_to_sample_mapping"])
        first = np.flatnonzero(np.diff(source, prepend=-1))
        cut += int(np.count_nonzero(np.bincount(source) > 1))
        found += [whole["input_ids"][i] for i in first]
    return found, cut


def distinct(tokens: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The token lists that differ, and the place of each text among them.

    Equal texts are encoded once: in batches of other shapes their results would differ in the last bits.
    """
    place_of: dict[tuple[int, ...], int] = {}
    places = [place_of.setdefault(tuple(ids), len(place_of)) for ids in tokens]
    return list(place_of), places


def pad(tokens: Sequence[Sequence[int]], padding: int, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    """Token ids int64 [texts, tokens], filled up with the id `padding` on one side, and 1 where a token is."""
    lengths = np.array([len(ids) for ids in tokens])
    places = np.arange(lengths.max())
    mask = places >= lengths.max() - lengths[:, None] if side == "left" else places < lengths[:, None]
    ids = np.full(mask.shape, padding, np.int64)
    ids[mask] = np.concatenate([np.asarray(ids, np.int64) for ids in tokens])
    return ids, mask.astype(np.int64)


def batches(lengths: Sequence[int], batch_tokens: int) -> list[np.ndarray]:
    """Positions in batches of like length, longest first, each of at most `batch_tokens` tokens with padding."""
    order = np.argsort(-np.asarray(lengths, int), kind="stable")
    cuts, start = [], 0
    for place in range(len(order)):
        if (place - start + 1) * max(lengths[order[start]], 1) > batch_tokens and place > start:
            cuts.append(place)
            start = place
    return [part for part in np.split(order, cuts) if len(part)]


def in_batches(
    encode: Callable[[np.ndarray], Found], lengths: Sequence[int], budget: Budget, device: str, what: str
) -> Iterator[tuple[np.ndarray, Found]]:
    """The positions of each batch and what `encode` gives for them, longest texts first, under a progress bar.

    On a "cpu" a batch per core at a time. A batch that is out of memory is cut again by half the budget; a text that
    is so alone raises ValueError.
    """
    parts = batches(lengths, budget.tokens)

    def within(part: np.ndarray) -> list[tuple[np.ndarray, Found]]:
        return _within(encode, part, lengths, budget, what)

    found = _on_all_cores(within, parts) if device == "cpu" else map(within, parts)
    with tqdm(total=len(lengths), desc=what, unit=" texts", disable=len(lengths) < 256) as bar:
        for pieces in found:
            for part, one in pieces:
                bar.update(len(part))
                yield part, one


def _within(
    encode: Callable[[np.ndarray], Found], part: np.ndarray, lengths: Sequence[int], budget: Budget, what: str
) -> list[tuple[np.ndarray, Found]]:
    """One batch; where memory ends, in pieces of the budget that is then in force."""
    waiting, found = [part], []
    while waiting:
        tokens = budget.tokens
        part, *pieces = [waiting[0][i] for i in batches([lengths[i] for i in waiting[0]], tokens)]
        waiting[:1] = [part, *pieces]
        done = _unless_out_of_memory(encode, part)
        if done:
            found.append((waiting.pop(0), done[0]))
        elif len(part) == 1:
            raise ValueError(
                f"{what}: a text of {lengths[part[0]]} tokens does not fit into memory alone (batch_tokens {tokens}): "
                "lower max_length, or take a smaller dtype or a larger device"
            )
        else:
            budget.halve(tokens, what)
    return found


def _unless_out_of_memory(encode: Callable[[np.ndarray], Found], part: np.ndarray) -> list[Found]:
    """What it gives, in a list; an empty one where memory did not suffice."""
    import torch

    try:
        return [encode(part)]
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (known or any(words in str(error) for words in NO_MEMORY)):
            raise
    torch.cuda.empty_cache()  # once the error, whose frames hold the batch, is gone; without a GPU it does nothing
    return []


def _on_all_cores(encode: Callable[[np.ndarray], Found], parts: list[np.ndarray]) -> Iterator[Found]:
    """A batch per core at a time, each on one thread: faster than sharing one. A few batches are shared after all."""
    import torch

    cores = torch.get_num_threads()
    if len(parts) < 2 * cores:
        yield from map(encode, parts)
        return
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(encode, parts)
        finally:
            pool.shutdown(cancel_futures=True)
