"""BM25 against its formulas, against bm25s, against published figures; and what it does with odd input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retrieval.analyzers.english import English
from retrieval.corpus import Corpus, Document
from retrieval.datasets.folder import Folder
from retrieval.indexes.inverted import Inverted
from retrieval.retrievers.bm25 import BM25
from retrieval.similarity import BM25Weights, byte_length, length_byte
from retrieval.types import Queries

TEXTS = ["otter otter river", "river bank's music", "comet", "the of and", "otter bank"]
MEAN = (3 + 3 + 1 + 2) / 4  # of the documents that have a term, as Lucene counts


def build(folder, texts):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(texts)), folder)


@pytest.fixture
def corpus(tmp_path):
    return build(tmp_path / "corpus", TEXTS)


@pytest.fixture
def bm25(corpus, tmp_path):
    retriever = BM25(k1=0.9, b=0.4)
    retriever.open(corpus, tmp_path / "cache")
    return retriever


def score(tf, length, df, n=4, k1=0.9, b=0.4):
    idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + k1 * (1 - b + b * length / MEAN))


def results(run, query=0):
    return {int(row): float(s) for row, s in zip(run.rows[query], run.scores[query], strict=True) if row >= 0}


def test_scores_are_the_formulas(bm25):
    run = bm25.retrieve(Queries(["q"], ["The Otters near a river"]), k=10)
    expected = {0: score(2, 3, 2) + score(1, 3, 2), 1: score(1, 3, 2), 4: score(1, 2, 2)}
    assert results(run) == pytest.approx(expected, rel=1e-6)
    assert run.rows[0, :3].tolist() == sorted(expected, key=expected.get, reverse=True)


def test_a_term_twice_in_the_query_counts_twice(bm25):
    once, twice = (results(bm25.retrieve(Queries(["q"], [text]), 5)) for text in ("comet", "comet comets"))
    assert twice[2] == pytest.approx(2 * once[2], rel=1e-6)


def test_a_query_without_a_known_word_finds_nothing_and_scores_0(bm25):
    from eval import evaluate
    from retrieval.types import Qrels

    run = bm25.retrieve(Queries(["stop", "unknown", "empty", "found"], ["the of", "zyzzyva", "", "comet"]), k=3)
    assert (run.rows[:3] == -1).all() and list(run.query_ids) == ["stop", "unknown", "empty", "found"]
    qrels = Qrels.from_dict({name: {"d2": 1} for name in run.query_ids})
    assert evaluate(run, qrels, ["nDCG@10"]).mean["nDCG@10"] == 0.25


def test_the_possessive_is_the_word_itself(bm25):
    assert set(results(bm25.retrieve(Queries(["q"], ["banks"]), k=5))) == {1, 4}


def test_a_query_may_have_more_than_a_thousand_terms(tmp_path):
    words = [f"w{i}x" for i in range(3000)]
    corpus = build(tmp_path / "corpus", [" ".join(words[i : i + 50]) for i in range(0, 3000, 50)])
    retriever = BM25()
    retriever.open(corpus, tmp_path / "cache")
    run = retriever.retrieve(Queries(["long"], [" ".join(words)]), 60)
    idf = math.log(1 + (60 - 1 + 0.5) / 1.5)
    assert results(run) == pytest.approx({row: 50 * idf / 1.9 for row in range(60)}, rel=1e-6)


def test_ids_with_spaces_and_beyond_ascii_are_kept(tmp_path):
    names = ["a b", "ünï/çødé", "100%", "文"]
    corpus = Corpus.build([Document(name, "", "otter") for name in names], tmp_path / "corpus")
    retriever = BM25()
    retriever.open(corpus, tmp_path / "cache")
    assert set(retriever.retrieve(Queries(["q 1"], ["otter"]), 9).to_dict()["q 1"]) == set(names)


def test_weighted_terms_are_searched_as_they_are(bm25):
    plain = results(bm25.retrieve(Queries(["q"], ["otter river"]), 5))
    weighted = results(bm25.retrieve(Queries(["q"], [""], terms=[{"otter": 1.0, "river": 1.0, "none": 3.0}]), 5))
    assert weighted == plain
    doubled = results(bm25.retrieve(Queries(["q"], [""], terms=[{"otter": 2.0, "river": 2.0}]), 5))
    assert doubled == pytest.approx({row: 2 * value for row, value in plain.items()}, rel=1e-6)
    assert results(bm25.retrieve(Queries(["q"], [""], terms=[{"otter": 0.0}]), 5)) == {}


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_weights_that_are_negative_or_no_number_are_refused(bm25, weight):
    with pytest.raises(ValueError, match=rf"query 'q2': the weight of 'bank' is {weight}"):
        bm25.retrieve(Queries(["q1", "q2"], ["", ""], terms=[{"otter": 1}, {"bank": weight}]), 5)


def test_an_index_is_made_once_and_gives_the_same(bm25, tmp_path, monkeypatch):
    again = BM25(k1=0.9, b=0.4)
    monkeypatch.setattr(Corpus, "batches", None)  # no document is read again
    again.open(bm25.corpus, tmp_path / "cache")
    queries = Queries(["q"], ["otter bank"])
    np.testing.assert_array_equal(again.retrieve(queries, 5).scores, bm25.retrieve(queries, 5).scores)


def test_another_k1_needs_no_other_index_of_terms(bm25, tmp_path, monkeypatch):
    monkeypatch.setattr(Corpus, "batches", None)
    other = BM25(k1=2.0, b=0.75)
    other.open(bm25.corpus, tmp_path / "cache")
    found = results(other.retrieve(Queries(["q"], ["comet"]), 5))
    assert found == pytest.approx({2: score(1, 1, 1, k1=2.0, b=0.75)}, rel=1e-6)


def test_a_corpus_without_words_is_refused(tmp_path):
    corpus = Corpus.build([Document("d", "", "the of")], tmp_path / "corpus")
    with pytest.raises(ValueError, match="no document of .* has a term that could be indexed"):
        BM25().open(corpus, tmp_path / "cache")


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match="BM25 needs k1 >= 0 and 0 <= b <= 1, not k1 0.9 and b 4"):
        BM25(b=4)
    with pytest.raises(ValueError, match="delta belongs to bm25l and bm25"):
        BM25(delta=1.0)
    with pytest.raises(ValueError, match="fields are title and text with weights above 0, not {'body': 1}"):
        BM25(fields={"body": 1})


def test_no_queries_give_an_empty_run(bm25):
    assert bm25.retrieve(Queries([], []), k=3).rows.shape == (0, 3)


@pytest.mark.parametrize("variant", ["robertson", "atire", "bm25l", "bm25+"])
def test_variants_agree_with_bm25s(variant, tmp_path):
    """Score by score on documents that hold the query's one term: bm25s gives absent terms a score of their own."""
    bm25s = pytest.importorskip("bm25s")
    rng = np.random.default_rng(0)
    words = [f"t{i}q" for i in range(60)]
    texts = [" ".join(rng.choice(words, rng.integers(3, 90), p=np.arange(60, 0, -1) / 1830)) for _ in range(200)]
    corpus = build(tmp_path / "corpus", texts)
    ours = BM25(k1=1.2, b=0.6, variant=variant, analyzer=English(stemmer=None, stopwords=[]))
    ours.open(corpus, tmp_path / "cache")
    theirs = bm25s.BM25(k1=1.2, b=0.6, method=variant, delta=1.0 if variant == "bm25+" else 0.5)
    theirs.index([text.split() for text in texts], show_progress=False)
    for word in ("t3q", "t30q", "t55q"):
        found = results(ours.retrieve(Queries(["q"], [word]), 200))
        expected = theirs.get_scores([word])
        holding = {i for i, text in enumerate(texts) if word in text.split()}
        assert set(found) == {i for i in holding if expected[i] > 0}
        assert found == pytest.approx({i: expected[i] for i in found}, rel=1e-4)


