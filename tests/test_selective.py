"""Feedback for some queries: by a prediction, by a share, and by the judgements as an oracle."""

from __future__ import annotations

import numpy as np
import pytest

from eval import evaluate
from prf.predictors.clarity import Clarity
from prf.predictors.dense_coherence import DenseCoherence
from prf.predictors.score import Score
from prf.rm3 import RM3
from retrieval.corpus import Corpus, Document
from retrieval.protocols import FeedbackSource, Retriever
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.selective import Selective
from retrieval.retrievers.selective_oracle import SelectiveOracle
from retrieval.types import Feedback, Qrels, Queries
from tests.tables import Table, lists

QUERIES = Queries(["low", "none", "high", "middle"], ["a", "b", "c", "d"])
PLAIN = {"low": {"d1": 1, "d2": 0.5}, "high": {"d2": 9, "d1": 8, "d0": 7}, "middle": {"d0": 5}}
MOVED = {
    "low": {"d3": 4},
    "none": {"d2": 1},
    "high": {"d3": 2, "d1": 1},
    "middle": {"d0": 5, "d3": 3, "d1": 2, "d2": 1},
}


@pytest.fixture
def corpus(tmp_path):
    texts = ["otter river", "otter sea sea", "sea salt salt", "comet river"]
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(texts)), tmp_path / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def make(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return make


def selective(**settings):
    return Selective(Table(PLAIN, "plain"), Table(MOVED, "moved"), Score(), **settings)


def scored(run):
    return {query: found for query, found in run.to_dict().items()}


@pytest.fixture
def qrels(tmp_path):
    judged = {"low": {"d3": 1}, "high": {"d2": 2, "d1": 1}, "middle": {"d0": 1, "d1": 1}}
    write_qrels(Qrels.from_dict(judged), tmp_path / "qrels.tsv")
    return tmp_path / "qrels.tsv"


def test_recipes_find_them_by_their_files():
    assert find(Retriever, "selective") is Selective is find(FeedbackSource, "selective")
    assert find(Retriever, "selective_oracle") is SelectiveOracle


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        ({"threshold": -np.inf}, MOVED),
        ({"threshold": np.inf}, PLAIN),
        ({"threshold": np.inf, "when": "below"}, MOVED),
        ({"threshold": -np.inf, "when": "below"}, PLAIN),
        ({"share": 1.0}, MOVED),
        ({"share": 0.0}, PLAIN),
    ],
)
@pytest.mark.parametrize("k", [1, 2, 10])
def test_a_threshold_at_either_end_is_either_run(opened, settings, table, k):
    run, expected = (opened(one).retrieve(QUERIES, k) for one in (selective(**settings), Table(table)))
    assert scored(run) == scored(expected) and list(run.query_ids) == list(QUERIES.ids)


def test_only_predictions_that_reach_the_threshold_get_feedback(opened):
    chooser = opened(selective(threshold=5.0))
    found = lists(chooser.retrieve(QUERIES, 10))
    assert found == {"low": ["d1", "d2"], "none": [], "high": ["d3", "d1"], "middle": ["d0", "d3", "d1", "d2"]}
    assert chooser.with_feedback.seen[0].ids == ["high", "middle"]
    assert {"queries asked": 4, "queries with feedback": 2}.items() <= chooser.provenance().items()


def test_below_gives_feedback_to_the_others_the_query_that_found_nothing_included(opened):
    found = lists(opened(selective(threshold=5.0, when="below")).retrieve(QUERIES, 10))
    assert found == {"low": ["d3"], "none": ["d2"], "high": ["d2", "d1", "d0"], "middle": ["d0"]}


def test_a_share_goes_to_the_highest_or_lowest_predictions(opened):
    chooser = opened(selective(share=0.25))
    assert np.flatnonzero(chooser.chosen(np.array([1, -np.inf, 9, 5]))).tolist() == [2]
    assert chooser.chosen(np.array([1.0, 1.0, 1.0, 1.0])).tolist() == [True, False, False, False]
    below = opened(selective(share=0.5, when="below"))
    assert np.flatnonzero(below.chosen(np.array([1, -np.inf, 9, 5]))).tolist() == [0, 1]


