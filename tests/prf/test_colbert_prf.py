"""ColBERT-PRF: the worked weights, which centroids join the query, and a second pass checked by brute force."""

from __future__ import annotations

import math
import string
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

from prf.colbert_prf import ColBERTPRF
from retrieval.corpus import Corpus, Document
from retrieval.encoders.colbert import ColBERT
from retrieval.indexes.late import Late
from retrieval.protocols import Reformulator
from retrieval.registry import find
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.token_feedback import TokenFeedback
from retrieval.types import Feedback, Queries, TermStatistics, Tokens
from tests.conftest import TEXTS
from tests.prf.toy import queries, run
from tests.test_colbert import folder  # noqa: F401 - a fixture

IDF = {"rare": 9.0, "some": 4.0, "common": 0.5}


def shown(documents, *found):
    """`documents` are lists of (token, vector)."""

    def fetch(rows):
        chosen = [documents[row] for row in rows.tolist()]
        vectors = np.array([v for one in chosen for _, v in one], np.float32).reshape(-1, 3)
        return Tokens(vectors, np.cumsum([0, *map(len, chosen)])), [token for one in chosen for token, _ in one]

    statistics = TermStatistics(9, lambda t: np.ones(len(t)), lambda tokens: np.array([IDF[t] for t in tokens]))
    return Feedback(run(len(documents), *found), tokens=fetch, statistics=statistics)


def asked(*vectors):
    given = [np.array(one, np.float32).reshape(-1, 3) for one in vectors]
    packed = Tokens(np.concatenate(given), np.cumsum([0, *map(len, given)], dtype=np.int64))
    return replace(queries(*["text"] * len(given)), representations=packed)


def matrices(model, query, found):
    made = model.reformulate(query, found).representations
    return [made.vectors[a:b] for a, b in zip(made.offsets[:-1], made.offsets[1:], strict=True)]


X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
DOCS = [[("common", X), ("rare", Y)], [("some", Z), ("rare", Y)], []]


@pytest.mark.parametrize(("df", "idf"), [(10, 13.597108), (1000, 9.086249), (100_000, 4.482068), (8_841_823, 0)])
def test_the_weights_of_the_worked_example_come_out(df, idf, tmp_path):
    class Encoder:
        def vocabulary(self):
            return ["other", "token"]

    np.save(tmp_path / "token-frequencies.npy", np.array([5, df]))
    held = TokenFeedback(range(8_841_823), None, Encoder(), tmp_path).statistics  # type: ignore[arg-type]
    assert held.idf(["token"]).tolist() == [pytest.approx(idf, abs=1e-6)]
    assert held.frequencies(["token", "other", "unknown"]).tolist() == [df, 5, 0]


def test_the_rarest_centroids_join_the_query_with_their_weight():
    model = ColBERTPRF(clusters=3, fb_embs=2, nearest=1, beta=0.5)
    (made,) = matrices(model, asked([X, Y]), shown(DOCS, [(0, 2.0), (1, 1.0)]))
    np.testing.assert_allclose(made, [X, Y, np.multiply(Y, 4.5), np.multiply(Z, 2.0)])


def test_a_centroid_is_the_mean_of_its_cluster_and_stands_for_the_most_frequent_token_near_it():
    near = [(1.0, 0.0, 0.0), (0.96, 0.28, 0.0), (0.96, -0.28, 0.0)]
    far = [(0.0, 0.0, 1.0), (0.28, 0.0, 0.96)]
    documents = [list(zip(["rare", "some", "some", "common", "common"], near + far, strict=True))]
    model = ColBERTPRF(clusters=2, fb_embs=2, nearest=3)
    (made,) = matrices(model, asked([X]), shown(documents, [(0, 1.0)]))
    np.testing.assert_allclose(made[1], 4.0 * np.mean(near, axis=0), atol=1e-6)  # some, though rare is the closest
    np.testing.assert_allclose(made[2], 0.5 * np.mean(far, axis=0), atol=1e-6)


@pytest.mark.parametrize("still", [{"fb_docs": 0}, {"fb_embs": 0}, {"beta": 0}])
def test_what_adds_nothing_keeps_every_bit(still):
    query = asked([X, (0.1, 0.2, 0.3)], [Z])
    found = shown(DOCS, [(0, 1.0)], [(1, 1.0)])
    for made, own in zip(matrices(ColBERTPRF(**still), query, found), ([X, (0.1, 0.2, 0.3)], [Z]), strict=True):
        np.testing.assert_array_equal(made, np.array(own, np.float32))


def test_a_query_without_feedback_or_with_documents_without_tokens_keeps_its_vectors():
    found = shown(DOCS, [], [(2, 1.0)], [(0, 1.0)])
    assert [len(made) for made in matrices(ColBERTPRF(), asked([X], [Y, Z], [X]), found)] == [1, 2, 3]
    assert [len(made) for made in matrices(ColBERTPRF(), asked([X]), shown(DOCS, []))] == [1]


def test_the_order_of_the_documents_changes_no_bit_and_the_seed_repeats():
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((3, 40, 3))
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    documents = [[(("rare", "some", "common")[i % 3], v) for i, v in enumerate(one)] for one in drawn]
    one = matrices(ColBERTPRF(), asked([X]), shown(documents, [(0, 3.0), (1, 2.0), (2, 1.0)]))
    other = matrices(ColBERTPRF(), asked([X]), shown(documents, [(2, 3.0), (0, 2.0), (1, 1.0)]))
    np.testing.assert_array_equal(one, other)
    assert one[0].shape == (11, 3) and np.isfinite(one[0]).all()