def test_robertson_gives_a_term_in_most_documents_no_weight(tmp_path):
    corpus = build(tmp_path / "corpus", ["otter"] * 3 + ["comet"])
    retriever = BM25(variant="robertson")
    retriever.open(corpus, tmp_path / "cache")
    assert results(retriever.retrieve(Queries(["q"], ["otter"]), 9)) == {}


def test_fields_have_lengths_and_frequencies_of_their_own(tmp_path):
    documents = [("a", "otter", "river river bank"), ("b", "comet", "otter otter"), ("c", "otter music", "")]
    corpus = Corpus.build(documents, tmp_path / "corpus")
    retriever = BM25(fields={"title": 2.0, "text": 1.0})
    retriever.open(corpus, tmp_path / "cache")

    def part(tf, length, mean, df, n):
        return math.log(1 + (n - df + 0.5) / (df + 0.5)) * tf / (tf + 0.9 * (0.6 + 0.4 * length / mean))

    found = results(retriever.retrieve(Queries(["q"], ["otter"]), 9))
    title = {0: part(1, 1, 4 / 3, 2, 3), 2: part(1, 2, 4 / 3, 2, 3)}
    assert found == pytest.approx({0: 2 * title[0], 1: part(2, 2, 2.5, 1, 2), 2: 2 * title[2]}, rel=1e-6)
    with pytest.raises(ValueError, match="terms for feedback come from one field"):
        retriever.feedback(Queries(["q"], ["otter"]), retriever.retrieve(Queries(["q"], ["otter"]), 2))


