"""What made a score: terms sum to what the search gave, and the reason why another document ranks above is right."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from eval.explanation_report import print_answer
from prf.axiom import Axiom
from prf.bm25prf import BM25PRF
from prf.rm3 import RM3
from prf.rocchio import Rocchio
from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.encoders.splade import Splade
from retrieval.explain import answered
from retrieval.explanation import postings
from retrieval.indexes.flat import Flat
from retrieval.indexes.inverted import Inverted
from retrieval.protocols import Explainer, Retriever
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.sparse import SparseRetriever
from retrieval.search import search
from retrieval.similarity import DELTA
from retrieval.types import Queries
from tests.conftest import TEXTS

WORDS = ["otter", "river", "comet", "violin", "music", "harbour", "tea", "volcano"]


def random_documents(count=60):
    generator = np.random.default_rng(7)
    lengths = generator.integers(1, 90, count)
    words, often = [*WORDS, *(f"filler{i}" for i in range(40))], np.array([8, 7, 6, 5, 4, 3, 2, 1] + [12] * 40)
    chosen = [generator.choice(words, length, p=often / often.sum()) for length in lengths]
    return [(f"d{i}", " ".join(words[:2]), " ".join(words[2:])) for i, words in enumerate(chosen)]


QUERIES = {"q1": "otters near the river", "q2": "music music violin unheard", "q3": "volcano tea comet"}


@pytest.fixture
def collect(tmp_path):
    """A collection of these documents and queries."""

    def make(documents, queries=QUERIES, excludes_self=False):
        pairs = [(i, "", text) for i, text in documents.items()] if isinstance(documents, dict) else documents
        judged = {name: {pairs[0][0]: 1} for name in queries}
        write_collection(tmp_path / "collection", pairs, queries, {"test": judged})
        return Collection(tmp_path / "collection", "small", excludes_self)

    return make


def opened(retriever, collection, folder):
    retriever.open(collection.corpus, folder / "cache")
    return retriever


def sums_are_the_scores(retriever, queries):
    """Over all results of all queries; the explanations, query by query."""
    explained = []
    for i in range(len(queries)):
        found = retriever.retrieve(queries.take([i]), 1000)
        rows = found.rows[0][found.rows[0] >= 0]
        explanation = retriever.explain(queries.take([i]), rows)
        totals = np.array([explanation.total(d) for d in range(len(rows))])
        assert len(rows) and (np.abs(totals - found.scores[0][: len(rows)]) <= np.spacing(found.scores[0][0])).all()
        assert ((explanation.frequencies > 0) | (explanation.impacts == 0)).all()
        explained.append(explanation)
    return explained


@pytest.mark.parametrize("fields", [None, {"title": 2.0, "text": 0.5}], ids=["one field", "two fields"])
@pytest.mark.parametrize("variant", ["lucene", "robertson", "atire", "bm25l", "bm25+"])
def test_terms_sum_to_the_score_of_bm25(collect, variant, fields, tmp_path):
    collection = collect(random_documents())
    retriever = opened(BM25(1.2, 0.7, variant, DELTA.get(variant), fields), collection, tmp_path)
    for explanation in sums_are_the_scores(retriever, collection.queries("test")):
        assert [one.field for one in explanation.lengths] == list(fields or [None])


def test_counts_lengths_and_idf_are_those_of_the_index(collect, tmp_path):
    texts = {"a": "otter otter river", "b": "comet " * 51, "c": "river of otters"}
    retriever = opened(BM25(), collect(texts, {"q": "otter otter comet unheard"}), tmp_path)
    explanation = retriever.explain(Queries(["q"], ["otter otter comet unheard"]), np.array([0, 1], np.int32))
    assert [(term.name, term.weight, term.df) for term in explanation.terms] == [
        ("otter", 2, 2),
        ("comet", 1, 1),
        ("unheard", 1, 0),
    ]
    assert explanation.frequencies.tolist() == [[2, 0, 0], [0, 51, 0]]
    assert explanation.terms[1].idf == pytest.approx(np.log(1 + 2.5 / 1.5)) and explanation.terms[2].idf is None
    (lengths,) = explanation.lengths
    assert lengths.lengths == [3, 51] and lengths.counted == [3, 50] and lengths.mean == pytest.approx(56 / 3)


@pytest.mark.parametrize("quantise", [None, 100])
def test_terms_sum_to_the_score_of_learned_sparse_retrieval(collect, tiny_mlm, quantise, tmp_path):
    collection = collect({f"d{i}": text for i, text in enumerate(TEXTS)}, {"q1": TEXTS[7], "q2": "the otter"})
    encoder = Splade(str(tiny_mlm), dtype="float32", query_terms=8, doc_terms=12)
    retriever = opened(SparseRetriever(encoder, Inverted(), quantise=quantise), collection, tmp_path)
    for explanation in sums_are_the_scores(retriever, collection.queries("test")):
        assert {term.term for term in explanation.terms} <= set(encoder.vocabulary())
        assert not quantise or all(term.weight % 1 == 0 for term in explanation.terms)
    given = Queries(["q"], [""], terms=[{"otter": 0.5, "xylophone": 3.0}])
    unknown = retriever.explain(given, np.array([0], np.int32)).terms[-1]
    assert (unknown.name, unknown.weight, unknown.df) == ("xylophone", 3.0, 0)
    feedback = opened(FeedbackRetriever(retriever, RM3(max_df=None, filter_terms=False)), collection, tmp_path)
    sums_are_the_scores(feedback, collection.queries("test"))


@pytest.mark.parametrize(
    "model",
    [RM3(fb_terms=4, max_df=None), Rocchio(fb_terms=4, use_negative=True, max_df=None), BM25PRF(), Axiom(n=2)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("fields", [None, {"title": 2.0, "text": 0.5}], ids=["one field", "two fields"])
def test_terms_sum_to_the_score_after_feedback(collect, model, fields, tmp_path):
    collection = collect(random_documents())
    retriever = FeedbackRetriever(BM25(), model, BM25(fields=fields) if fields else None, depth=12)
    for explanation in sums_are_the_scores(opened(retriever, collection, tmp_path), collection.queries("test")):
        (made,) = explanation.passes
        assert made.model == type(model).__name__ and made.source == "bm25"
        assert made.after == {term.term: term.weight for term in explanation.terms}


def test_feedback_shows_old_weights_new_weights_and_the_documents_they_came_from(collect, tmp_path):
    texts = {"a": "otter river", "b": "otter otter sea", "c": "comet sea", "d": "comet"}
    collection = collect(texts, {"q": "otter"})
    bm25 = opened(BM25(), collection, tmp_path)
    retriever = opened(FeedbackRetriever(bm25, RM3(fb_docs=1, max_df=None)), collection, tmp_path)
    query = collection.queries("test")
    (made,) = retriever.explain(query, np.array([2], np.int32)).passes
    assert made.before == {"otter": 1} and made.after == pytest.approx({"otter": 0.5 + 0.5 * 2 / 3, "sea": 0.5 / 3})
    (read,) = made.documents
    first = bm25.retrieve(query, 1)
    assert (read.id, read.rank, read.score, read.holds) == ("b", 1, first.scores[0, 0], {"otter": 2, "sea": 1})


def test_documents_that_the_first_pass_had_not_found_come_after_the_others(collect, tmp_path):
    collection = collect(random_documents())
    retriever = opened(FeedbackRetriever(BM25(), Axiom(fb_docs=3, n=5), depth=10), collection, tmp_path)
    (made,) = retriever.explain(collection.queries("test").take([2]), np.array([0], np.int32)).passes
    ranks = [one.rank for one in made.documents]
    assert len(ranks) == 15 and ranks[:3] == [1, 2, 3]
    known = [rank for rank in ranks if rank is not None]
    assert known == sorted(known) and ranks[len(known) :] == [None] * (15 - len(known)) and len(known) < 15


def test_stacked_feedback_shows_each_pass(collect, tmp_path):
    collection = collect(random_documents())
    inner = FeedbackRetriever(BM25(), RM3(fb_terms=3, max_df=None))
    retriever = opened(FeedbackRetriever(inner, Rocchio(fb_terms=3, max_df=None)), collection, tmp_path)
    for explanation in sums_are_the_scores(retriever, collection.queries("test")):
        outer, first = explanation.passes
        assert (outer.source, outer.model, first.source, first.model) == ("bm25+rm3", "Rocchio", "bm25", "RM3")
        assert outer.after == first.before


def reason(collection, document, retriever=None, there=1):
    answer = answered(collection, retriever or BM25(), "test", 10, ["q", document])
    assert answer.documents[0].id == document
    return answer.reason(there)


def test_equal_scores_go_by_id(collect):
    collection = collect({"a": "otter river", "b": "otter river"}, {"q": "otter"})
    assert reason(collection, "a") == "equal scores: the higher id first"
    assert answered(collection, BM25(), "test", 10, "q,b").to_dict()["above"] == []


def test_in_the_order_of_lucene_equal_scores_go_by_the_lower_id(collect):
    collection = collect({"a": "otter river", "b": "otter river", "c": "otter comet"}, {"q": "otter"})
    assert reason(collection, "c", BM25(index=Inverted(ties="lucene"))) == "equal scores: the lower id first"
    assert reason(collection, "c", BM25(index=Inverted(ties="lucene")), 2) == "equal scores: the lower id first"


def test_a_rarer_term_is_the_reason(collect):
    texts = {"a": "otter sea", "b": "comet sea", "c": "otter sky", "d": "otter sun", "e": "bird sun"}
    said = reason(collect(texts, {"q": "otter comet"}), "d")
    assert said.startswith("'comet' only there (df 1) +") and "; against it 'otter' only here (df 3) -" in said


def test_a_shorter_document_is_the_reason(collect):
    texts = {"a": "otter", "b": "otter in a long river", "c": "comet"}
    assert reason(collect(texts, {"q": "otter"}), "b").startswith("'otter' 1× in both, 1 terms there, 3 here +")


def test_a_term_that_is_there_more_often_is_the_reason(collect):
    texts = {"a": "otter otter river", "b": "otter sea river", "c": "comet"}
    assert reason(collect(texts, {"q": "otter"}), "b").startswith("'otter' 2× there, 1× here +")


def test_a_short_document_may_outweigh_a_higher_count(collect):
    texts = {"a": "otter", "b": "otter otter " + "sea " * 30, "c": "comet"}
    said = reason(collect(texts, {"q": "otter"}), "b", BM25(b=1.0))
    assert said.startswith("'otter' 1× there, 2× here, 1 terms there, 32 here +")


def test_parts_of_a_reason_sum_to_the_difference(collect):
    collection = collect(random_documents(), {"q": " ".join(WORDS)})
    answer = answered(collection, BM25(), "test", 100, "q,d7")
    numbers = [float(part.split()[-1]) for part in answer.reason(1).split("; ")]
    one, asked = answer.documents[1], answer.documents[0]
    assert one.rank == asked.rank - 1 and sum(numbers) == pytest.approx(one.score - asked.score, rel=0.02)
    assert answer.documents[2].rank == 1


def test_a_document_that_is_not_found_is_compared_with_the_first(collect):
    collection = collect({"a": "otter otter", "b": "comet", "c": "otter"}, {"q": "otter"})
    answer = answered(collection, BM25(), "test", 10, "q,b")
    assert [(one.id, one.rank) for one in answer.documents] == [("b", None), ("a", 1)]
    assert answer.reason(1).startswith("'otter' only there (df 2) +")


def test_a_document_below_the_depth_of_the_recipe_is_found_all_the_same(collect):
    collection = collect(random_documents(), {"q": "otter"})
    ranked = BM25()
    ranked.open(collection.corpus, collection.folder / "cache")
    last = ranked.retrieve(collection.queries("test"), 60).to_dict()["q"]
    answer = answered(collection, BM25(), "test", 5, ["q", list(last)[-1]])
    assert answer.documents[0].rank == len(last) > 5
    assert "below the 5 that the recipe asks for" in printed(answer)


def test_a_document_of_the_id_of_the_query_is_left_out(collect):
    collection = collect({"q": "otter", "b": "otter river"}, {"q": "otter"}, excludes_self=True)
    answer = answered(collection, BM25(), "test", 10, "q,q")
    assert len(answer.documents) == 1 and "left out, for its id is that of the query" in printed(answer)
    assert answered(collection, BM25(), "test", 10, "q,b").documents[0].rank == 1


def test_terms_that_do_not_sum_to_the_score_are_a_bug(collect, monkeypatch):
    collection = collect({"a": "otter"}, {"q": "otter"})
    monkeypatch.setattr("retrieval.explanation.Explanation.total", lambda self, document: 1.0)
    with pytest.raises(RuntimeError, match="document 'a' scores 0.*, but its terms sum to 1.0"):
        answered(collection, BM25(), "test", 10, "q,a")


def printed(answer, width=80):
    out = io.StringIO()
    print_answer(answer, Console(file=out, width=width, highlight=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return out.getvalue()


def test_what_is_printed_fits_80_columns_and_says_it_all(collect):
    collection = collect(random_documents(), {"q": "otter music unheard"})
    retriever = FeedbackRetriever(BM25(), RM3(fb_terms=4, max_df=None), depth=40)
    shown = printed(answered(collection, retriever, "test", 100, "q,d7"))
    for part in ("rank ", "not in the document: ", "the mean is", "feedback: RM3 over the first pass of bm25", "why d"):
        assert part in shown
    table = [line.split("│")[1:-1] for line in shown.split("not in")[0].splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line] for line in table]
    assert cells[-1][0] == "sum"
    assert sum(float(one[-1]) for one in cells[:-1]) == pytest.approx(float(cells[-1][-1]), abs=1e-3)
    assert all(float(one[-1]) >= float(two[-1]) for one, two in pairwise(cells[:-1]))


def test_two_documents_are_compared_to_the_last_term(collect):
    shown = printed(answered(collect(random_documents(), {"q": " ".join(WORDS)}), BM25(), "test", 100, "q,d7"))
    lines = [line.split("│")[1:-1] for line in shown.split("why ")[1].splitlines() if line.startswith("│")]
    for column in (3, 5, 6):
        *parts, total = (float(line[column].strip() or 0) for line in lines)
        assert sum(parts) == pytest.approx(total, abs=0.05)


def test_brackets_in_terms_and_titles_are_no_markup(collect, tiny_mlm):
    collection = collect([("[b]", "[red]title", "[UNK] otter"), ("c", "", "otter")], {"[q]": "[bold]otter"})
    retriever = SparseRetriever(Splade(str(tiny_mlm), dtype="float32"), Inverted())
    shown = printed(answered(collection, retriever, "test", 10, "[q],[b]"))
    assert "query [q]: [bold]otter" in shown and "document [b]: [red]title" in shown


class NoEncoder:
    """An encoder that must not be used."""


class Untold:
    """A model that does not say what it writes."""

    needs = ()

    def reformulate(self, queries, feedback):
        return queries


@pytest.mark.parametrize("within", [False, True], ids=["alone", "in feedback"])
def test_a_retriever_that_cannot_explain_is_refused_before_anything_is_built(collect, within):
    dense = DenseRetriever(NoEncoder(), Flat())
    retriever = FeedbackRetriever(BM25(), Untold(), dense) if within else dense
    with pytest.raises(ValueError, match="DenseRetriever cannot explain a score term by term; bm25, sparse with"):
        answered(collect({"a": "otter"}, {"q": "otter"}), retriever, "test", 10, "q,a")
    if within:
        with pytest.raises(ValueError, match="DenseRetriever cannot explain"):
            retriever.explain(Queries(["q"], ["otter"]), np.array([0], np.int32))


@pytest.mark.parametrize("name", ["bm25", "sparse", "feedback", "dense", "lucene"])
def test_who_explains(name):
    assert issubclass(find(Retriever, name), Explainer) == (name not in ("dense", "lucene"))


def test_postings_are_found_by_term_and_document():
    offsets, docs = np.array([0, 2, 2, 5]), np.array([1, 4, 0, 1, 3], np.int32)
    found = postings(offsets, docs, np.array([0, 1, 2, -1]), np.array([1, 3, 9]))
    assert found.tolist() == [[0, -1, 3, -1], [-1, -1, 4, -1], [-1, -1, -1, -1]]


RECIPE = "dataset: {type: folder, path: collection}\nretriever: %s\n"


@pytest.fixture
def recipe(collect, tmp_path, monkeypatch):
    """A recipe with a retriever over a collection whose query q finds a, then b."""
    monkeypatch.chdir(tmp_path)
    collect({"a": "otter otter river", "b": "otter river sea", "c": "comet sea"}, {"q": "otter"})

    def write(retriever):
        (tmp_path / "recipe.yaml").write_text(RECIPE % retriever)
        return "recipe.yaml"

    return write


@pytest.mark.parametrize("retriever", ["bm25", "{type: feedback, source: bm25, model: {type: rm3, max_df: 1.0}}"])
def test_explain_prints_the_answer_and_leaves_a_finished_experiment_alone(recipe, retriever, tmp_path, capsys):
    path = recipe(retriever)
    results = run(search, [path, "out=found"])
    before = {one: one.read_bytes() for one in (tmp_path / "found").iterdir()}
    capsys.readouterr()
    answer = run(search, [path, "out=found", "explain=q,b"])
    shown = capsys.readouterr().out
    assert "document b" in shown and "rank 2" in shown and "why a is above" in shown
    assert ("feedback: RM3 over" in shown) == (retriever != "bm25")
    assert answer["rank"] == 2 and answer["sum"] == pytest.approx(answer["score"], rel=1e-6)
    assert sum(term["contribution"] for term in answer["terms"]) == pytest.approx(answer["score"], rel=1e-6)
    assert {one: one.read_bytes() for one in (tmp_path / "found").iterdir()} == before
    assert run(search, [path, "out=found"]) == results


def test_a_run_of_before_there_was_explain_is_the_same_experiment(recipe, tmp_path):
    results = run(search, [recipe("bm25"), "out=found"])
    path = tmp_path / "found" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["recipe"].pop("explain") is None
    path.write_text(json.dumps(manifest))
    assert run(search, ["recipe.yaml", "out=found"]) == results


def test_explain_needs_no_run_and_writes_none_and_asks_each_point_of_a_grid(recipe, tmp_path):
    answers = run(search, [recipe("bm25"), "out=none", "explain=[q, b]", "grid={retriever.k1: [0.5, 2.0]}"])
    assert len({answer["score"] for answer in answers}) == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("asked", ["q,x", "y,a"])
def test_an_unknown_id_is_one_line(recipe, asked, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(search, [recipe("bm25"), f"explain={asked}"])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and "test has no " in said and said.count("\n") == 1


def test_a_dense_retriever_is_refused_in_one_line(recipe, tiny_model, capsys):
    encoder = f"{{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32}}"
    with pytest.raises(SystemExit) as stopped:
        run(search, [recipe(f"{{type: dense, encoder: {encoder}, index: flat}}"), "explain=q,a"])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and "DenseRetriever cannot explain" in said and said.count("\n") == 1
