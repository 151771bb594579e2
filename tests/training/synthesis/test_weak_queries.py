"""Weak queries: the pool, tries, cleaning, what is kept, and going on after a kill."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from retrieval.collection import Collection, write_collection
from retrieval.datasets.folder import Folder
from retrieval.generators.transformers import Transformers
from retrieval.sampling import Sampling
from retrieval.types import Generation
from training.filters import Keep
from training.query_prompt import QueryPrompt
from training.synthesis.weak_queries import WeakQueries, clean, pool

DOCUMENTS = [(f"d{n}", "", f"old comet number {n}") for n in range(8)] + [("blank", "", " ")]
LINE = Sampling(128, stop=["\n"])
QRELS = {"train": {"q1": {"d0": 1}}, "test": {"q2": {"d1": 0, "elsewhere": 1}}}


class Model:
    """Answers the sample number and the last word of the document, or what `say` makes of these."""

    def __init__(self, say=None, contract=True, fail_after=None):
        self.say, self.asked, self.fail_after = (
            say or (lambda number, sample: f"comet {number} {sample}"),
            [],
            fail_after,
        )
        if contract:
            self.contract = lambda: {"model": "toy"}

    def generate(self, requests):
        for place, one in enumerate(requests):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise KeyboardInterrupt
            self.asked.append(one)
            text = one.prompt if one.prompt is not None else one.messages[0]["content"]
            said = self.say(int(text.split("number ")[-1].split()[0]), one.sample)
            if isinstance(said, Generation):
                yield place, said
            else:
                yield place, Generation(said, 1, 2, "stop", [-0.5, -1.5] if one.sampling.logprobs else None)


@pytest.fixture
def collection(tmp_path):
    write_collection(tmp_path / "c", DOCUMENTS, {"q1": "old news", "q2": "comet 5 0"}, QRELS)
    return Collection(tmp_path / "c")


def written(weak, collection, folder):
    counts = weak.synthesize(collection, folder)
    made = Collection(folder)
    queries = made.queries("train")
    texts = dict(zip(queries.ids, queries.texts, strict=True))
    assert made.corpus.fingerprint == collection.corpus.fingerprint
    return texts, made.qrels("train").to_dict(), counts


def test_no_document_that_any_split_judges_nor_an_empty_one_is_asked_about(collection):
    rows, counts = pool(collection, None, False, 0)
    judged = {"d0", "d1"}
    assert not judged & set(collection.corpus.ids.take(rows)) and len(rows) == 6
    assert counts == {"documents": 6, "judged documents left out": 2, "empty documents": 1}
    assert len(pool(collection, None, True, 0)[0]) == 8
    drawn = [pool(collection, 3, False, seed)[0].tolist() for seed in range(4)]
    assert drawn[0] == sorted(drawn[0]) == pool(collection, 3, False, 0)[0].tolist() and len({*map(str, drawn)}) > 1
    assert len(pool(collection, 99, False, 0)[0]) == 6


def test_a_collection_whose_documents_are_all_judged_says_what_lets_them_in(tmp_path):
    write_collection(tmp_path / "all", DOCUMENTS[:1], {"q1": "old news"}, {"train": {"q1": {"d0": 1}}})
    with pytest.raises(ValueError, match="no document to ask about.*judged: true"):
        pool(Collection(tmp_path / "all"), None, False, 0)


def test_each_query_has_its_document_and_a_number_from_two_million_on(collection, tmp_path):
    texts, judged, counts = written(WeakQueries(Model()), collection, tmp_path / "out")
    assert texts == {str(2_000_000 + n): f"comet {n + 2} 0" for n in range(6) if n != 3}
    assert judged == {name: {f"d{int(name) - 2_000_000 + 2}": 1} for name in texts}
    assert counts["dropped: a query of another split"] == 1  # comet 5 0 is a test query
    dropped = sum(count for what, count in counts.items() if what.startswith("dropped: "))
    assert counts["answers"] == counts["queries"] + dropped == 6


def test_the_number_of_a_query_is_that_of_its_document_and_sample_whatever_is_dropped(collection, tmp_path):
    model = Model(lambda number, sample: "" if number == 2 else f"comet {number} {'same' if number == 4 else sample}")
    weak = WeakQueries(model, per_document=2, sampling=Sampling(8, 0.7))
    texts, judged, counts = written(weak, collection, tmp_path / "out")
    assert texts["2000002"] == "comet 3 0" and texts["2000003"] == "comet 3 1"
    assert "2000000" not in texts and "2000005" not in texts and judged["2000004"] == {"d4": 1}
    assert counts["dropped: empty"] == 2 and counts["dropped: twice for a document"] == 1


@pytest.mark.parametrize(("temperature", "tries"), [(0.7, 3), (0.0, 1)])
def test_an_empty_answer_is_asked_for_three_times_where_another_answer_can_come(
    collection, tmp_path, temperature, tries
):
    model = Model(lambda number, sample: " " if number == 2 else "a comet")
    weak = WeakQueries(model, sampling=Sampling(8, temperature))
    texts, _, counts = written(weak, collection, tmp_path / "out")
    asked = [one.sample for one in model.asked if "number 2" in one.prompt]
    assert asked == list(range(tries)) and len(texts) == 5 and counts["dropped: empty"] == 1


def test_a_later_try_that_says_something_counts(collection, tmp_path):
    model = Model(lambda number, sample: "\n" if sample < 2 else f"comet {number}")
    texts, _, _ = written(WeakQueries(model, sampling=Sampling(8, 1.0)), collection, tmp_path / "out")
    assert texts["2000000"] == "comet 2"


def test_killed_it_goes_on_and_asks_nothing_twice(collection, tmp_path):
    half = Model(fail_after=3)
    with pytest.raises(KeyboardInterrupt):
        WeakQueries(half).synthesize(collection, tmp_path / "killed")
    rest, whole = Model(), Model()
    WeakQueries(rest).synthesize(collection, tmp_path / "killed")
    assert len(half.asked) == 3 and len(rest.asked) == 3
    whole.contract = lambda: {"model": "another"}
    WeakQueries(whole).synthesize(collection, tmp_path / "whole")
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert WeakQueries(rest).synthesize(collection, tmp_path / "killed")["queries"] == 5  # nothing is asked again
    assert len(rest.asked) == 3
    with pytest.raises(ValueError, match="made of something else"):
        WeakQueries(whole).synthesize(collection, tmp_path / "killed")


def test_the_likeliest_are_kept_by_the_mean_log_probability_of_their_tokens(collection, tmp_path):
    def say(number, sample):
        return Generation(f"comet {number} now", 1, 2, "stop", [-number / 2, -number])

    texts, _, counts = written(WeakQueries(Model(say), sampling=LINE, keep=Keep(best=2)), collection, tmp_path / "out")
    assert list(texts.values()) == ["comet 2 now", "comet 3 now"] and counts["dropped: not among the 2 best"] == 4


def test_a_query_is_never_scored_by_what_is_cut_from_its_answer(collection, tmp_path):
    """A likely query before an unlikely line, and an unlikely one before a likely repetition."""
    line = Generation("a likely comet\nxqz", 1, 5, "length", [-0.1, -0.1, -0.1, -9, -9])
    again = Generation("an unlikely comet, far, far", 1, 9, "length", [-2.0] * 3 + [-0.001] * 6)
    plain = Generation("a comet", 1, 2, "stop", [-1.0, -1.0])
    said = {2: replace(line, text="a likely comet", logprobs=line.logprobs[:3]), 3: again, 4: plain, 5: line}
    for keep in (Keep(best=1), Keep(threshold=-1), Keep(percentile=50)):
        with pytest.raises(ValueError, match=r'give sampling.stop \["\\n"\]'):
            WeakQueries(Model(), keep=keep)
    model = Model(lambda number, sample: said.get(number, Generation("", 1, failure="too long")))
    weak = WeakQueries(model, sampling=LINE, keep=Keep(best=1), fallback="drop")
    texts, _, counts = written(weak, collection, tmp_path / "out")
    assert list(texts.values()) == ["a likely comet"]
    assert counts["dropped: less than the answer that has a score"] == 2  # the repetition, and the line not stopped at
    assert counts["dropped: not among the 1 best"] == 1
    none = WeakQueries(Model(lambda number, sample: "", contract=False), sampling=LINE, keep=Keep(best=1))
    with pytest.raises(ValueError, match=r"no query of 6 is left \(6 empty\)"):
        none.synthesize(collection, tmp_path / "none")


def test_queries_are_cut_to_their_first_words_as_those_of_files_are(collection, tmp_path):
    long = " ".join(f"w{n}" for n in range(60))
    model = Model(lambda number, sample: long if number == 2 else f"comet {number} {sample}")
    texts, _, counts = written(WeakQueries(model), collection, tmp_path / "out")
    assert texts["2000000"] == " ".join(long.split()[:50]) and counts["queries cut to 50 words"] == 1
    texts, _, counts = written(WeakQueries(model, words=None), collection, tmp_path / "whole")
    assert texts["2000000"] == long and not any("cut to" in what for what in counts)


def test_scores_without_log_probabilities_to_go_by_are_refused_and_failures_need_none(collection, tmp_path):
    def say(number, sample):
        return Generation(f"comet {number}", 1, 2, "stop") if number == 5 else Generation("", 1, failure="too long")

    weak = WeakQueries(Model(say), sampling=LINE, keep=Keep(best=2), fallback="drop")
    with pytest.raises(ValueError, match="Model gives no log-probabilities, by which keep goes"):
        weak.synthesize(collection, tmp_path / "out")
    written(WeakQueries(Model(say), fallback="drop"), collection, tmp_path / "unscored")


def test_the_seed_of_the_draw_and_that_of_sampling_are_two(collection, tmp_path):
    weak = WeakQueries(Model(), sampling=Sampling(8, 0.7, seed=5), documents=3, seed=1)
    weak.synthesize(collection, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "synthesis.json").read_text())["made of"]
    assert about["seed"] == 1 and about["asked"]["seed"] == 5
    with pytest.raises(ValueError, match="made of something else .seed is 1 there, 2 here"):
        WeakQueries(Model(), sampling=Sampling(8, 0.7, seed=5), documents=3, seed=2).synthesize(
            collection, tmp_path / "out"
        )


def test_nothing_that_the_evaluation_judges_is_asked_about_and_none_of_its_queries_kept(collection, tmp_path):
    documents = [("e", "", "Old comet, number 4."), ("d6", "", "old comet number 6")]
    write_collection(tmp_path / "e", documents, {"x": "Comet 3 0"}, {"dl19": {"x": {"e": 0}}, "dl20": {"x": {"d6": 2}}})
    model = Model()
    weak = WeakQueries(model, evaluation=Folder(str(tmp_path / "e")))
    texts, _, counts = written(weak, collection, tmp_path / "out")
    assert sorted(one.prompt.split("number ")[1][0] for one in model.asked) == ["2", "3", "5", "7"]
    assert sorted(texts.values()) == ["comet 2 0", "comet 7 0"]
    assert counts["documents judged elsewhere left out"] == 2 and counts["dropped: a query of e"] == 1
    with pytest.raises(ValueError, match="made of something else .evaluation"):
        WeakQueries(model).synthesize(collection, tmp_path / "out")


def test_queries_of_the_splits_named_may_come_again_and_a_split_that_is_none_is_refused(collection, tmp_path):
    texts, _, counts = written(WeakQueries(Model(), splits=["test"]), collection, tmp_path / "out")
    assert "comet 5 0" in texts.values() and counts["dropped: a query of another split"] == 0
    model = Model(lambda number, sample: "old news" if number == 2 else f"comet {number} {sample}", contract=False)
    _, _, counts = written(WeakQueries(model, splits=[]), collection, tmp_path / "none")
    assert counts["dropped: a query of another split"] == 2
    with pytest.raises(ValueError, match="has no split 'tarin'"):
        WeakQueries(Model(), splits=["tarin"]).synthesize(collection, tmp_path / "wrong")


def test_other_queries_in_the_collection_are_another_set(collection, tmp_path):
    WeakQueries(Model()).synthesize(collection, tmp_path / "out")
    path = collection.folder / "queries.jsonl"
    path.write_text(path.read_text().replace("comet 5 0", "comet 6 0"))
    with pytest.raises(ValueError, match="made of something else .queries.jsonl"):
        WeakQueries(Model()).synthesize(Collection(collection.folder), tmp_path / "out")


def test_an_empty_set_says_which_filter_dropped_how_many(collection, tmp_path):
    with pytest.raises(ValueError, match=r"no query of 6 is left \(6 shorter than 4 words\)"):
        WeakQueries(Model(), keep=Keep(min_words=4)).synthesize(collection, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_generation_stops_unless_the_fallback_drops_it(collection, tmp_path):
    def say(number, sample):
        return Generation("", 1, failure="too long") if number == 3 else f"comet {number}"

    with pytest.raises(ValueError, match=r"Model failed \(too long\); lower prompt.words"):
        WeakQueries(Model(say)).synthesize(collection, tmp_path / "out")
    weak = WeakQueries(Model(say), fallback="drop")
    texts, _, counts = written(weak, collection, tmp_path / "out")
    assert len(texts) == 5 and counts["dropped: failed"] == 1 and weak.provenance()["failed generations"] == 1


def test_a_chat_model_is_asked_in_a_turn(collection, tmp_path):
    model = Model()
    WeakQueries(model, QueryPrompt("inpars", chat=True)).synthesize(collection, tmp_path / "out")
    assert model.asked[0].messages[0]["content"].endswith("Text 4: old comet number 2\nSearch query 4:")
    about = json.loads((tmp_path / "out" / "synthesis.json").read_text())["made of"]
    assert about["prompt"] == "inpars" and about["asked"]["generator"] == {"model": "toy"}


def test_query_ids_of_the_collection_itself_are_refused(tmp_path):
    write_collection(tmp_path / "c", DOCUMENTS, {"2000001": "old news"}, {"train": {"2000001": {"d0": 1}}})
    with pytest.raises(ValueError, match="ids from 2000000 on, such as 2000001"):
        WeakQueries(Model()).synthesize(Collection(tmp_path / "c"), tmp_path / "out")


def test_greedy_queries_of_a_model_are_the_same_each_time(collection, tmp_path, tiny_chat, monkeypatch):
    found = []
    for name in ("one", "two"):
        monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / f"cache-{name}"))
        generator = Transformers(str(tiny_chat), dtype="float32", device="cpu")
        weak = WeakQueries(generator, sampling=Sampling(8), keep=Keep(min_words=0))
        found.append(written(weak, collection, tmp_path / name))
    assert found[0] == found[1] and found[0][0]


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        (" what is a comet\nDocument: more", "what is a comet"),
        ("what is a comet? how old is it? what is a comet? how", "what is a comet? how old is it"),
        ("red, green, red, blue", "red, green"),
        ("It is old. It is far. It is old. And", "It is old. It is far"),
        ("one. two, three. two, one", "one. two, three. two, one"),
        ("comets", "comets"),
        ("\n\n", ""),
    ],
)
def test_an_answer_is_its_first_line_up_to_the_first_part_that_repeats(answer, query):
    assert clean(answer) == query


@pytest.mark.parametrize(
    "wrong", [{"documents": 0}, {"per_document": 0}, {"per_document": 2}, {"fallback": "keep"}, {"words": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError):
        WeakQueries(Model(), **wrong)
