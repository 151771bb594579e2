"""Lucene indexes on disk: built by Anserini, found by path or by Pyserini's name, opened."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval import jvm
from retrieval.files import whole_folder

__all__ = ["find_index", "index_documents", "index_impacts", "open_reader"]


def index_documents(documents: Iterable[Mapping[str, str]], folder: Path, threads: int = 1, *options: str) -> None:
    """Index records with `id`, `contents` and further fields. A record whose contents are blank is left out."""
    _index("JsonCollection", documents, folder, threads, options)


def index_impacts(vectors: Iterable[tuple[str, Mapping[str, int]]], folder: Path, threads: int = 1) -> None:
    """Index learned sparse vectors, document id and term -> whole impact, for `Lucene(impact=True, index=folder)`.

    Terms hold no white space. A document without terms is left out.
    """
    records = (
        {"id": name, "vector": {term: int(impact) for term, impact in vector.items()}} for name, vector in vectors
    )
    _index("JsonVectorCollection", records, folder, threads, ["-impact", "-pretokenized"])


def find_index(index: str | Path) -> Path:
    """The folder of an index: a path, or a prebuilt index of Pyserini's, fetched into its cache if need be.

    Raises ValueError for neither, and for a prebuilt one that cannot be fetched.
    """
    if Path(index).is_dir():
        return Path(index)
    known = jvm.pyserini_module("pyserini.prebuilt_index_info")
    about = {**known.TF_INDEX_INFO, **known.IMPACT_INDEX_INFO}.get(str(index))
    if about is None:
        raise ValueError(f"{index} is neither a folder nor the name of a prebuilt index of Pyserini's")
    util = jvm.pyserini_module("pyserini.util")
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return Path(util.download_prebuilt_index(index, verbose=False))
    except (ValueError, OSError, AssertionError):  # whatever failed, pyserini printed it and raised something else
        url, md5 = about["urls"][0], about["md5"]
        place = f"{util.get_cache_home()}/indexes/{url.rpartition('/')[2].partition('.tar.gz')[0]}.{md5}"
        raise ValueError(f"the index {index} cannot be fetched: put {url}, unpacked, at {place}") from None


def open_reader(folder: Path) -> Any:
    """Lucene's IndexReader. Raises ValueError for a folder that is no index."""
    reader = jvm.java_class("io.anserini.index.IndexReaderUtils")
    import jnius

    try:
        return reader.getReader(str(folder))
    except jnius.JavaException as error:
        raise ValueError(f"{folder} is no index that Lucene can read: {error.innermessage}") from None


def _index(collection: str, records: Iterable[Mapping], folder: Path, threads: int, options: Sequence[str]) -> None:
    """Have Anserini index files of records, one file a thread, into `folder`, which appears only when whole."""
    with whole_folder(folder, shared=True) as part, tempfile.TemporaryDirectory(dir=part.parent) as source:
        count = _write(records, [Path(source) / f"{number}.jsonl" for number in range(threads)])
        where = ["-collection", collection, "-input", source, "-index", str(part), "-threads", str(threads)]
        how = ["-generator", "DefaultLuceneDocumentGenerator", *options]
        log = jvm.run("io.anserini.index.IndexCollection", *where, *how)
        counted = {name: int(n.replace(",", "")) for name, n in re.findall(r" - (indexed|empty): +([\d,]+)\n", log)}
        if sum(counted.values()) != count:
            raise RuntimeError(f"Anserini was given {count} documents for {folder} and counted {counted}")


def _write(records: Iterable[Mapping], paths: Sequence[Path]) -> int:
    """Write the records to the files in turn; how many there were."""
    count = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "w", encoding="utf-8")) for path in paths]
        for record, file in zip(records, itertools.cycle(files), strict=False):
            file.write(json.dumps(record) + "\n")
            count += 1
    return count
