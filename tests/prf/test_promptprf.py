"""PromptPRF: which features stand in the prompt, in which order, what is dropped, and that nothing else changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from prf.extractors.generated import Generated
from prf.extractors.lead import Lead
from prf.promptprf import PromptPRF
from retrieval.corpus import Corpus
from retrieval.encoders.promptreps import PromptReps
from retrieval.encoders.transformer import Transformer
from retrieval.feature_store import extract_corpus
from retrieval.indexes.flat import Flat
from retrieval.protocols import Reformulator
from retrieval.registry import find
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Feedback, Generation, Queries
from tests.conftest import TEXTS
from tests.prf.toy import run

DOCUMENTS = ["otter. More", "comet. Far", "violin. Old", " ", "teapot. Hot"]
PLAIN = "{query} | {features}"


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "template.txt"
    path.write_text(f"# plain 1\n{PLAIN}\n")
    return path


def feedback(*found, texts=DOCUMENTS):
    return Feedback(run(len(texts), *found), texts=lambda rows: [texts[row] for row in rows])


def asked(*texts):
    return Queries([f"q{i}" for i in range(len(texts))], list(texts))


def ranked(*rows):
    return [(row, 9.0 - place) for place, row in enumerate(rows)]


class Ten:
    """An encoder that reads ten words of a query."""

    def encode_queries(self, texts): ...

    encode_docs = encode_queries

    def contract(self):
        return {}

    def query_excess(self, texts):
        return [max(0, len(text.split()) - 10) for text in texts]


class Words:
    """A generator whose feature is the passage's first word, and that counts its calls."""

    def __init__(self):
        self.asked = 0

    def generate(self, requests):
        self.asked += len(requests)
        shown = [one.messages[-1]["content"].splitlines()[0].removeprefix("Passage: ") for one in requests]
        return enumerate(Generation(text.split()[0]) for text in shown)

    def contract(self):
        return {"model": "words"}


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "promptprf") is PromptPRF and PromptPRF(Lead()).needs == ("texts",)


def test_features_stand_in_rank_order_with_labels(template):
    moved = PromptPRF(Lead(1), template=template).reformulate(asked("a", "b"), feedback(ranked(1, 0, 2), ranked(4, 1)))
    assert moved.texts == ["a | [1] comet. [2] otter. [3] violin.", "b | [1] teapot. [2] comet."]


def test_without_labels_only_the_labels_are_gone(template):
    found = feedback(ranked(1, 0))
    with_labels, without = (
        PromptPRF(Lead(1), template=template, rank_labels=labels).reformulate(asked("a"), found).texts[0]
        for labels in (True, False)
    )
    assert without == "a | comet. otter." == with_labels.replace("[1] ", "").replace("[2] ", "")


def test_two_documents_that_change_places_change_the_prompt(template):
    model = PromptPRF(Lead(1), template=template)
    one, other = (model.reformulate(asked("a"), feedback(ranked(*rows))).texts for rows in ((0, 1), (1, 0)))
    assert one != other


def test_depth_bounds_the_documents(template):
    model = PromptPRF(Lead(1), template=template, depth=2)
    assert model.reformulate(asked("a"), feedback(ranked(0, 1, 2))).texts == ["a | [1] otter. [2] comet."]


def test_depth_0_keeps_the_texts_and_nothing_that_the_source_would_search_with(template):
    queries = replace(asked("a"), terms=[{"a": 1.0}], variants=[[("b", 1.0)]])
    moved = PromptPRF(Lead(1), template=template, depth=0).reformulate(queries, feedback(ranked(0)))
    assert moved.texts == ["a"] and moved.terms is moved.variants is moved.representations is None


def test_a_query_without_documents_keeps_its_text(template):
    moved = PromptPRF(Lead(1), template=template).reformulate(asked("a", "the"), feedback(ranked(0), []))
    assert moved.texts == ["a | [1] otter.", "the"]


def test_a_document_without_text_or_feature_is_skipped_and_never_named_none(template):
    class Some:
        def extract(self, texts):
            return ["" if "comet" in text else text.split(".")[0] for text in texts]

    model = PromptPRF(Some(), template=template)
    moved = model.reformulate(asked("a"), feedback(ranked(0, 1, 3, 2)))
    assert moved.texts == ["a | [1] otter [4] violin"] and model.missing == 2


def test_the_new_text_is_searched_with_and_nothing_else(template):
    queries = replace(asked("a"), terms=[{"a": 1.0}])
    moved = PromptPRF(Lead(1), template=template).reformulate(queries, feedback(ranked(0)))
    assert moved.terms is None and moved.representations is None and moved.ids == queries.ids


