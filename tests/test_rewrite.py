"""Rewriting = writer x join x retriever: over BM25 and MiniLM, with documents and without, fused and not."""

from __future__ import annotations

import numpy as np
import pytest

from prf.append import Append
from prf.average import Average
from prf.rm3 import RM3
from prf.rocchio import Rocchio
from prf.separate import Separate
from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.generated import Generated
from retrieval.retrievers.multi_query import MultiQuery
from retrieval.retrievers.rewrite import Rewrite
from retrieval.types import Queries

TEXTS = [
    "Otters swim in cold rivers",
    "A comet passed over the harbour",
    "Violins are made of spruce",
    "Rivers carry cold water to the sea",
    "The harbour lies by the sea",
]
QUERIES = Queries(["a", "b"], ["otters", "comet harbour"])


class Fixed:
    """Writes the same for every query, and remembers what it read."""

    def __init__(self, texts, needs=()):
        self.texts, self.needs, self.read = texts, needs, []

    def write(self, queries, feedback):
        if self.needs:
            rows = feedback.run.rows
            self.read = [feedback.texts(line[line >= 0]) for line in rows]
        return [list(self.texts) for _ in queries.ids]

    def join(self):
        return Append(repeat=2)

    def provenance(self):
        return {"generations": len(self.texts)}


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def open_(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return open_


def test_the_writers_own_join_is_taken_where_none_is_named(opened):
    found = opened(Rewrite(Fixed(["cold sea"]), BM25())).retrieve(QUERIES, 5)
    plain = opened(BM25()).retrieve(
        Queries(["a", "b"], ["otters otters cold sea", "comet harbour comet harbour cold sea"]), 5
    )
    assert found.to_dict() == plain.to_dict() and found.name == "fixed+append+bm25"


def test_terms_of_written_texts_go_through_any_term_model(opened):
    rm3 = RM3(max_df=None)
    found = opened(Rewrite(Fixed(["cold sea", "cold river"]), BM25(), rm3)).retrieve(QUERIES, 5)
    by_hand = opened(FeedbackRetriever(Generated(Fixed(["cold sea", "cold river"]), BM25()), rm3, BM25()))
    assert found.to_dict() == by_hand.retrieve(QUERIES, 5).to_dict()
    weighed = opened(Rewrite(Fixed(["cold sea", "cold river"]), BM25(), Rocchio(max_df=None), weight_by="bm25"))
    assert list(weighed.retrieve(QUERIES, 5).to_dict()["a"])[0] == "d0"


def test_a_writer_that_reads_documents_gets_those_of_the_source(opened):
    writer = Fixed(["sea"], needs=("texts",))
    retriever = opened(Rewrite(writer, BM25(), source=BM25(k1=2.0), depth=1))
    retriever.retrieve(QUERIES, 3)
    assert writer.read == [[TEXTS[0]], [TEXTS[1]]]


def test_depth_0_is_the_plain_retriever_for_a_writer_that_reads_documents(opened):
    writer = Fixed(["sea"], needs=("texts",))
    found = opened(Rewrite(writer, BM25(), depth=0)).retrieve(QUERIES, 3)
    assert found.to_dict() == opened(BM25()).retrieve(QUERIES, 3).to_dict() and writer.read == []


def test_vectors_of_written_texts_are_those_of_documents(opened):
    encoder = Transformer(dtype="float32")
    dense = opened(DenseRetriever(encoder, Flat()))
    run = dense.retrieve(QUERIES, 2)
    own, feedback = dense.read(QUERIES, run, ["cold sea", "cold river"])
    np.testing.assert_array_equal(
        feedback.vectors(np.array([1], np.int32)), encoder.encode_docs(["cold river"]).vectors
    )
    np.testing.assert_array_equal(own.representations.vectors, encoder.encode_queries(QUERIES.texts).vectors)


def test_texts_join_the_query_of_a_dense_retriever_as_text(opened):
    dense = DenseRetriever(Transformer(dtype="float32"), Flat())
    found = opened(Rewrite(Fixed(["in cold rivers"]), dense, Append())).retrieve(QUERIES, 5)
    plain = opened(dense).retrieve(Queries(["a", "b"], ["otters in cold rivers", "comet harbour in cold rivers"]), 5)
    assert found.to_dict() == plain.to_dict()


def test_variants_are_searched_apart_and_fused(opened):
    fused = opened(Rewrite(Fixed(["sea", "cold"]), MultiQuery(BM25(), k_rrf=60), Separate(with_query=False)))
    found = fused.retrieve(QUERIES, 5)
    apart = [opened(BM25()).retrieve(Queries(["x"], [text]), 5).to_dict()["x"] for text in ("sea", "cold")]
    expected: dict[str, float] = {}
    for one in apart:
        for rank, doc in enumerate(one, 1):
            expected[doc] = expected.get(doc, 0) + 1 / (60 + rank)
    for query in "ab":
        assert found.to_dict()[query] == pytest.approx(expected)


def test_ten_equal_variants_rank_as_one_and_distinct_ones_are_all_searched(opened):
    same = opened(MultiQuery(BM25())).retrieve(Queries(["a"], ["x"], variants=[[("cold sea", 1.0)] * 10]), 5)
    one = opened(BM25()).retrieve(Queries(["a"], ["cold sea"]), 5)
    assert list(same.to_dict()["a"]) == list(one.to_dict()["a"])
    words = ["otters", "comet", "violins", "carry", "lies"]
    every = opened(MultiQuery(BM25())).retrieve(Queries(["a"], ["x"], variants=[[(w, 1.0) for w in words]]), 5)
    assert set(every.to_dict()["a"]) == {"d0", "d1", "d2", "d3", "d4"}


@pytest.mark.parametrize("fusion", ["reciprocal_rank", "weighted_sum", "round_robin"])
def test_queries_with_fewer_variants_and_with_none_are_searched(opened, fusion):
    retriever = opened(MultiQuery(BM25(), fusion))
    asked = Queries(["a", "b", "c"], ["x", "y", "z"], variants=[[("sea", 1.0), ("cold", 2.0)], [("comet", 1.0)], []])
    found = retriever.retrieve(asked, 5).to_dict()
    assert set(found["a"]) == {"d0", "d3", "d4"} and list(found["b"]) == ["d1"] and found["c"] == {}
    plain = retriever.retrieve(QUERIES, 5).to_dict()
    assert plain == opened(BM25()).retrieve(QUERIES, 5).to_dict()


def test_a_variants_weight_counts(opened):
    retriever = opened(MultiQuery(BM25(), "weighted_sum"))
    asked = Queries(["a"], ["x"], variants=[[("comet", 3.0), ("violins", 0.5)]])
    one = opened(BM25()).retrieve(Queries(["a", "b"], ["comet", "violins"]), 5).to_dict()
    found = retriever.retrieve(asked, 5).to_dict()["a"]
    assert found == pytest.approx({"d1": 3 * one["a"]["d1"], "d2": 0.5 * one["b"]["d2"]})


def test_lists_in_turn_skip_what_was_taken(opened):
    """Tool retrieval's rule: [a, b, c] and [b, d] give a, b, c, d."""
    retriever = opened(MultiQuery(BM25(), "round_robin"))
    first, second = "sea", "comet harbour"
    lists = [list(opened(BM25()).retrieve(Queries(["x"], [q]), 5).to_dict()["x"]) for q in (first, second)]
    found = retriever.retrieve(Queries(["a"], ["x"], variants=[[(first, 1.0), (second, 1.0)]]), 5).to_dict()["a"]
    assert list(found) == ["d4", "d1", "d3"] and lists == [["d4", "d3"], ["d1", "d4"]]


def test_a_join_that_the_retriever_does_not_read_is_refused():
    with pytest.raises(ValueError, match="Separate writes variants, and DenseRetriever searches with"):
        Rewrite(Fixed(["sea"]), DenseRetriever(Transformer(dtype="float32"), Flat()), Separate())
    with pytest.raises(ValueError, match="Separate writes variants, and BM25 searches with terms or texts"):
        Rewrite(Fixed(["sea"]), BM25(), Separate())


def test_what_cannot_be_joined_or_read_is_refused():
    class Silent:
        needs = ()

        def write(self, queries, feedback):
            return [[] for _ in queries.ids]

    with pytest.raises(ValueError, match="Silent says no way to put its texts to the query: name a `join`"):
        Rewrite(Silent(), BM25())
    with pytest.raises(ValueError, match="needs the texts of documents: give a depth of at least 1, not 0"):
        Generated(Fixed(["sea"], needs=("texts",)), BM25(), depth=0)
    with pytest.raises(ValueError, match="has no analyzer to weigh texts with; use weight_by: one"):
        Generated(Fixed(["sea"]), DenseRetriever(Transformer(dtype="float32"), Flat()), weight_by="bm25")


def test_counts_of_the_writer_stand_beside_the_figures(opened):
    retriever = opened(Rewrite(Fixed(["sea", " "]), BM25()))
    retriever.retrieve(QUERIES, 3)
    about = retriever.provenance()
    assert (about["generations"], about["empty texts"], about["queries without texts"]) == (2, 2, 0)


def test_more_documents_than_the_first_pass_finds_are_refused():
    writer = Fixed(["sea"], needs=("texts",))
    writer.documents_read = 20
    with pytest.raises(ValueError, match="Fixed reads 20 documents and depth is 10: raise the depth"):
        Rewrite(writer, BM25())
    assert Rewrite(writer, BM25(), depth=0).depth == 0


def test_written_texts_that_the_encoder_cuts_are_counted(opened):
    dense = DenseRetriever(Transformer(dtype="float32"), Flat())
    retriever = opened(Rewrite(Fixed(["cold " * 400, "sea"]), dense, Average()))
    retriever.retrieve(QUERIES.take([0]), 3)
    assert retriever.provenance()["truncated written texts"] == 1


def test_a_retriever_that_stands_twice_counts_once(opened):
    dense = DenseRetriever(Transformer(dtype="float32"), Flat())
    both = opened(FeedbackRetriever(Generated(Fixed(["sea"]), dense), Average(), dense))
    long = Queries(["a"], ["cold " * 400])
    both.retrieve(long, 3)
    counted = both.provenance()["truncated queries"]
    assert (
        counted
        == dense.provenance()["truncated queries"]
        == opened(Rewrite(Fixed(["sea"]), dense)).provenance()["truncated queries"]
    )


def test_queries_that_all_lack_variants_find_nothing(opened):
    found = opened(MultiQuery(BM25())).retrieve(Queries(["a", "b"], ["sea", "cold"], variants=[[], []]), 5)
    assert found.to_dict() == {"a": {}, "b": {}}


def test_a_retriever_within_multi_query_that_reads_no_texts_is_named(opened):
    class Mute(BM25):
        read = None

    retriever = opened(MultiQuery(Mute()))
    with pytest.raises(ValueError, match="Mute cannot read written texts; bm25, sparse and dense can"):
        retriever.read(QUERIES, retriever.retrieve(QUERIES, 2), ["sea"])


def test_the_texts_of_an_earlier_writing_are_not_taken_for_the_last(opened):
    source = opened(Generated(Fixed(["sea"]), BM25()))
    first = source.retrieve(QUERIES, 5)
    source.retrieve(QUERIES, 5)
    with pytest.raises(ValueError, match="this run is not of the texts that were written last"):
        source.feedback(QUERIES, first)


def test_what_joins_is_told_of_too(opened):
    class Telling(Append):
        def provenance(self):
            return {"joined by": "me", "truncated queries": 4}

    about = opened(Rewrite(Fixed(["sea"]), BM25(), Telling())).provenance()
    assert about["model"]["joined by"] == "me" and about["truncated queries"] == 4
