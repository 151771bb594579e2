"""Vectors of a corpus as searches want them: tile after tile on each device, read while the one before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.threads import Shared, Threads, read_ahead
from retrieval.types import Dense, Representations
from retrieval.vectors import VectorStore

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Tiles = Iterator[tuple[int, Tensor]]  # first row and vectors float32 [rows, dimensions]

__all__ = ["DeviceTiles", "VectorTiles", "checked"]

PART = 0.8  # of a GPU's free memory that resident vectors may take; the rest is for products


class VectorTiles:
    """A VectorStore, an array, or what can be indexed like one, behind one face."""

    def __init__(self, vectors: Any, tile: int):
        """`tile` is how many documents a tile holds at most."""
        self.tile, self.shape = tile, vectors.shape
        self.whole = np.ascontiguousarray(vectors, np.float32) if isinstance(vectors, np.ndarray) else None
        self._vectors = vectors if self.whole is None else self.whole

    def __len__(self) -> int:
        return self.shape[0]

    def cut(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """First row and vectors float32 [rows, dimensions], of up to `size` documents."""
        parts = self._vectors.tiles() if isinstance(self._vectors, VectorStore) else [(0, self._vectors)]
        for first, part in parts:
            for start in range(0, len(part), size):
                yield first + start, np.ascontiguousarray(part[start : start + size], np.float32)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Vectors float32 [len(rows), dimensions]."""
        found = self._vectors.rows(rows) if isinstance(self._vectors, VectorStore) else self._vectors[rows]
        return np.ascontiguousarray(found, np.float32)


class DeviceTiles:
    """Tiles on one device or dealt to several, of unit length if there are `norms`."""

    def __init__(
        self, tiles: VectorTiles, norms: np.ndarray | None, devices: Sequence[torch.device], resident: bool | None
    ):
        """`resident` keeps all tiles on the devices; None: if these are GPUs with the memory for it."""
        self.tiles, self.norms, self.devices = tiles, norms, devices
        self.kept: list[list[tuple[int, Tensor]]] = [[] for _ in devices]
        self.resident = self._fit() if resident is None else resident
        if self.resident:
            self._keep()

    def run(self, work: Callable[[torch.device, Tiles], None], size: int, threads: Threads) -> None:
        """Call `work` for each GPU, and in each of the processor's threads, with the device and tiles, all at a time.

        Tiles on the processor are of up to `size` documents.
        """
        import torch

        processors = [device.type == "cpu" for device in self.devices]
        size = min(size, self.tiles.tile)
        most = size if all(processors) else self.tiles.tile
        source = Shared(self.tiles.cut(most))

        def run_one(number: int) -> None:
            device = self.devices[number]
            kept = Shared(self.kept[number])

            def in_thread() -> None:
                with torch.inference_mode():
                    tiles = kept if self.resident else self._staged(source, device, most)
                    work(device, _smaller(tiles, size) if processors[number] else tiles)

            if processors[number]:
                threads.each(in_thread)
            else:
                in_thread()

        if len(self.devices) == 1:
            run_one(0)
            return
        with ThreadPoolExecutor(len(self.devices)) as pool:
            list(pool.map(run_one, range(len(self.devices))))

    def _keep(self) -> None:
        buffer = self._buffer(self.tiles.tile)
        for number, (first, tile) in enumerate(self.tiles.cut(self.tiles.tile)):
            device = number % len(self.devices)
            there = self._filled(buffer, first, tile).to(self.devices[device], copy=True)
            self.kept[device].append((first, there))

    def _staged(self, tiles: Iterator[tuple[int, np.ndarray]], device: torch.device, most: int) -> Tiles:
        """Tiles on the device; those that aren't there already are made so in a thread, ahead of their use."""
        import torch

        if device.type == "cpu" and self.norms is None and self.tiles.whole is not None:
            if self.tiles.whole.flags.writeable:  # or torch warns
                return ((first, torch.from_numpy(tile)) for first, tile in tiles)
        return read_ahead(self._copied(tiles, device, most))

    def _copied(self, tiles: Iterator[tuple[int, np.ndarray]], device: torch.device, most: int) -> Tiles:
        """Tiles on the device, by way of two buffers in turn: one is filled while the other is computed with."""
        import torch

        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        buffers: list[Tensor] = []
        for number, (first, tile) in enumerate(tiles):
            if len(buffers) < 2:
                buffers.append(self._buffer(most, pinned=stream is not None))
            filled = self._filled(buffers[number % 2], first, tile)
            if stream:
                with torch.cuda.stream(stream):
                    filled = filled.to(device, non_blocking=True)
                stream.synchronize()  # in the thread that reads: the tile is there when it is handed on
            yield first, filled.to(device)

    def _buffer(self, size: int, pinned: bool = False) -> Tensor:
        import torch

        return torch.empty((min(size, len(self.tiles)), self.tiles.shape[1]), pin_memory=pinned)

    def _filled(self, buffer: Tensor, first: int, tile: np.ndarray) -> Tensor:
        filled = buffer[: len(tile)]
        if self.norms is None:
            np.copyto(filled.numpy(), tile)
        else:
            norms = self.norms[first : first + len(tile), None]
            np.divide(tile, np.where(norms == 0, 1, norms), out=filled.numpy(), casting="same_kind")
        return filled

    def _fit(self) -> bool:
        import torch

        share = 4 * self.tiles.shape[1] * (len(self.tiles) // len(self.devices) + self.tiles.tile)
        return all(
            device.type == "cuda" and share < PART * torch.cuda.mem_get_info(device)[0] for device in self.devices
        )


def _smaller(tiles: Iterable[tuple[int, Tensor]], size: int) -> Tiles:
    for first, tile in tiles:
        for number, part in enumerate(tile.split(size)):
            yield first + number * size, part


def checked(queries: Representations, width: int, what: str) -> np.ndarray:
    """float32 [queries, dimensions]. Raises TypeError for another kind, ValueError for another width and for NaN."""
    if not isinstance(queries, Dense):
        raise TypeError(f"{what} searches dense vectors, not {type(queries).__name__}")
    if queries.vectors.shape[1] != width:
        wide = queries.vectors.shape[1]
        raise ValueError(f"queries have {wide} dimensions, the index has {width}: not of the same encoder")
    if not np.isfinite(queries.vectors).all():
        raise ValueError("a query vector is not finite")
    return np.ascontiguousarray(queries.vectors, np.float32)
