"""Approximate late interaction over token vectors of a few bytes."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from retrieval.array_files import ArrayFiles, ArrayFolder, writing
from retrieval.compiled import chosen
from retrieval.files import digest
from retrieval.indexes.late import Late, maxsim
from retrieval.late_codes import Buckets, kmeans, nearest
from retrieval.model_files import choose_device
from retrieval.order import PAD, order
from retrieval.token_tiles import TokenTiles, checked
from retrieval.types import Representations, Tokens

if TYPE_CHECKING:
    from retrieval.token_vectors import TokenStore

__all__ = ["LateCompressed"]

log = logging.getLogger(__name__)

ROUNDS = 10  # of k-means
SAMPLE = 32  # token vectors a centroid that k-means sees
RESIDUALS = 2**16  # token vectors that the buckets are fitted to
TILE = 2**18  # token vectors coded at a time


class LateCompressed:
    """MaxSim on centroids and residuals of few bits, of the documents near the query's tokens.

    Santhanam et al. (2022): ColBERTv2 for the codes, PLAID for the search. The `probes` centroids closest to each query
    token give the documents that have a token there; MaxSim on centroids alone keeps `candidates` of them; MaxSim on
    the decompressed vectors ranks those. A list may be shorter than k: a document that is nowhere near is no result.
    """

    def __init__(
        self,
        centroids: int | None = None,
        bits: Literal[1, 2, 4] = 2,
        probes: int = 4,
        candidates: int = 1024,
        recall_queries: int | None = 32,
        seed: int = 0,
        device: str | None = None,
    ):
        """None for `centroids` is the power of two below 16 sqrt(token vectors), at most one for every four of them.

        `recall_queries` is how many queries, drawn with `seed` from the first ones that are searched, are searched
        exhaustively too, to tell the recall; None measures none. More probes than centroids are all of them.
        """
        chosen("bits", bits, Literal[1, 2, 4])
        numbers = {"centroids": centroids, "probes": probes, "candidates": candidates, "recall_queries": recall_queries}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}: at least 1 is needed")
        self.centroids, self.bits, self.probes, self.candidates = centroids, bits, probes, candidates
        self.recall_queries, self.seed, self.device = recall_queries, seed, device
        self.empty_queries = 0  # of all that were searched so far
        self.recall: dict[str, Any] | None = None

    def build(self, vectors: TokenStore | Tokens, rank: np.ndarray) -> None:
        """Index them in a folder that goes when the index does."""
        self._kept = tempfile.TemporaryDirectory(prefix="late-compressed-")
        self.open(vectors, rank, Path(self._kept.name))

    def open(self, vectors: TokenStore | Tokens, rank: np.ndarray, folder: Path) -> None:
        """Open the index of these settings in `folder`, built first where it is not there.

        Raises ValueError for fewer token vectors than centroids, and for an index of other vectors.
        """
        tiles = TokenTiles(vectors, TILE)
        place = Path(folder) / f"late-compressed-{self._key()}"
        if not place.is_dir():
            self._write(tiles, place)
        files = ArrayFiles(place)
        found = [files.about[name] for name in ("documents", "tokens", "dimensions")]
        if found != [len(tiles), int(tiles.offsets[-1]), tiles.width]:
            raise ValueError(f"{place} is of other token vectors: delete it, it is built again")
        self.vectors, self.rank, self.tiles, self.files, self.recall = vectors, rank, tiles, files, None
        self.codes = Codes(files, self.bits)

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order, then -1 and -inf."""
        asked = checked(queries, self.tiles.width, "late_compressed")
        k = min(k, len(self.tiles))
        if k > self.candidates:
            raise ValueError(f"{k} results of {self.candidates} candidates: raise candidates to {k} at least")
        rows = np.full((len(asked), k), PAD, np.int32)
        scores = np.full((len(asked), k), -np.inf, np.float32)
        filled = np.flatnonzero(np.diff(asked.offsets))
        self.empty_queries += len(asked) - len(filled)
        for i in filled.tolist() if k else ():
            found, of_found = self._search(asked.take([i]).vectors, k)
            rows[i, : len(found)], scores[i, : len(found)] = found, of_found
        if self.recall is None and self.recall_queries and len(filled) and k:
            self.recall = self._recall(asked, filled, rows, k)
        return rows, scores

    def near(self, query: np.ndarray) -> np.ndarray:
        """The rows, ascending, that have a token at a probed centroid of the query [tokens, dimensions], at most
        `candidates` of them, the best by MaxSim on centroids.
        """
        import torch

        device = choose_device(self.device)
        with torch.inference_mode():
            asked = torch.from_numpy(np.ascontiguousarray(query, np.float32)).to(device)
            products = torch.from_numpy(self.codes.centroids).to(device) @ asked.T  # [centroids, query tokens]
            probed = products.topk(min(self.probes, len(products)), dim=0).indices.unique().cpu().numpy()
            rows = self.codes.documents(probed)
            if len(rows) <= self.candidates:
                return rows
            positions, lengths = self.codes.positions(rows)
            places = torch.from_numpy(self.codes.places[positions].astype(np.int64)).to(device)
            best = torch.segment_reduce(products[places], "max", lengths=torch.from_numpy(lengths).to(device), axis=0)
            scores = best.sum(dim=1).cpu().numpy()
        return np.sort(order(rows[None], scores[None], self.rank, self.candidates)[0][0])

    def provenance(self) -> dict[str, Any]:
        """Sizes, build time and recall, for the manifest."""
        about, size = self.files.about, sum(path.stat().st_size for path in self.files.folder.iterdir())
        return {
            "index": "late_compressed",
            "centroids": about["centroids"],
            "bits": self.bits,
            "probes": self.probes,
            "candidates": self.candidates,
            "seed": self.seed,
            "bytes per token vector": self.codes.bytes,
            "bytes per document": round(size / max(1, len(self.tiles)), 1),
            "build seconds": about["build seconds"],
            "recall": self.recall,
            "documents without vectors": int(np.count_nonzero(self.tiles.lengths == 0)),
            "queries without vectors": self.empty_queries,
        }

    def _search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.near(query)
        if not len(rows):
            return rows, np.empty(0, np.float32)
        scores = maxsim(query, self.codes.decode(rows), 0.0)
        best, of_best = order(rows[None], scores[None], self.rank, k)
        return best[0], of_best[0]

    def _recall(self, queries: Tokens, filled: np.ndarray, rows: np.ndarray, k: int) -> dict[str, Any]:
        """How much of the exact k best was found, for a sample of the queries."""
        count = min(len(filled), self.recall_queries or 0)
        sample = np.sort(np.random.default_rng(self.seed).choice(filled, count, replace=False))
        exact = Late(device=self.device)
        exact.build(self.vectors, self.rank)
        wanted = exact.search(queries.take(sample), k)[0]
        hits = [np.isin(line[line != PAD], found).mean() for line, found in zip(wanted, rows[sample], strict=True)]
        return {"k": k, "queries": count, "recall": round(float(np.mean(hits)), 4)}

    def _key(self) -> str:
        about = {"centroids": self.centroids, "bits": self.bits, "seed": self.seed, "k-means": [ROUNDS, SAMPLE]}
        return digest(about)

    def _count(self, tokens: int) -> int:
        if not tokens:
            raise ValueError("no document has a token vector: there is nothing to compress")
        if self.centroids is None:
            return max(1, min(2 ** int(math.log2(16 * math.sqrt(tokens))), tokens // 4))
        if self.centroids > tokens:
            raise ValueError(f"{self.centroids} centroids of {tokens} token vectors: ask for {tokens} at most")
        return self.centroids

    def _write(self, tiles: TokenTiles, folder: Path) -> None:
        begun, device, tokens = time.perf_counter(), choose_device(self.device), int(tiles.offsets[-1])
        count = self._count(tokens)
        sample = _sample(tiles, min(tokens, SAMPLE * count), self.seed)
        log.info("%d centroids of %d of %d token vectors", count, len(sample), tokens)
        centroids = kmeans(sample, count, ROUNDS, self.seed, device)
        some = sample[:: max(1, len(sample) // RESIDUALS)]
        buckets = Buckets.fit(some - centroids[nearest(some, centroids, device)], self.bits)
        with writing(folder) as part:
            for name, array in (("centroids", centroids), ("cuts", buckets.cuts), ("means", buckets.means)):
                part.write(name, array.reshape(-1))
            part.write("offsets", tiles.offsets)
            places = _encode(tiles, centroids, buckets, part, device)
            _invert(places, tiles, count, part)
            about = {"documents": len(tiles), "tokens": tokens, "dimensions": tiles.width, "centroids": count}
            part.finish({**about, "build seconds": round(time.perf_counter() - begun, 3)})


class Codes:
    """What is stored of the documents."""

    def __init__(self, files: ArrayFiles, bits: int):
        width = files.about["dimensions"]
        self.centroids = np.array(files["centroids"]).reshape(-1, width)
        means = np.array(files["means"]).reshape(2**bits, width)
        self.buckets = Buckets(np.array(files["cuts"]).reshape(-1, width), means)
        self.offsets = np.array(files["offsets"])
        self.places = files["places"]  # [tokens], the centroid of each
        self.residuals = files["residuals"].reshape(-1, self.buckets.bytes)
        self.starts, self.rows = np.array(files["starts"]), files["rows"]  # the documents of each centroid

    @property
    def bytes(self) -> int:  # noqa: A003 - what it is
        """Of a token vector."""
        return self.places.itemsize + self.buckets.bytes

    def documents(self, centroids: np.ndarray) -> np.ndarray:
        """int32, ascending: the rows that have a token at any of these."""
        lists = [self.rows[self.starts[i] : self.starts[i + 1]] for i in centroids]
        return np.unique(np.concatenate([np.empty(0, np.int32), *lists]))

    def positions(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places of the tokens of these documents, and how many each has, int64."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        before = np.cumsum(lengths) - lengths
        return np.repeat(self.offsets[rows] - before, lengths) + np.arange(lengths.sum()), lengths

    def decode(self, rows: np.ndarray) -> Tokens:
        """The vectors of these documents, as far as they are known."""
        positions, lengths = self.positions(rows)
        vectors = self.centroids[self.places[positions]] + self.buckets.decode(self.residuals[positions])
        return Tokens(vectors, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def _sample(tiles: TokenTiles, count: int, seed: int) -> np.ndarray:
    """float32 [count, dimensions], token vectors in their order. Raises ValueError for NaN among them."""
    wanted = np.sort(np.random.default_rng(seed).choice(int(tiles.offsets[-1]), count, replace=False))
    found, at = np.empty((count, tiles.width), np.float32), 0
    for first, tile in tiles:
        begin = tiles.offsets[first]
        stop = int(np.searchsorted(wanted, begin + len(tile.vectors)))
        found[at:stop] = tile.vectors[wanted[at:stop] - begin]
        at = stop
    return found


def _encode(tiles: TokenTiles, centroids: np.ndarray, buckets: Buckets, part: ArrayFolder, device: Any) -> np.ndarray:
    """Write centroid and residual of every token vector; returns the centroids. Raises ValueError for NaN."""
    dtype = np.uint16 if len(centroids) <= 2**16 else np.int32
    every = np.empty(int(tiles.offsets[-1]), dtype)
    writers = part.writer("places", dtype), part.writer("residuals", np.uint8)
    with tqdm(total=len(every), desc="compress", unit=" vectors", disable=len(every) < TILE) as bar:
        for first, tile in tiles:
            finite = np.isfinite(tile.vectors).all(axis=1)
            if not finite.all():
                row = int(np.searchsorted(tile.offsets, np.argmin(finite), side="right")) - 1
                raise ValueError(f"a token vector of row {first + row} is not finite")
            places = nearest(tile.vectors, centroids, device) if len(tile.vectors) else np.empty(0, np.int32)
            writers[0].append(places)
            writers[1].append(buckets.encode(tile.vectors - centroids[places]).reshape(-1))
            every[tiles.offsets[first] : tiles.offsets[first] + len(places)] = places
            bar.update(len(places))
    return every


def _invert(places: np.ndarray, tiles: TokenTiles, centroids: int, part: ArrayFolder) -> None:
    """Write the rows of the documents that have a token at each centroid, ascending."""
    rows = np.repeat(np.arange(len(tiles), dtype=np.int64), tiles.lengths)
    pairs = np.unique(places.astype(np.int64) * len(tiles) + rows)
    starts = np.searchsorted(pairs, np.arange(centroids + 1, dtype=np.int64) * len(tiles))
    part.write("starts", starts.astype(np.int64))
    part.write("rows", (pairs % max(1, len(tiles))).astype(np.int32))
