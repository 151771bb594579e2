"""A collection whose documents are followed by queries that were written for them: doc2query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from retrieval.collection import Collection, write_collection
from retrieval.corpus import Corpus, Document
from retrieval.files import digest
from retrieval.lists import Lists
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, Source

__all__ = ["Expanded"]


class Expanded:
    """The collection of a dataset, each document followed by the queries of a source that it is relevant to.

    doc2query, Nogueira et al. (2019); with a `filtered` source of `scored` queries and keep.percentile 70 doc2query--,
    Gospodinov et al. (2023). Queries and judgements are those of the dataset.
    """

    def __init__(self, dataset: Dataset, source: Source):
        self.dataset, self.source = dataset, source

    def open(self) -> Collection:
        """The collection, in the cache. Raises ValueError for a source whose queries are of other documents."""
        return self._collection

    @cached_property
    def _collection(self) -> Collection:
        plain, lists = self.dataset.open().by_people(), self.source.lists()
        if lists.passages.fingerprint != plain.corpus.fingerprint:
            raise ValueError(f"the queries to append are of other documents than those of {plain.name}")
        about = plain.provenance()
        named = digest([about["corpus"], lists.fingerprint(), about["queries.jsonl"], about["qrels"]])
        folder = cache_folder() / "datasets" / "expanded" / f"{plain.name}-{named}"
        if not folder.is_dir():
            documents, (texts, judged) = _documents(plain.corpus, _appended(lists)), _asked(plain)
            own = {name: one for name, one in plain.instructions.items() if name in texts}
            write_collection(folder, documents, texts, judged, shared=True, instructions=own)
        return Collection(folder, f"{plain.name} expanded", excludes_self=plain.excludes_self)


def _appended(lists: Lists) -> Mapping[int, list[str]]:
    """The queries of each row that has some, in their order."""
    found: dict[int, list[str]] = {}
    relevant = lists.labels > 0
    for query, row in zip(lists.query[relevant].tolist(), lists.rows[relevant].tolist(), strict=True):
        found.setdefault(row, []).append(lists.queries.texts[query])
    return found


def _documents(corpus: Corpus, appended: Mapping[int, Sequence[str]]) -> Iterator[Document]:
    for row, document in enumerate(corpus):
        yield document._replace(text=" ".join([document.text, *appended.get(row, [])]))


def _asked(collection: Collection) -> tuple[dict[str, str], dict[str, dict[str, dict[str, int]]]]:
    """The judged queries of all splits, and the judgements."""
    texts: dict[str, str] = {}
    for split in collection.splits():
        queries = collection.queries(split)
        texts |= zip(queries.ids, queries.texts, strict=True)
    return texts, {split: collection.qrels(split).to_dict() for split in collection.splits()}
