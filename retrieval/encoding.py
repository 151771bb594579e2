"""A corpus to vectors on disk, shard by shard: resumable, by as many processes as look at the folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.corpus import Corpus
from retrieval.environment import is_first_process
from retrieval.health import Health, OnFault, drift, keep, measure, report
from retrieval.number_formats import Number, suffix
from retrieval.protocols import Encoder
from retrieval.shards import SHARD, Claim, Shards, begin, claims, document_contract, opened
from retrieval.sparse_vectors import SparseStore, refuse_broken, sparse_shard
from retrieval.token_vectors import TokenStore, token_shard, token_suffix
from retrieval.types import Dense, Hybrid, Queries, Representations, Sparse, Tokens
from retrieval.vectors import VectorStore, dense_shard

__all__ = ["SHARD", "dense", "encode_corpus", "open_store", "sparse"]

PROBED = 32  # documents that are looked at before the encoding


@dataclass(frozen=True)
class Kind:
    """One kind of vector that an encoder makes: where it lies, and what a shard of it holds."""

    shards: Shards
    part: Callable[[Any], Any]  # of what the encoder gives
    width: Callable[[Any], int]
    content: Callable[[Any], tuple[list[np.ndarray], dict[str, Any]]]
    expected: int


def encode_corpus(
    corpus: Corpus,
    encoder: Encoder,
    folder: Path,
    dtype: Number = "float32",
    shard: int = SHARD,
    health: OnFault = "stop",
    numbers: Sequence[int] | None = None,
) -> None:
    """Write the vectors of every document, of each kind that the encoder makes, into `folder`.

    Finished shards are kept, so that a killed run goes on, and ends with the bytes of one that was not. A shard (of
    `shard` documents) is encoded by one process at a time, however many run this on the same folder; of a job with
    ranks the first waits until all is there, redoing what a dead one left. `numbers` are the shards to do, None all.

    Raises ValueError if the folder belongs to another corpus, encoder or dtype, for vectors that are not finite, and
    for what `retrieval.health` finds in a few documents beforehand, which `health="warn"` only tells of.
    """
    folder, contract = Path(folder), document_contract(encoder.contract())
    begin(folder, corpus, contract, dtype, shard)
    kinds = _kinds(folder, contract, len(corpus), dtype, shard)
    spans = kinds[0].shards.spans()
    numbers = range(len(spans)) if numbers is None else numbers

    def finished(number: int) -> bool:
        return all(kind.shards.finished(number) for kind in kinds)

    todo = [number for number in numbers if not finished(number)]
    if not todo:
        return
    about = _probe(corpus, encoder, folder, contract, health)
    taken: deque[Claim] = deque()
    held: list[Claim] = []

    def chunks() -> Iterator[list[str]]:
        for claim in claims(folder, todo, finished, wait=is_first_process()):
            held.append(claim)
            taken.append(claim)
            yield corpus.texts(np.arange(*spans[claim.number]))

    def write(claim: Claim, found: Representations) -> None:
        for kind in kinds:
            _write(kind, claim.number, found, corpus, about)
        claim.release()

    try:
        _in_background(write, ((taken.popleft(), found) for found in _encoded(encoder, chunks())), len(todo))
    finally:
        for claim in held:
            claim.release()


def open_store(folder: Path) -> VectorStore | TokenStore | SparseStore:
    """The store in a folder: of dense vectors where there are some, else of tokens, else sparse."""
    about = opened(Path(folder))
    if "dimensions" in about:
        return VectorStore(folder)
    return TokenStore(folder) if "token_dimensions" in about else SparseStore(folder)


def encoded_queries(encoder: Any, queries: Queries) -> Representations:
    """What an encoder makes of queries. Raises ValueError for instructions that it does not take."""
    if queries.instructions is None:
        return encoder.encode_queries(queries.texts)
    if not hasattr(encoder, "encode_instructed"):
        name = type(encoder).__name__
        raise ValueError(f"the queries carry instructions, which {name} does not take: choose another encoder")
    return encoder.encode_instructed(queries.texts, queries.instructions)


def dense(found: Representations) -> Representations:
    """The dense part of what an encoder makes of texts."""
    return found.dense if isinstance(found, Hybrid) else found


def sparse(found: Representations) -> Representations:
    """The sparse part of what an encoder makes of texts."""
    return found.sparse if isinstance(found, Hybrid) else found


def _kinds(folder: Path, contract: Mapping[str, Any], documents: int, dtype: Number, shard: int) -> list[Kind]:
    def shards(ending: str) -> Shards:
        return Shards(folder, ending, documents, shard)

    known: dict[str, Callable[[int], Kind]] = {
        "dimensions": lambda width: Kind(
            shards(suffix(dtype)), dense, lambda one: one.vectors.shape[1], lambda one: dense_shard(one, dtype), width
        ),
        "vocabulary": lambda width: Kind(shards("csr"), sparse, lambda one: one.matrix.shape[1], sparse_shard, width),
        "token_dimensions": lambda width: Kind(
            shards(token_suffix(dtype)),
            lambda found: found,
            lambda one: one.vectors.shape[1],
            lambda one: token_shard(one, dtype),
            width,
        ),
    }
    return [make(contract[width]) for width, make in known.items() if width in contract]


def _encoded(encoder: Any, chunks: Iterable[list[str]]) -> Iterator[Representations]:
    """What the encoder makes of each chunk; one that can tokenises the next while it encodes."""
    if hasattr(encoder, "encode_chunks"):
        return encoder.encode_chunks(chunks)
    return map(encoder.encode_docs, chunks)


def _in_background(write: Callable[[Claim, Representations], None], found: Iterator, total: int) -> None:
    """Write each shard in a thread while the next is encoded; at most one waits."""
    pending: Future | None = None
    with ThreadPoolExecutor(1) as writer, tqdm(total=total, desc="shards", unit=" shards", disable=total < 2) as bar:
        for claim, one in found:
            if pending:
                pending.result()
            pending = writer.submit(write, claim, one)
            bar.update()
        if pending:
            pending.result()


def _write(kind: Kind, number: int, found: Representations, corpus: Corpus, about: Health | None) -> None:
    start, stop = kind.shards.spans()[number]
    part, path = kind.part(found), kind.shards.path(number)
    if len(part) != stop - start or kind.width(part) != kind.expected:
        gave = f"{len(part)} documents, {kind.width(part)} wide"
        raise ValueError(f"{stop - start} documents gave vectors of {gave}, not {kind.expected} wide")
    _refuse_broken(part, corpus, np.arange(start, stop))
    arrays, counts = kind.content(part)
    kind.shards.write(number, arrays, counts)
    if about and "norm" in counts:
        drift(counts["norm"], about, path.name)


def _refuse_broken(part: Dense | Sparse | Tokens, corpus: Corpus, rows: np.ndarray) -> None:
    if isinstance(part, Sparse):
        refuse_broken(part.matrix, "document", corpus.ids.take(rows))
        return
    if np.isfinite(part.vectors).all():
        return
    place = int(np.argmin(np.isfinite(part.vectors).all(axis=1)))
    row = int(np.searchsorted(part.offsets, place, side="right")) - 1 if isinstance(part, Tokens) else place
    name = corpus.ids.take(rows[row : row + 1])[0]
    raise ValueError(f"the vector of document {name!r} is NaN or infinite: the encoder, or its dtype, is at fault")


def _probe(corpus: Corpus, encoder: Any, folder: Path, contract: Mapping[str, Any], health: OnFault) -> Health | None:
    """The figures of a few documents from all over the corpus, kept in health.json; None without dense vectors."""
    if "dimensions" not in contract:
        return None
    rows = np.unique(np.linspace(0, len(corpus) - 1, PROBED).astype(np.int64))
    texts = [text for text in corpus.texts(rows) if text.strip()]
    about = measure(dense(encoder.encode_docs(texts)))  # type: ignore[arg-type]
    report(about, contract, health)
    keep(about, folder)
    return about