def test_lucenes_tie_order_is_the_lower_id_first_and_shows_in_the_scores(tmp_path):
    corpus = build(tmp_path / "corpus", ["otter"] * 5 + ["otter otter"])
    usual, lucene = BM25(), BM25(index=Inverted(ties="lucene"))
    for retriever in (usual, lucene):
        retriever.open(corpus, tmp_path / "cache")
    asked = Queries(["q"], ["otter"])
    assert usual.retrieve(asked, 4).rows.tolist() == [[5, 4, 3, 2]]
    run = lucene.retrieve(asked, 4)
    assert run.rows.tolist() == [[5, 0, 1, 2]]
    np.testing.assert_allclose(run.scores, usual.retrieve(asked, 4).scores, rtol=1e-6)


@pytest.mark.parametrize(("length", "kept"), [(0, 0), (39, 39), (40, 40), (41, 40), (55, 54), (100, 96), (5000, 4632)])
def test_a_length_is_kept_in_a_byte_as_lucene_does(length, kept):
    """Worked by hand from SmallFloat: 24 exact values, then four significant bits of what is above 24."""
    assert byte_length(length_byte(np.array([length])))[0] == kept


def test_length_bytes_are_a_ladder():
    codes = np.arange(256)
    lengths = byte_length(codes)
    assert (np.diff(lengths) > 0).all()
    fitting = lengths < 2**31
    np.testing.assert_array_equal(length_byte(lengths[fitting]), codes[fitting])
    np.testing.assert_array_equal(length_byte(lengths[1:200] - 1), codes[1:200] - 1)


def test_feedback_shows_terms_and_statistics(bm25):
    queries = Queries(["q"], ["otters on the bank, otter"])
    own, feedback = bm25.feedback(queries, bm25.retrieve(queries, 2))
    assert own.terms == [{"otter": 2, "bank": 1}]
    assert list(feedback.terms(np.array([0, 3]))) == [{"otter": 2, "river": 1}, {}]
    assert feedback.statistics.documents == 4
    assert feedback.statistics.frequencies(["otter", "comet", "none"]).tolist() == [2, 1, 0]
    assert feedback.statistics.idf(["comet"]) == pytest.approx([math.log(1 + 3.5 / 1.5)])
    assert bm25.mean_length == MEAN


def test_idf_of_lucene_is_rounded_to_float32():
    assert BM25Weights().idf(np.array([3]), 10)[0] == np.float32(math.log(1 + 7.5 / 3.5))


