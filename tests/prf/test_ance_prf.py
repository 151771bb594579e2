"""ANCE-PRF: what its encoder reads, where that is cut, and a second pass over a frozen index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from prf.ance_prf import ANCEPRF
from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.protocols import Reformulator
from retrieval.registry import find
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Dense, Feedback
from tests.conftest import TEXTS
from tests.prf.toy import queries, run


class Reader:
    """Notes what it reads."""

    separator = " | "

    def encode_queries(self, texts):
        self.read = list(texts)
        return Dense(np.ones((len(texts), 2), np.float32), truncated=1)

    def contract(self):
        return {"encoder": "reader"}


def shown(texts, *found):
    return Feedback(run(len(texts), *found), texts=lambda rows: [texts[row] for row in rows.tolist()])


FOUND = shown(["first", "second", "third", " "], [(1, 2.0), (0, 1.0), (2, 0.5)], [], [(3, 1.0), (2, 0.5)])


def test_query_and_texts_stand_in_the_order_of_the_first_pass():
    reader = Reader()
    made = ANCEPRF(reader, fb_docs=2).reformulate(queries("a", "b", "c"), FOUND)
    assert reader.read == ["a | second | first", "b", "c | third"]  # no feedback; a document without text
    assert made.representations.vectors.shape == (3, 2) and made.texts == ["a", "b", "c"]


def test_the_new_vector_is_the_only_form_of_the_query():
    own = replace(queries("a", "b", "c"), variants=[[("other", 1.0)]] * 3)
    made = ANCEPRF(Reader()).reformulate(own, FOUND)
    assert own.terms is not None and made.terms is made.variants is None


def test_instructions_are_read_with_the_texts_or_refused():
    class Told(Reader):
        def encode_instructed(self, texts, instructions):
            self.told = list(instructions)
            return self.encode_queries(texts)

    told = replace(queries("a", "b", "c"), instructions=["x", "y", "z"])
    ANCEPRF(reader := Told(), fb_docs=1).reformulate(told, FOUND)
    assert reader.told == ["x", "y", "z"] and reader.read == ["a | second", "b", "c"]
    with pytest.raises(ValueError, match="carry instructions, which Reader does not take: choose another encoder"):
        ANCEPRF(Reader()).reformulate(told, FOUND)


def test_depth_0_reads_the_query_alone():
    reader = Reader()
    ANCEPRF(reader, fb_docs=0).reformulate(queries("a", "b", "c"), FOUND)
    assert reader.read == ["a", "b", "c"]


def test_what_was_cut_is_counted_and_the_encoder_is_told_of():
    model = ANCEPRF(Reader(), separator="[SEP]")
    model.reformulate(queries("a", "b", "c"), FOUND)
    model.reformulate(queries("a", "b", "c"), FOUND)
    assert model.provenance() == {
        "encoder": {"encoder": "reader"},
        "separator": "[SEP]",
        "truncated queries with feedback": 2,
    }


def test_what_is_missing_is_said():
    reader = Reader()
    with pytest.raises(ValueError, match="needs the texts of the feedback documents: name a source"):
        ANCEPRF(reader).reformulate(queries("a"), replace(FOUND, texts=None))
    with pytest.raises(ValueError, match="given 1 queries and the feedback of others"):
        ANCEPRF(reader).reformulate(queries("a"), FOUND)
    reader.separator = None
    with pytest.raises(ValueError, match="Reader has no separator of its own: give one"):
        ANCEPRF(reader).reformulate(queries("a", "b", "c"), FOUND)
    with pytest.raises(ValueError, match="fb_docs is -1"):
        ANCEPRF(reader, fb_docs=-1)


def test_the_last_document_is_cut_first_and_the_separator_is_one_token(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", max_length=24)
    ids = encoder.bi_encoder.tokenizer
    model = ANCEPRF(encoder, fb_docs=2)
    found = shown([TEXTS[0], TEXTS[33]], [(0, 2.0), (1, 1.0)])
    vector = model.reformulate(queries(TEXTS[7]), found).representations.vectors
    parts = [ids(text, add_special_tokens=False).input_ids for text in (TEXTS[7], TEXTS[0], TEXTS[33])]
    whole = [*parts[0], ids.sep_token_id, *parts[1], ids.sep_token_id, *parts[2]]
    assert len(parts[0]) + len(parts[1]) + 4 < 24 < len(whole) + 2  # both come in whole, the last one does not
    kept = [ids.cls_token_id, *whole[:22], ids.sep_token_id]
    with torch.inference_mode():
        states = AutoModel.from_pretrained(tiny_model)(torch.tensor([kept])).last_hidden_state
    mean = states[0].mean(0).numpy()
    np.testing.assert_allclose(vector[0] / np.linalg.norm(vector), mean / np.linalg.norm(mean), atol=1e-5)
    assert model.truncated == 1


def test_the_index_is_that_of_another_encoder(tiny_model, tmp_path):
    texts = TEXTS[:30]
    corpus = Corpus.build((Document(f"d{i:02}", "", text) for i, text in enumerate(texts)), tmp_path / "corpus")
    first = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    second = Transformer(str(tiny_model), pooling="cls", dtype="float32", max_length=60)
    dense = DenseRetriever(first, Flat())
    retriever = FeedbackRetriever(dense, ANCEPRF(second), depth=5)
    retriever.open(corpus, tmp_path)
    asked = replace(queries("the otter in Norway", "a comet"), terms=None)
    found = retriever.retrieve(asked, 30)
    rows = dense.retrieve(asked, 3).rows
    read = ["[SEP]".join([text, *(texts[i] for i in row)]) for text, row in zip(asked.texts, rows, strict=True)]
    scores = second.encode_queries(read).vectors @ first.encode_docs(texts).vectors.T
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1), atol=1e-5)
    assert found.name == "dense+anceprf" and "truncated queries with feedback" in retriever.provenance()


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "ance_prf") is ANCEPRF