def test_the_first_pass_is_as_deep_as_the_predictor_sees(opened):
    chooser = opened(selective(threshold=0.0, depth=7))
    chooser.retrieve(QUERIES, 3)
    chooser.retrieve(QUERIES, 20)
    assert chooser.plain.depths == [7, 20] and chooser.with_feedback.depths == [3, 20]


def test_the_content_of_another_source_is_what_the_predictor_reads(opened):
    class Vectors(Table):
        def feedback(self, queries, run):
            return queries, Feedback(run, vectors=lambda rows: np.eye(4, dtype=np.float32)[rows])

    parts = Table(PLAIN, "plain"), Table(MOVED, "moved"), DenseCoherence()
    assert opened(Selective(*parts, threshold=0.0, source=Vectors({}))).retrieve(QUERIES, 5).name == (
        "plain+selective-densecoherence"
    )
    with pytest.raises(ValueError, match="DenseCoherence needs vectors of the feedback documents, which Table"):
        opened(Selective(*parts, threshold=0.0)).retrieve(QUERIES, 5)


def test_bm25_and_rm3_by_clarity_are_either_run_at_either_end(opened):
    asked = Queries(["a", "b", "c"], ["otter", "comet river", "nothing"])
    bm25 = BM25()
    rm3 = FeedbackRetriever(bm25, RM3(max_df=None))
    for one in (bm25, rm3):
        expected = scored(opened(one).retrieve(asked, 4))
        chooser = Selective(bm25, rm3, Clarity(), threshold=-np.inf if one is rm3 else np.inf)
        assert scored(opened(chooser).retrieve(asked, 4)) == expected
    assert "d2" in expected["a"]  # which RM3 finds, by way of sea


def test_the_shares_that_bm25_gives_sum_to_1(opened):
    bm25 = opened(BM25())
    shares = bm25.statistics.shares(["otter", "river", "sea", "salt", "comet", "unheard"])
    assert shares.tolist() == pytest.approx([2 / 10, 2 / 10, 3 / 10, 2 / 10, 1 / 10, 0])


def test_the_oracle_is_the_better_list_of_each_query(opened, qrels):
    parts = Table(PLAIN, "plain"), Table(MOVED, "moved")
    run = opened(SelectiveOracle(*parts, qrels)).retrieve(QUERIES, 10)
    values = [
        evaluate(one, read_qrels(qrels), ["nDCG@10"]).values["nDCG@10"]
        for one in (run, *(part.retrieve(QUERIES, 10) for part in parts))
    ]
    assert values[0].tolist() == np.maximum(values[1], values[2]).tolist()
    assert lists(run) == {"low": ["d3"], "none": [], "high": ["d2", "d1", "d0"], "middle": ["d0", "d3", "d1", "d2"]}


def test_the_oracle_is_called_one(opened, qrels):
    chooser = opened(SelectiveOracle(Table(PLAIN, "plain"), Table(MOVED, "moved"), qrels))
    assert chooser.retrieve(QUERIES, 10).name == "plain+moved+selectiveoracle"
    about = chooser.provenance()
    assert about["oracle"] == f"nDCG@10 on {qrels}: it looks at judgements, so it is a bound and no method"
    assert about["queries with feedback"] == 2


def test_an_oracle_without_judgements_or_with_those_of_others_is_refused(opened, qrels, tmp_path):
    parts = Table(PLAIN), Table(MOVED)
    with pytest.raises(FileNotFoundError, match="no qrels .*none.tsv"):
        opened(SelectiveOracle(*parts, tmp_path / "none.tsv")).retrieve(QUERIES, 3)
    with pytest.raises(ValueError, match="judges none of the queries, such as 'x'"):
        opened(SelectiveOracle(*parts, qrels)).retrieve(Queries(["x"], ["x"]), 3)
    with pytest.raises(ValueError, match="measure 'nDGC' is unknown"):
        SelectiveOracle(*parts, qrels, "nDGC")


def test_a_prediction_that_is_none_is_refused(opened):
    class Broken:
        needs = ()

        def predict(self, queries, feedback):
            return np.full(len(queries), np.nan)

    with pytest.raises(ValueError, match="Broken predicts"):
        opened(Selective(Table(PLAIN), Table(MOVED), Broken(), 0.0)).retrieve(QUERIES, 3)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"threshold": 1.0, "share": 0.5}, {"share": 1.5}, {"share": 0.5, "depth": 0}, {"share": 0.5, "when": "at"}],
)
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="share|depth"):
        selective(**wrong)