def test_a_feature_is_cut_to_its_words_and_counted(template):
    model = PromptPRF(Lead(1), template=template, max_feature_words=2)
    texts = ["one two three", "one two"]
    assert model.reformulate(asked("a"), feedback(ranked(0, 1), texts=texts)).texts == ["a | [1] one two [2] one two"]
    assert model.truncated == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a", "a | [1] one two [2] three four"),  # 8 of 10 words; a third feature would be 11
        ("a b c", "a b c | [1] one two [2] three four"),
        ("a b c d", "a b c d | [1] one two"),
        ("a b c d e f g", "a b c d e f g"),
        ("a b c d e f g h i j k l", "a b c d e f g h i j k l"),  # too long alone: as without feedback
    ],
)
def test_the_lowest_ranked_features_are_dropped_first_and_never_the_query(template, query, expected):
    texts = ["one two", "three four", "five six"]
    model = PromptPRF(Lead(1), encoder=Ten(), template=template)
    assert model.reformulate(asked(query), feedback(ranked(0, 1, 2), texts=texts)).texts == [expected]
    assert model.provenance()["dropped features"] == 3 - expected.count("[")


def test_two_queries_that_share_a_document_ask_about_it_once(template):
    words = Words()
    model = PromptPRF(Generated(words), template=template)
    moved = model.reformulate(asked("a", "b"), feedback(ranked(0, 1), ranked(1, 2)))
    assert moved.texts == ["a | [1] otter. [2] comet.", "b | [1] comet. [2] violin."] and words.asked == 3
    model.reformulate(asked("c"), feedback(ranked(2, 4)))
    assert words.asked == 4


@pytest.mark.parametrize("kind", ["transformer", "promptreps"])
def test_no_query_that_the_encoder_reads_is_cut(kind, tiny_model, tiny_chat):
    if kind == "transformer":
        encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", query_prompt="query: ")
    else:
        encoder = PromptReps(str(tiny_chat), dtype="float32", max_length=30)
    model = PromptPRF(Lead(1), encoder=encoder, depth=4)
    queries = asked(*TEXTS[:6])
    moved = model.reformulate(queries, feedback(*[ranked(5, 17, 2, 60)] * 6, texts=TEXTS))
    assert model.dropped and not encoder.encode_queries(moved.texts).truncated
    assert all(text.startswith(query) for text, query in zip(moved.texts, queries.texts, strict=True))
    whole = PromptPRF(Lead(1), depth=4).reformulate(queries, feedback(*[ranked(5, 17, 2, 60)] * 6, texts=TEXTS))
    assert encoder.encode_queries(whole.texts).truncated == sum(map(bool, encoder.query_excess(whole.texts)))


@pytest.fixture
def opened(tmp_path):
    corpus = Corpus.build([(f"d{i}", "", text) for i, text in enumerate(TEXTS[:40])], tmp_path / "corpus")

    def make(encoder, model, depth=5):
        dense = DenseRetriever(encoder, Flat())
        retriever = FeedbackRetriever(dense, model, depth=depth) if model else dense
        retriever.open(corpus, tmp_path)
        return retriever

    make.corpus = corpus
    return make


def test_behind_promptreps_depth_0_ranks_as_the_plain_retriever(tiny_chat, opened):
    encoder, queries = PromptReps(str(tiny_chat), dtype="float32"), asked("otter", "a quiet library")
    alone = opened(encoder, None).retrieve(queries, 10)
    same = opened(encoder, PromptPRF(Lead(1), encoder=encoder, depth=0)).retrieve(queries, 10)
    assert (same.rows == alone.rows).all() and (same.scores == alone.scores).all()
    moved = opened(encoder, PromptPRF(Lead(1), encoder=encoder)).retrieve(queries, 10)
    assert (moved.scores != alone.scores).any() and moved.name == "dense+promptprf"


def test_the_second_pass_is_the_search_of_the_new_text(tiny_chat, opened, template):
    encoder = PromptReps(str(tiny_chat), dtype="float32")
    alone, texts = opened(encoder, None), opened.corpus.texts(np.arange(40))
    first = alone.retrieve(asked("otter"), 2)
    by_hand = "otter | [1] {} [2] {}".format(*(texts[row] for row in first.rows[0]))
    model = PromptPRF(Lead(1), encoder=encoder, depth=2, template=template)
    found = opened(encoder, model).retrieve(asked("otter"), 40)
    expected = alone.retrieve(asked(by_hand), 40)
    assert (found.rows == expected.rows).all() and (found.scores == expected.scores).all()


def test_stored_features_give_what_the_extractor_gives(tiny_model, opened, tmp_path):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    extract_corpus(opened.corpus, Lead(1), tmp_path / "features", shard=7)
    stored = PromptPRF(features=tmp_path / "features")
    runs = [opened(encoder, model).retrieve(asked("otter", "comet"), 40) for model in (stored, PromptPRF(Lead(1)))]
    assert (runs[0].rows == runs[1].rows).all() and (runs[0].scores == runs[1].scores).all()
    assert stored.needs == () and stored.provenance()["features"]["extractor"] == Lead(1).contract()


def test_features_of_another_corpus_are_refused(opened, tmp_path):
    extract_corpus(opened.corpus, Lead(1), tmp_path / "features")
    with pytest.raises(ValueError, match="holds features of corpus .* and the feedback documents are of"):
        PromptPRF(features=tmp_path / "features").reformulate(asked("a"), feedback(ranked(0)))


