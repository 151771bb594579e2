"""Vectors of a corpus as searches want them: tile after tile on each device, read while the one before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.threads import Shared, read_ahead
from retrieval.vectors import VectorStore

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["DeviceTiles", "VectorTiles"]

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

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and vectors float32 [rows, dimensions]."""
        parts = self._vectors.tiles() if isinstance(self._vectors, VectorStore) else [(0, self._vectors)]
        for first, part in parts:
            for start in range(0, len(part), self.tile):
                yield first + start, np.ascontiguousarray(part[start : start + self.tile], np.float32)

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

    def run(self, work: Callable[[torch.device, Iterable[tuple[int, Tensor]]], None]) -> None:
        """Call `work` for each device at the same time, with the device, and first row and vectors of its tiles."""
        import torch

        shared = Shared(iter(self.tiles))

        def run_one(number: int) -> None:
            device = self.devices[number]
            with torch.inference_mode():
                work(device, self.kept[number] if self.resident else read_ahead(self._staged(shared, device)))

        if len(self.devices) == 1:
            run_one(0)
            return
        with ThreadPoolExecutor(len(self.devices)) as pool:
            list(pool.map(run_one, range(len(self.devices))))

    def _keep(self) -> None:
        buffer = self._buffer()
        for number, (first, tile) in enumerate(self.tiles):
            device = number % len(self.devices)
            there = self._filled(buffer, first, tile).to(self.devices[device], copy=True)
            self.kept[device].append((first, there))

    def _staged(self, tiles: Iterable[tuple[int, np.ndarray]], device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Tiles on the device, by way of two buffers in turn: one is filled while the other is computed with."""
        import torch

        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        buffers: dict[int, Tensor] = {}
        for number, (first, tile) in enumerate(tiles):
            if device.type == "cpu" and self.norms is None and tile.flags.writeable:
                yield first, torch.from_numpy(tile)  # as it is; torch wants memory that it may write to
                continue
            if number % 2 not in buffers:
                buffers[number % 2] = self._buffer(pinned=stream is not None)
            filled = self._filled(buffers[number % 2], first, tile)
            if stream:
                with torch.cuda.stream(stream):
                    filled = filled.to(device, non_blocking=True)
                stream.synchronize()  # in the thread that reads: the tile is there when it is handed on
            yield first, filled.to(device)

    def _buffer(self, pinned: bool = False) -> Tensor:
        import torch

        return torch.empty((min(self.tiles.tile, len(self.tiles)), self.tiles.shape[1]), pin_memory=pinned)

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
