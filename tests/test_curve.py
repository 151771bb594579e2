"""The curve of measures against bytes per vector: each index on the same vectors, the figures those of its run file."""

from __future__ import annotations

import numpy as np
import pytest

from eval import evaluate
from eval.curve_report import Point, draw_curve, pareto, share
from eval.measures import Evaluation
from retrieval.collection import write_collection
from retrieval.curve import curve
from retrieval.datasets.folder import Folder
from retrieval.indexes.flat import Flat
from retrieval.indexes.quantised import Quantised
from retrieval.run_file import read_run
from retrieval.types import Dense

DOCUMENTS = {f"d{number}": f"document {number}" for number in range(60)}


class Numbers:
    """A text's number as a seed of its vector; a query's is near the document's of that number."""

    def __init__(self):
        self.encoded = []

    def encode_queries(self, texts):
        self.encoded.append("queries")
        return Dense(self._vectors(texts) + self._vectors([f"{text}7" for text in texts]))

    def encode_docs(self, texts):
        self.encoded.append(len(texts))
        return Dense(self._vectors(texts))

    def contract(self):
        return {"encoder": "numbers", "dimensions": 24}

    def _vectors(self, texts):
        seeds = [int(text.split()[-1]) for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(24) for seed in seeds]).astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    documents = [(name, "", text) for name, text in DOCUMENTS.items()]
    queries = [(f"q{number}", f"query {number}") for number in range(20)]
    qrels = {"test": {f"q{number}": {f"d{number}": 1} for number in range(20)}}
    write_collection(tmp_path / "numbers", documents, queries, qrels)
    return Folder(str(tmp_path / "numbers"))


def point(name, size, value):
    return Point(name, size, None, Evaluation(["q"], {"nDCG@10": np.array([value])}, {}))


def test_each_index_gives_its_run_and_the_figures_of_that_run(dataset, tmp_path, capsys):
    encoder, out = Numbers(), tmp_path / "out"
    indexes = {"float32": Quantised("float32"), "binary": Quantised("binary"), "both": Quantised("binary", rescore=60)}
    found = curve(dataset, encoder, indexes, k=30, measures=["nDCG@10", "R@20"], baseline="float32", out=out)
    qrels = dataset.open().qrels("test")
    for name, size in {"float32": 96, "binary": 3, "both": 3}.items():
        for ending in ("parquet", "trec"):
            run = read_run(out / f"{name}.{ending}")
            assert evaluate(run, qrels, ["nDCG@10", "R@20"]).mean == found[name]["mean"]
            assert run.name == name
        assert found[name]["index"]["bytes per vector"] == size
    whole, bits = found["float32"]["mean"]["nDCG@10"], found["binary"]["mean"]["nDCG@10"]
    assert bits < whole and found["binary"]["share of baseline"] == pytest.approx(bits / whole)
    assert found["both"]["mean"] == found["float32"]["mean"] and found["both"]["share of baseline"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("│")] == ["binary", "both", "float32"]
    assert any("96" in line and f"{whole:.4f}" in line and "100.0%" in line for line in lines)
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_flat_is_what_the_float32_codes_give(dataset, tmp_path):
    encoder, collection = Numbers(), dataset.open()
    curve(dataset, encoder, {"float32": Quantised("float32")}, k=30, measures=["R@20"], out=tmp_path / "out")
    flat = Flat()
    flat.build(encoder.encode_docs(list(DOCUMENTS.values())).vectors, collection.corpus.ids.rank)
    queries = collection.queries("test")
    rows, scores = flat.search(encoder.encode_queries(queries.texts), 30)
    run = read_run(tmp_path / "out" / "float32.parquet", queries.ids, collection.corpus.ids)
    np.testing.assert_array_equal(run.rows, rows)
    np.testing.assert_array_equal(run.scores, scores)


def test_corpus_and_queries_are_encoded_once(dataset):
    encoder = Numbers()
    curve(dataset, encoder, {"a": Quantised(), "b": Quantised("binary"), "c": Quantised("float16")}, measures=["R@20"])
    assert encoder.encoded.count("queries") == 1
    assert encoder.encoded.count(60) <= 1 and sum(one for one in encoder.encoded if one != "queries") <= 60 + 32


def test_no_picture_and_no_share_without_a_folder_and_a_baseline(dataset, tmp_path, capsys):
    found = curve(dataset, Numbers(), {"int8": Quantised()}, measures=["R@20"])
    assert "share of baseline" not in found["int8"]
    assert "kept" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["numbers"]


class Silent(Quantised):
    def provenance(self):
        return {"code": self.code}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"indexes": {}}, "indexes: name at least one"),
        ({"baseline": "flat"}, "baseline 'flat' is none of the indexes: int8"),
        ({"indexes": {"a/b": Quantised()}}, "'a/b' cannot name one"),
        ({"indexes": {"collection": Quantised()}}, "'collection' cannot name one"),
        ({"indexes": {"flat": Flat()}}, "flat is a Flat, which does not say its bytes per vector"),
        ({"indexes": {"silent": Silent()}}, "silent does not say its bytes per vector, only code"),
        ({"measures": ["nDCG@10", "R@1000"]}, "R@1000 looks deeper than the k = 100"),
        ({"split": "dev"}, "has no split 'dev'"),
    ],
)
def test_what_cannot_be_is_refused(dataset, wrong, message):
    with pytest.raises(ValueError, match=message):
        curve(**{"dataset": dataset, "encoder": Numbers(), "indexes": {"int8": Quantised()}} | wrong)


def test_the_line_holds_what_nothing_smaller_or_as_small_matches():
    points = [point("a", 8, 0.5), point("b", 1, 0.2), point("c", 2, 0.2), point("d", 4, 0.5), point("e", 4, 0.4)]
    assert [one.name for one in pareto(points)] == ["b", "d"]


def test_there_is_no_share_of_nothing():
    assert share(point("a", 1, 0.0), point("b", 2, 0.0)) is None
    assert share(point("a", 1, 0.3), point("b", 2, 0.4)) == pytest.approx(0.75)


def test_names_stay_apart_in_the_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: drawn.append(self))
    draw_curve([point(f"index number {n}", 2 ** (n // 3), 0.5 + n / 1e4) for n in range(12)], tmp_path / "x.png", "x")
    axes = drawn[0].axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(box.y1 < drawn[0].bbox.y1 and box.x1 < drawn[0].bbox.x1 for box in boxes)