def test_documents_that_the_folder_lacks_are_refused(opened, tmp_path, template):
    extract_corpus(opened.corpus, Lead(1), tmp_path / "features", rows=np.array([2, 5], np.int32))
    model = PromptPRF(features=tmp_path / "features", template=template)
    found = feedback(ranked(5, 2, 4), texts=TEXTS[:40])
    found = replace(found, run=replace(found.run, docs=opened.corpus.ids), texts=None)
    with pytest.raises(
        ValueError, match="holds features of 2 documents, and 1 others were not extracted: raise `depth"
    ):
        model.reformulate(asked("a"), found)
    model.depth = 2
    assert model.reformulate(asked("a"), found).texts == [f"a | [1] {TEXTS[5]} [2] {TEXTS[2]}"]


def test_a_blank_document_is_missing_and_labels_are_ranks_of_the_first_pass_also_from_a_folder(tmp_path, template):
    corpus = Corpus.build([(f"d{i}", "", text) for i, text in enumerate(DOCUMENTS)], tmp_path / "corpus")
    extract_corpus(corpus, Lead(1), tmp_path / "features")
    found = feedback(ranked(0, 3, 2))
    found = replace(found, run=replace(found.run, docs=corpus.ids))
    models = PromptPRF(features=tmp_path / "features", template=template), PromptPRF(Lead(1), template=template)
    for model in models:
        assert model.reformulate(asked("a"), found).texts == ["a | [1] otter. [3] violin."] and model.missing == 1


def test_a_feature_that_failed_is_missing(template):
    class Failing:
        def extract(self, texts):
            return [None if "comet" in text else "good" for text in texts]

    model = PromptPRF(Failing(), template=template)
    assert model.reformulate(asked("a"), feedback(ranked(1, 0))).texts == ["a | [2] good"] and model.missing == 1


def test_instructed_queries_are_refused_where_an_encoder_would_miscount_them(template):
    told = replace(asked("a"), instructions=["find"])
    with pytest.raises(ValueError, match="leave out the encoder"):
        PromptPRF(Lead(1), encoder=Ten(), template=template).reformulate(told, feedback(ranked(0)))
    moved = PromptPRF(Lead(1), template=template).reformulate(told, feedback(ranked(0)))
    assert moved.texts == ["a | [1] otter."] and moved.instructions == ["find"]


def test_counts_stand_beside_the_figures(tiny_model, opened, template):
    encoder, words = Transformer(str(tiny_model), pooling="mean", dtype="float32"), Words()
    retriever = opened(encoder, PromptPRF(Generated(words), encoder=encoder, template=template), depth=3)
    retriever.retrieve(asked("otter"), 5)
    about = retriever.provenance()
    assert about["model calls"] == words.asked == 3 and about["failed generations"] == 0
    assert about["model"]["template sha256"] == hashlib.sha256(template.read_bytes()).hexdigest()
    assert about["model"]["template"] == "plain 1" and "dropped features" in about


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{query} {features}", "the first line is `# id version`"),
        ("# own 1\n{query}", r"has the places \['query'\]: it needs {query} and {features}, once each"),
        ("# own 1\n{query} {features} {date}", "has the places .*'date'"),
        ("# own 1\n{query} {features} {query}", "once each"),
    ],
)
def test_a_template_says_what_it_lacks(tmp_path, text, message):
    (tmp_path / "own.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        PromptPRF(Lead(), template=tmp_path / "own.txt")


def test_braces_in_queries_and_features_stay_what_they_are(template):
    moved = PromptPRF(Lead(1), template=template).reformulate(
        asked("{features}"), feedback(ranked(0), texts=["{query} {x}"])
    )
    assert moved.texts == ["{features} | [1] {query} {x}"]


def test_settings_that_cannot_be_are_refused(tmp_path):
    for arguments in ({}, {"extractor": Lead(), "features": tmp_path}):
        with pytest.raises(ValueError, match="exactly one of them"):
            PromptPRF(**arguments)
    with pytest.raises(ValueError, match="depth of at least 0"):
        PromptPRF(Lead(), depth=-1)
    with pytest.raises(ValueError, match="max_feature_words"):
        PromptPRF(Lead(), max_feature_words=0)
    with pytest.raises(ValueError, match="Lead has no query_excess"):
        PromptPRF(Lead(), encoder=Lead())


def test_feedback_of_nothing_or_without_texts_is_refused():
    with pytest.raises(ValueError, match="put it behind a source"):
        PromptPRF(Lead()).reformulate(asked("a"), None)
    with pytest.raises(ValueError, match="given 2 queries and the feedback of others"):
        PromptPRF(Lead()).reformulate(asked("a", "b"), feedback(ranked(0)))
    with pytest.raises(ValueError, match="texts"):
        PromptPRF(Lead()).reformulate(asked("a"), Feedback(run(5, ranked(0))))
