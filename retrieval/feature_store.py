"""Features of documents on disk, shard by shard: what an extractor made of a corpus, or of the part a run found.

A feature whose generation failed is null, and the shard of it is done again by a later run: answers that the store of
generations keeps cost no model call.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from retrieval.corpus import Corpus
from retrieval.files import whole_file
from retrieval.protocols import COUNTED, Extractor

__all__ = ["FeatureStore", "extract_corpus"]

SHARD = 1024  # documents: what a kill may cost
COUNTS = b"counts"  # of a shard, in the metadata of its schema
SCHEMA = pa.schema([("row", pa.int32()), ("feature", pa.large_string())])


class FeatureStore:
    """Memory-mapped features by row of a corpus; `contract` is that of the extractor that made them.

    `counts` are what it counted while it made them: failures, tokens, seconds.
    """

    def __init__(self, folder: Path):
        """Open a folder that `extract_corpus` finished. Raises ValueError where it is not whole."""
        self.folder = Path(folder)
        about = _about(self.folder)
        self.fingerprint, self.contract = about["corpus"], about["extractor"]
        self._batches = [self._open(path) for path in _paths(self.folder, about["documents"], about["shard"])]
        self._rows = np.concatenate([np.zeros(0, np.int32), *(one.column(0).to_numpy() for one in self._batches)])
        if len(self._rows) != about["documents"]:
            raise ValueError(f"{self.folder} holds {len(self._rows)} features, not {about['documents']}; {_AGAIN}")
        self.counts = _summed(_counts(one.schema) for one in self._batches)
        self._starts = np.cumsum([0, *(one.num_rows for one in self._batches)])

    def __len__(self) -> int:
        return len(self._rows)

    def features(self, rows: np.ndarray) -> list[str]:
        """The feature of each of these rows, int32 [n], in order; an empty one where it failed or says nothing.

        Raises ValueError for rows that were not extracted.
        """
        places = np.searchsorted(self._rows, rows)
        lacking = int((self._rows[np.minimum(places, len(self) - 1)] != rows).sum())
        if lacking:
            raise ValueError(
                f"{self.folder} holds features of {len(self)} documents, and {lacking} others were not extracted: "
                "raise `depth` of retrieval.features, and name another folder"
            )
        return [self._at(place) or "" for place in places.tolist()]

    def _at(self, place: int) -> str | None:
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._batches[number].column(1)[place - int(self._starts[number])].as_py()

    def _open(self, path: Path) -> pa.RecordBatch:
        if not path.is_file():
            raise ValueError(f"{path} is missing; {_AGAIN}")
        return _read(path)


_AGAIN = "extract again with retrieval.features and the same recipe: finished shards are kept"


def extract_corpus(
    corpus: Corpus, extractor: Extractor, folder: Path, rows: np.ndarray | None = None, shard: int = SHARD
) -> FeatureStore:
    """Write the feature of every document, or of these rows (int32, ascending, each once), into `folder`.

    Finished shards are kept: killed and started again, it goes on, and ends with the same features. A shard with
    failed ones is done again. Raises ValueError where the folder is of another corpus, extractor, rows or shard.
    """
    rows = np.arange(len(corpus), dtype=np.int32) if rows is None else rows
    folder = Path(folder)
    _begin(folder, corpus, dict(extractor.contract()), rows, shard)
    paths = list(_paths(folder, len(rows), shard))
    for number, path in enumerate(tqdm(paths, "features", unit=" shards", disable=len(paths) < 2)):
        if not path.is_file() or _read(path).column(1).null_count:
            _write(path, rows[number * shard : (number + 1) * shard], corpus, extractor)
    return FeatureStore(folder)


def _write(path: Path, rows: np.ndarray, corpus: Corpus, extractor: Extractor) -> None:
    texts, before = corpus.texts(rows), _counted(extractor)
    found = extractor.extract(texts)
    if len(found) != len(texts):
        raise ValueError(f"{type(extractor).__name__} gives {len(found)} features of {len(texts)} documents")
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink()  # what was begun and killed
    counts = {what: round(count - before.get(what, 0), 3) for what, count in _counted(extractor).items()}
    schema = SCHEMA.with_metadata({COUNTS: json.dumps(counts)}) if counts else SCHEMA
    columns = [pa.array(rows, pa.int32()), pa.array(found, pa.large_string())]
    with whole_file(path) as part, pa.ipc.new_file(str(part), schema) as file:
        file.write_batch(pa.record_batch(columns, schema=schema))


def _read(path: Path) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def _counted(extractor: Extractor) -> dict[str, float]:
    """What an extractor counted so far."""
    about = extractor.provenance() if hasattr(extractor, "provenance") else {}
    return {what: count for what, count in about.items() if what.startswith(COUNTED)}


def _counts(schema: pa.Schema) -> dict[str, float]:
    return json.loads((schema.metadata or {}).get(COUNTS, b"{}"))


def _summed(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    summed: Counter[str] = Counter()
    for one in counts:
        summed.update(one)
    return {what: round(count, 3) for what, count in summed.items()}


def _paths(folder: Path, documents: int, shard: int) -> Iterator[Path]:
    return (folder / f"shard-{number:05d}.arrow" for number in range(-(-documents // shard)))


def _begin(folder: Path, corpus: Corpus, contract: Mapping[str, Any], rows: np.ndarray, shard: int) -> None:
    """Note what the shards are of, or hold them to what was noted."""
    if shard < 1 or not len(rows):
        raise ValueError(f"{len(rows)} documents in shards of {shard}: both are at least 1")
    about = {
        "corpus": corpus.fingerprint,
        "documents": len(rows),
        "rows sha256": hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest(),
        "shard": shard,
        "extractor": contract,
    }
    if (folder / "contract.json").is_file():
        there, here = _about(folder), json.loads(json.dumps(about))
        differing = next((key for key in about if there.get(key) != here[key]), None)
        if differing:
            raise ValueError(
                f"{folder} holds features of another {differing}: {there.get(differing)} there, {here[differing]} "
                "here; name another folder"
            )
        return
    with whole_file(folder / "contract.json") as part:
        part.write_text(json.dumps(about, indent=2), encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "contract.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no features (no contract.json); make them with retrieval.features")
    return json.loads(path.read_text(encoding="utf-8"))