def test_without_token_vectors_the_error_says_what_has_them():
    for query, found in ((queries("a"), shown(DOCS, [])), (asked([X]), None), (asked([X]), Feedback(run(1, [])))):
        with pytest.raises(ValueError, match="name `dense` with the encoder colbert as the source"):
            ColBERTPRF().reformulate(query, found)
    with pytest.raises(ValueError, match="given 1 queries and the feedback of others"):
        ColBERTPRF().reformulate(asked([X]), shown(DOCS, [], []))


@pytest.mark.parametrize("wrong", [{"fb_docs": -1}, {"clusters": 9}, {"nearest": 0}, {"beta": -1}, {"beta": np.nan}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ColBERTPRF(**wrong)


def opened(folder, tmp_path, model, texts):  # noqa: F811
    corpus = Corpus.build((Document(f"d{i:02}", "", text) for i, text in enumerate(texts)), tmp_path / "corpus")
    retriever = FeedbackRetriever(DenseRetriever(ColBERT(str(folder), dtype="float32"), Late()), model)
    retriever.open(corpus, tmp_path)
    return retriever


DOCUMENTS = [f"{text}, it is said." for text in TEXTS[::7]] + ["otter!"]
ASKED = Queries(["a", "b"], ["the old comet", "a quiet violin"])


def test_a_second_pass_is_as_maxsim_by_hand_has_it(folder, tmp_path):  # noqa: F811
    retriever = opened(folder, tmp_path, ColBERTPRF(clusters=6, fb_embs=4), DOCUMENTS)
    found = retriever.retrieve(ASKED, 20)
    encoder = ColBERT(str(folder), dtype="float32")
    docs, own = encoder.encode_docs(DOCUMENTS), encoder.encode_queries(ASKED.texts)
    asked_, feedback = retriever.source.feedback(ASKED, retriever.source.retrieve(ASKED, 50))
    moved = ColBERTPRF(clusters=6, fb_embs=4).reformulate(asked_, feedback).representations
    assert np.diff(moved.offsets).tolist() == (np.diff(own.offsets) + 4).tolist()
    for i, row in enumerate(found.rows):
        query = moved.vectors[moved.offsets[i] : moved.offsets[i + 1]]
        scores = [
            (query @ docs.vectors[a:b].T).max(1).sum() for a, b in zip(docs.offsets, docs.offsets[1:], strict=False)
        ]
        np.testing.assert_allclose(found.scores[i], np.array(scores)[row], atol=1e-3)
        np.testing.assert_allclose(found.scores[i], np.sort(scores)[::-1][:20], atol=1e-3)
    still = opened(folder, tmp_path / "still", ColBERTPRF(fb_docs=0), DOCUMENTS)
    first = still.source.retrieve(ASKED, 20)
    np.testing.assert_array_equal(still.retrieve(ASKED, 20).rows, first.rows)
    np.testing.assert_array_equal(still.retrieve(ASKED, 20).scores, first.scores)


def test_token_vectors_of_one_encoder_do_not_search_those_of_another(folder, tmp_path):  # noqa: F811
    one, other = (DenseRetriever(ColBERT(str(folder), dtype="float32", query_length=n), Late()) for n in (16, 12))
    retriever = FeedbackRetriever(one, ColBERTPRF(), other)
    retriever.open(Corpus.build([(f"d{i}", "", text) for i, text in enumerate(DOCUMENTS)], tmp_path / "c"), tmp_path)
    with pytest.raises(ValueError, match="these queries carry representations, .* another encoder each"):
        retriever.retrieve(ASKED, 3)


def test_the_new_token_vectors_are_the_only_form_of_the_query():
    moved = ColBERTPRF().reformulate(asked([X]), shown(DOCS, [(0, 1.0)]))
    assert asked([X]).terms is not None and moved.terms is moved.variants is None


def test_tokens_are_those_behind_the_vectors_and_are_counted_by_document(folder, tmp_path):  # noqa: F811
    retriever = opened(folder, tmp_path, ColBERTPRF(), DOCUMENTS)
    rows = np.array([3, 0, len(DOCUMENTS) - 1], np.int32)
    _, feedback = retriever.source.feedback(ASKED, retriever.source.retrieve(ASKED, 3))
    vectors, tokens = feedback.tokens(rows)
    words = AutoTokenizer.from_pretrained(folder)
    split = [["[CLS]", "[unused1]", *words.tokenize(text), "[SEP]"] for text in DOCUMENTS]
    split = [[token for token in one if token not in string.punctuation] for one in split]
    assert tokens == [token for row in rows for token in split[row]] and len(tokens) == len(vectors.vectors)
    df = {token: sum(token in one for one in split) for token in ("[CLS]", "otter", ",")}
    assert feedback.statistics.frequencies(list(df)).tolist() == list(df.values())
    n = len(DOCUMENTS)
    assert feedback.statistics.idf(["otter"]).tolist() == [pytest.approx(math.log((n + 1) / (df["otter"] + 1)))]
    assert len(list(tmp_path.rglob("token-frequencies.npy"))) == 1


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "colbert_prf") is ColBERTPRF
