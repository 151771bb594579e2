"""Queries by one encoder, documents by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.protocols import Encoder
from retrieval.shards import WIDTHS
from retrieval.types import Representations

__all__ = ["Towers"]

# What an encoder may have besides, and whose it is here.
OF_QUERIES = ("encode_instructed", "instructed", "query_excess", "separator")
OF_DOCS = ("encode_chunks", "token_ids", "vocabulary")


class Towers:
    """Two encoders of one space, as DPR's (Karpukhin et al. 2020), or one trained for queries over a finished index.

    Documents are those of `docs` alone: their vectors are found again, and need not be encoded a second time.
    """

    def __init__(self, queries: Encoder, docs: Encoder):
        self.queries, self.docs = queries, docs

    def encode_queries(self, texts: Sequence[str]) -> Representations:
        """Those of the encoder of queries."""
        return self.queries.encode_queries(texts)

    def encode_docs(self, texts: Sequence[str]) -> Representations:
        """Those of the encoder of documents."""
        return self.docs.encode_docs(texts)

    def contract(self) -> Mapping[str, Any]:
        """That of the documents' encoder, with all of the other under `queries`.

        Raises ValueError for encoders whose representations have not the same kind and width.
        """
        asked, stored = self.queries.contract(), self.docs.contract()
        kinds = [{name: about[name] for name in WIDTHS if name in about} for about in (asked, stored)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"towers: queries have {kinds[0]} and documents {kinds[1]}, which cannot be compared")
        return {**stored, "queries": dict(asked)}

    def provenance(self) -> dict[str, Any]:
        """The contract, and what else the two tell of themselves, for the manifest."""
        parts = {"encoder of queries": self.queries, "encoder of documents": self.docs}
        told = {place: part.provenance() for place, part in parts.items() if hasattr(part, "provenance")}
        return {**self.contract(), **told}

    def __getattr__(self, name: str) -> Any:
        """What else an encoder may have, where the one that it concerns has it."""
        if name in OF_QUERIES:
            return getattr(self.queries, name)
        if name in OF_DOCS:
            return getattr(self.docs, name)
        raise AttributeError(f"{type(self).__name__} has no {name}")
