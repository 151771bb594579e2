"""The curve of measures by dimensions kept: vectors cut and of length 1, others' figures as levels."""

from __future__ import annotations

import numpy as np
import pytest

from eval import evaluate
from eval.measures import Evaluation
from eval.truncation_report import draw_truncation
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.retrievers.bm25 import BM25
from retrieval.run_file import read_run
from retrieval.truncation import truncation
from retrieval.types import Dense

DOCUMENTS = {f"d{number}": f"document {number}" for number in range(40)}
WIDTH = 48


class Numbers:
    """A text's number as a seed of its vector, which is not of length 1; a query's is near that of its document."""

    def __init__(self):
        self.encoded = []

    def encode_queries(self, texts):
        self.encoded.append("queries")
        return Dense(self._vectors(texts) + 0.7 * self._vectors([f"{text}7" for text in texts]))

    def encode_docs(self, texts):
        self.encoded.append(len(texts))
        return Dense(self._vectors(texts))

    def contract(self):
        return {"encoder": "numbers", "dimensions": WIDTH}

    def _vectors(self, texts):
        seeds = [int(text.split()[-1]) for text in texts]
        drawn = [np.random.default_rng(seed).standard_normal(WIDTH) * (1 + seed % 5) for seed in seeds]
        return np.stack(drawn).astype(np.float32)


class Words(Numbers):
    """One that makes no single vector of a text."""

    def contract(self):
        return {"encoder": "words", "token_dimensions": 8}


@pytest.fixture
def dataset(tmp_path):
    documents = [(name, "", text) for name, text in DOCUMENTS.items()]
    queries = [(f"q{number}", f"query {number}") for number in range(20)]
    qrels = {"test": {f"q{number}": {f"d{number}": 1} for number in range(20)}}
    write_collection(tmp_path / "numbers", documents, queries, qrels)
    return Folder(str(tmp_path / "numbers"))


def test_each_point_is_exact_search_over_the_first_dimensions_made_of_length_1(dataset, tmp_path):
    encoder, out = Numbers(), tmp_path / "out"
    found = truncation(dataset, {"numbers": encoder}, dimensions=[3, 48, 8], measures=["R@2", "nDCG@10"], k=20, out=out)
    collection = dataset.open()
    asked = collection.queries("test")
    queries, documents = encoder.encode_queries(asked.texts).vectors, encoder.encode_docs([*DOCUMENTS.values()]).vectors
    for width in (3, 8, 48):
        cut = [
            part[:, :width] / np.linalg.norm(part[:, :width], axis=1, keepdims=True) for part in (queries, documents)
        ]
        best = np.argsort(-(cut[0].astype(float) @ cut[1].T), axis=1)[:, :20]
        for ending in ("trec", "parquet"):
            run = read_run(out / f"numbers-{width}.{ending}", asked.ids, collection.corpus.ids)
            np.testing.assert_array_equal(run.rows, best)
            assert (
                evaluate(run, collection.qrels("test"), ["R@2", "nDCG@10"]).mean == found["numbers"][str(width)]["mean"]
            )
        hits = np.mean([number in best[number, :2] for number in range(20)])
        assert found["numbers"][str(width)]["mean"]["R@2"] == pytest.approx(hits)


def test_corpus_and_queries_are_encoded_once(dataset):
    encoder = Numbers()
    truncation(dataset, {"numbers": encoder}, dimensions=[2, 4, 8, 16], measures=["R@2"])
    assert encoder.encoded.count("queries") == 1
    assert sum(one for one in encoder.encoded if one != "queries") <= len(DOCUMENTS) + 32  # and the look beforehand


def test_queries_are_encoded_with_the_instructions_that_they_carry(tmp_path):
    told = {f"q{number}": f"find {number}" for number in range(20)}
    asked, judged = [(name, f"query {name[1:]}") for name in told], {"test": {name: {"d1": 1} for name in told}}
    write_collection(tmp_path / "told", [("d1", "", "document 1")], asked, judged, instructions=told)
    encoder, seen = Numbers(), []
    with pytest.raises(ValueError, match="the queries carry instructions, which Numbers does not take"):
        truncation(Folder(str(tmp_path / "told")), {"numbers": encoder}, dimensions=[8], measures=["R@2"])
    encoder.encode_instructed = lambda texts, own: seen.extend(own) or encoder.encode_queries(texts)
    truncation(Folder(str(tmp_path / "told")), {"numbers": encoder}, dimensions=[8], measures=["R@2"])
    assert seen == list(told.values())


def test_by_default_the_powers_of_2_from_32_and_all_dimensions_are_kept(dataset):
    found = truncation(dataset, {"numbers": Numbers()}, measures=["R@2"])
    assert list(found["numbers"]) == ["32", "48"]


def test_retrievers_are_levels_on_the_same_axes(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    found = truncation(dataset, {"numbers": Numbers()}, {"BM25": BM25()}, [4, 48], measures=["R@2"], k=10, out=out)
    assert found["BM25"]["mean"]["R@2"] == 1  # a query's number is a word of its document
    assert {path.name for path in out.iterdir()} == {
        "truncation.png", "truncation.svg", "BM25.trec", "BM25.parquet",
        "numbers-4.trec", "numbers-4.parquet", "numbers-48.trec", "numbers-48.parquet",
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "numbers, 4 " in shown and "density of the judgements: 0" in shown and "look 1 at this test set" in shown
    assert found["density"] == found["strength"] == 0


def of(measure: str, value: float) -> Evaluation:
    return Evaluation(["q"], {measure: np.array([value])}, {})


def test_published_figures_are_drawn_where_the_paper_has_the_measure(tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        for published, measure, expected in (
            ("limit", "R@100", True),
            ("limit-small", "R@2", True),
            ("limit-small", "R@100", False),
            (None, "R@100", False),
        ):
            curves = {"mine": {32: of(measure, 0.1), 64: of(measure, 0.2)}}
            draw_truncation(curves, {"BM25": of(measure, 0.9)}, tmp_path, "title", published)
            text = (tmp_path / "truncation.svg").read_text()
            assert ("Promptriever, published" in text) is expected
            assert "mine" in text and ">BM25<" in text and measure in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoders": {}}, "encoders: name at least one"),
        ({"dimensions": []}, "dimensions is an empty list"),
        ({"dimensions": [8, 49]}, "dimensions: 49 of the vectors of numbers, which have 48; give 1 to 48"),
        ({"dimensions": [0]}, "dimensions: 0 of the vectors of numbers, which have 48"),
        ({"encoders": {"words": Words()}}, "encoders: words makes no one vector of a text"),
        ({"retrievers": {"numbers": BM25()}}, "'numbers' names an encoder and a retriever"),
        ({"retrievers": {"a/b": BM25()}}, "'a/b' cannot name a system"),
        ({"measures": ["R@200"]}, "R@200 looks deeper than the k = 100"),
        ({"measures": []}, "measures: name at least one"),
        ({"split": "dev"}, "dev"),
    ],
)
def test_what_cannot_be_is_refused(dataset, wrong, message):
    with pytest.raises(ValueError, match=message):
        truncation(dataset, **{"encoders": {"numbers": Numbers()}} | wrong)