def test_limit_small_gives_the_published_recall(data):
    """R@2 0.978 with ties as Anserini has them, two thousandths more in trec_eval's order."""
    from eval import evaluate

    collection = Folder(str(data / "limit-small")).open()
    for ties, expected in (("lucene", 0.978), ("trec_eval", 0.98)):
        retriever = BM25(index=Inverted(ties=ties))
        retriever.open(collection.corpus, collection.corpus.folder.parent)
        found = retriever.retrieve(collection.queries("test"), 100)
        assert evaluate(found, collection.qrels("test"), ["R@2"]).mean["R@2"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "ties", "fields", "ndcg", "recall"),
    [
        ("scifact", "trec_eval", None, 0.6789, 0.9253),
        ("scifact", "lucene", None, 0.6789, 0.9253),
        ("nfcorpus", "lucene", None, 0.3218, 0.2457),
        ("scifact", "lucene", {"title": 1.0, "text": 1.0}, 0.6647, None),
        ("nfcorpus", "lucene", {"title": 1.0, "text": 1.0}, 0.3254, None),
    ],
)
def test_figures_are_anserinis_to_four_digits(data, name, ties, fields, ndcg, recall):
    """Its published BEIR regressions, flat and multifield; NFCorpus has ties, which Anserini breaks by ascending id."""
    from eval import evaluate

    collection = Folder(str(data / name)).open()
    retriever = BM25(fields=fields, index=Inverted(ties=ties))
    retriever.open(collection.corpus, collection.corpus.folder.parent)
    found = retriever.retrieve(collection.queries("test"), 1000)
    mean = evaluate(found, collection.qrels("test"), ["nDCG@10", "R@100"]).mean
    assert round(mean["nDCG@10"], 4) == ndcg
    assert recall is None or round(mean["R@100"], 4) == recall


def test_rewritten_queries_score_what_their_authors_report_with_pyserini(data):
    """Forty sets of long queries that language models wrote for SciFact, each with the nDCG@10 of its published run."""
    import json

    from eval import evaluate

    collection = Folder(str(data / "scifact")).open()
    retriever = BM25(index=Inverted(ties="lucene"))
    retriever.open(collection.corpus, collection.corpus.folder.parent)
    ids, qrels = collection.queries("test").ids, collection.qrels("test")
    found, reported = {}, {}
    for path in sorted((data / "querygym-expansions" / "beir-v1.0.0-scifact").glob("*.queries.tsv")):
        texts, last = dict.fromkeys(ids, ""), ""
        for line in path.read_text(encoding="utf-8").split("\n"):  # a text may go on over several lines
            name, tab, text = line.partition("\t")
            last, line = (name, text) if tab and name in texts else (last, f"\n{line}")
            texts[last] = texts.get(last, "") + line
        run = retriever.retrieve(Queries(list(ids), [texts[name] for name in ids]), 1000)
        found[path.name] = round(evaluate(run, qrels, ["nDCG@10"]).mean["nDCG@10"], 4)
        about = json.loads(path.with_name(path.name.replace(".queries.tsv", ".json")).read_text())
        reported[path.name] = about["metrics"]["ndcg_cut_10"]
    assert len(found) == 40 and found == reported


def test_a_field_that_is_empty_everywhere_changes_nothing(tmp_path):
    corpus = build(tmp_path / "corpus", TEXTS)  # without titles
    one, fields = BM25(), BM25(fields={"title": 1.0, "text": 1.0})
    for retriever in (one, fields):
        retriever.open(corpus, tmp_path / "cache")
    asked = Queries(["q"], ["otter bank river"])
    assert results(fields.retrieve(asked, 5)) == results(one.retrieve(asked, 5)) != {}


def test_statistics_are_those_of_the_corpus_opened_last(tmp_path):
    retriever = BM25()
    for number, texts in enumerate((TEXTS, ["otter"] * 9)):
        retriever.open(build(tmp_path / f"corpus{number}", texts), tmp_path / "cache")
        retriever.statistics.idf(["otter"])
    assert retriever.statistics.documents == 9 and retriever.mean_length == 1


def test_fields_have_no_statistics_in_common(tmp_path):
    retriever = BM25(fields={"title": 1.0, "text": 1.0})
    retriever.open(build(tmp_path / "corpus", TEXTS), tmp_path / "cache")
    for ask in (lambda: retriever.statistics, lambda: retriever.mean_length):
        with pytest.raises(ValueError, match="terms for feedback come from one field: leave out `fields`"):
            ask()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: BM25(variant="bm25plus"),
            "variant is one of lucene, robertson, atire, bm25l, bm25\\+, not 'bm25plus'",
        ),
        (lambda: Inverted(ties="anserini"), "ties is one of trec_eval, lucene, not 'anserini'"),
        (lambda: English(stemmer="krovetz"), "stemmer is one of porter, not 'krovetz'"),
        (lambda: English(stopwords="english"), "stopwords is one of lucene, not 'english'"),
    ],
)
def test_a_name_that_is_not_known_is_no_default(make, said):
    with pytest.raises(ValueError, match=said):
        make()
