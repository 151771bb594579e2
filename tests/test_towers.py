"""Queries by one encoder, documents by another."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.corpus import Corpus, Document
from retrieval.encoders.splade import Splade
from retrieval.encoders.towers import Towers
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.protocols import Encoder
from retrieval.registry import find
from retrieval.retrievers.dense import DenseRetriever
from retrieval.types import Queries
from tests.conftest import TEXTS


def tower(folder, **settings):
    return Transformer(str(folder), dtype="float32", **{"pooling": "mean", **settings})


@pytest.fixture
def towers(tiny_model):
    return Towers(tower(tiny_model, pooling="cls", query_prompt="otter: "), tower(tiny_model))


def test_a_recipe_finds_it_by_its_file():
    assert find(Encoder, "towers") is Towers


def test_each_side_has_the_vectors_of_its_own_encoder(towers, tiny_model):
    alone = tower(tiny_model)
    np.testing.assert_array_equal(towers.encode_docs(TEXTS[:5]).vectors, alone.encode_docs(TEXTS[:5]).vectors)
    found = towers.encode_queries(TEXTS[:5]).vectors
    np.testing.assert_array_equal(found, towers.queries.encode_queries(TEXTS[:5]).vectors)
    assert np.abs(found - alone.encode_queries(TEXTS[:5]).vectors).max() > 1e-3


def test_the_vectors_of_documents_are_shared_with_their_encoder_alone(towers, tiny_model, tmp_path, monkeypatch):
    corpus = Corpus.build([Document(str(i), "", text) for i, text in enumerate(TEXTS[:8])], tmp_path / "corpus")
    DenseRetriever(tower(tiny_model), Flat()).open(corpus, tmp_path / "work")
    monkeypatch.setattr(Transformer, "encode_docs", None)
    monkeypatch.setattr(Transformer, "encode_chunks", None)
    retriever = DenseRetriever(towers, Flat())
    retriever.open(corpus, tmp_path / "work")
    found = retriever.retrieve(Queries(["q"], ["wild comet"]), 3)
    expected = towers.queries.encode_queries(["wild comet"]).vectors @ retriever.store.rows(np.arange(8)).T
    assert found.rows[0].tolist() == np.argsort(-expected[0])[:3].tolist()


def test_the_contract_keeps_all_of_the_queries_encoder_under_queries(towers):
    about, asked = dict(towers.contract()), towers.queries.contract()
    assert about.pop("queries") == asked
    assert about == {name: value for name, value in towers.docs.contract().items() if name != "queries"}
    assert {"encoder of queries", "encoder of documents"} <= towers.provenance().keys()


def test_what_an_encoder_may_have_is_there_where_the_one_it_concerns_has_it(towers, tiny_mlm):
    assert towers.query_excess(["otter"]) == [0] and list(towers.encode_chunks([["otter"]]))
    assert towers.separator == "[SEP]" and not hasattr(towers, "trainable") and not hasattr(towers, "token_ids")
    sparse = Splade(str(tiny_mlm))
    both = Towers(sparse, sparse)
    assert both.vocabulary() == sparse.vocabulary() and not hasattr(both, "encode_chunks")


def test_encoders_of_other_kinds_or_widths_are_refused(tiny_model, tiny_mlm):
    for queries in (tower(tiny_model, dimensions=8), Splade(str(tiny_mlm))):
        with pytest.raises(ValueError, match=r"towers: queries have .* and documents .*, which cannot be compared"):
            Towers(queries, tower(tiny_model)).contract()
