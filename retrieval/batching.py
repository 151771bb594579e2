"""Texts to batches of tokens of like length, each encoded once, on all cores or on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

__all__ = ["batches", "distinct", "in_batches", "tokenize"]

Found = TypeVar("Found")


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
    encode: Callable[[np.ndarray], Found], parts: list[np.ndarray], device: str, what: str
) -> Iterator[tuple[np.ndarray, Found]]:
    """Each batch and what it gives, in order, under a progress bar; on a "cpu" a batch per core at a time."""
    found = _on_all_cores(encode, parts) if device == "cpu" else map(encode, parts)
    total = sum(map(len, parts))
    with tqdm(total=total, desc=what, unit=" texts", disable=total < 256) as bar:
        for part, one in zip(parts, found, strict=True):
            bar.update(len(part))
            yield part, one


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
