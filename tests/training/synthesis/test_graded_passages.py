"""Passages at four levels from one answer: what is read, what is refused, asked again, dropped and counted."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from retrieval.collection import Collection, write_collection
from retrieval.generators.replay import Replay
from retrieval.locate import cache_folder
from retrieval.sampling import Sampling
from retrieval.store import GenerationStore
from retrieval.types import Generation
from training.synthesis.graded_passages import LEVELS, GradedPassages, Level, parsed

NAMES = [level.name for level in LEVELS]


def tagged(**texts):
    return "\n".join(f'<passage level="{name.replace("_", " ")}">\n{text}\n</passage>' for name, text in texts.items())


WHOLE = tagged(perfectly_relevant="one", highly_relevant="two", related="three", irrelevant="four")


class Model:
    """Answers by the query and the number of the sample, and remembers what it was asked."""

    def __init__(self, rule, model="m"):
        self.rule, self.model, self.asked = rule, model, []

    def contract(self):
        return {"model": self.model}

    def generate(self, requests):
        for place, request in enumerate(requests):
            query = request.messages[-1]["content"].rpartition("Query: ")[2]
            self.asked.append((query, request.sample))
            said = self.rule(query, request.sample)
            yield place, said if isinstance(said, Generation) else Generation(said, 10, 20, "stop")


def always(query, sample):
    return WHOLE


@pytest.fixture
def collection(tmp_path):
    queries = {"q-1": "otters", "q2": "comets", "q3": " ", "q4": "teapots"}
    qrels = {"train": {name: {"d": 1} for name in queries}}
    write_collection(tmp_path / "toy", [("d", "", "a text")], queries, qrels)
    return Collection(tmp_path / "toy")


def test_an_answer_gives_the_passage_of_each_level_in_the_order_of_levels():
    said = tagged(related="three", perfectly_relevant="one\n  and  more", irrelevant="<b> four", HIGHLY_RELEVANT="two")
    assert parsed(said, NAMES) == (("one and more", "two", "three", "<b> four"), "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty answer"),
        (WHOLE + "\nI hope this helps.", "text outside"),
        ("```xml\n" + WHOLE + "\n```", "text outside"),
        (WHOLE.removesuffix("</passage>"), "unclosed passage"),
        (WHOLE.replace("</passage>", "", 1), "unclosed passage"),
        (WHOLE.replace("related", "close", 1), "foreign level"),
        (WHOLE + tagged(somewhat="five"), "foreign level"),
        (WHOLE + tagged(related="five"), "repeated level"),
        (tagged(perfectly_relevant="one", highly_relevant="two", related="three"), "missing level"),
        (WHOLE.replace("three", " "), "empty passage"),
        (WHOLE.replace("three", "..."), "empty passage"),
        (WHOLE.replace("three", "two"), "repeated passage"),
        ("one two three four", "text outside"),
    ],
)
def test_an_answer_that_is_not_one_passage_for_each_level_is_refused_with_the_reason(answer, reason):
    assert parsed(answer, NAMES) == ((), reason)


def test_a_collection_is_written_with_a_passage_for_each_label(collection, tmp_path):
    counts = GradedPassages(Model(always)).synthesize(collection, tmp_path / "made")
    made = Collection(tmp_path / "made")
    assert made.splits() == ["train"] and made.queries("train").ids == ["q-1", "q2", "q4"]
    assert made.qrels("train").to_dict()["q-1"] == {"q-1-3": 3, "q-1-2": 2, "q-1-1": 1, "q-1-0": 0}
    assert [tuple(one) for one in made.corpus][:2] == [("q-1-3", "", "one"), ("q-1-2", "", "two")]
    assert len(made.corpus) == 12
    assert {
        "queries": 4,
        "kept": 3,
        "dropped": 1,
        "dropped: empty query": 1,
        "generations": 3,
    }.items() <= counts.items()
    assert json.loads((tmp_path / "made" / "synthesis.json").read_text())["counts"] == counts


def test_what_cannot_be_read_is_asked_again_then_dropped_and_the_counts_add_up(collection, tmp_path):
    def rule(query, sample):
        texts = {"comets": "no tags", "teapots": WHOLE if sample == 1 else WHOLE + tagged(related="again")}
        return texts.get(query, WHOLE)

    model = Model(rule)
    counts = GradedPassages(model, tries=3).synthesize(collection, tmp_path / "made")
    assert model.asked == [
        *[("otters", 0), ("comets", 0), ("teapots", 0)],
        *[("comets", 1), ("teapots", 1)],
        ("comets", 2),
    ]
    assert counts == {
        **{"queries": 4, "kept": 2, "dropped": 2, "generations": 6, "parsed": 2, "unparsed": 4},
        **{"unparsed: text outside": 3, "unparsed: repeated level": 1},
        **{"kept at try 1": 1, "kept at try 2": 1, "kept at try 3": 0},
        **{"dropped: empty query": 1, "dropped: text outside": 1},
    }
    assert Collection(tmp_path / "made").queries("train").ids == ["q-1", "q4"]


def test_where_no_query_is_left_the_error_says_what_dropped_how_many(collection, tmp_path):
    rules = {"otters": "no tags", "comets": WHOLE.replace("two", ""), "teapots": "none"}
    wanted = "of 4 queries none is left; text outside 2, empty passage 1, empty query 1"
    with pytest.raises(ValueError, match=wanted):
        GradedPassages(Model(lambda query, _: rules[query]), tries=1).synthesize(collection, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_run_that_ended_early_asks_only_what_is_missing_and_writes_the_same(collection, tmp_path, monkeypatch):
    def rule(query, sample):
        return WHOLE if query != "comets" or sample else "no tags"

    def stopping(query, sample):
        if query == "teapots":
            raise KeyboardInterrupt
        return rule(query, sample)

    with pytest.raises(KeyboardInterrupt):
        GradedPassages(Model(stopping)).synthesize(collection, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    model = Model(rule)
    counts = GradedPassages(model).synthesize(collection, tmp_path / "made")
    assert model.asked == [("teapots", 0), ("comets", 1)]
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "other"))
    assert GradedPassages(Model(rule)).synthesize(collection, tmp_path / "whole") == counts
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "synthesis.json"):
        assert (tmp_path / "made" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_that_is_whole_is_left_and_one_of_other_settings_refused(collection, tmp_path):
    counts = GradedPassages(Model(always)).synthesize(collection, tmp_path / "made")
    model = Model(always)
    assert GradedPassages(model).synthesize(collection, tmp_path / "made") == counts and model.asked == []
    with pytest.raises(ValueError, match=r"made was made of something else \(seed is 0 there, 1 here\)"):
        GradedPassages(Model(always), seed=1).synthesize(collection, tmp_path / "made")


def test_a_generation_that_failed_ends_the_run_or_is_counted_where_a_fallback_says_so(collection, tmp_path):
    def rule(query, sample):
        return Generation("", failure="HTTP 500") if query == "comets" else WHOLE

    with pytest.raises(ValueError, match=r"Model failed \(HTTP 500\)"):
        GradedPassages(Model(rule)).synthesize(collection, tmp_path / "made")
    counts = GradedPassages(Model(rule), fallback="drop").synthesize(collection, tmp_path / "made")
    assert counts["unparsed: failed generation"] == 3 and counts["dropped: failed generation"] == 1


def test_the_answer_follows_thoughts_which_must_have_ended(collection, tmp_path):
    rules = {"comets": f"<think>{WHOLE}", "otters": f"<think>so</think>\n{WHOLE}", "teapots": WHOLE}
    made = GradedPassages(Model(lambda query, _: rules[query]), tries=1)
    assert made.synthesize(collection, tmp_path / "made")["dropped: empty answer"] == 1


def test_a_file_of_another_model_is_refused(collection, tmp_path, monkeypatch):
    GradedPassages(Model(always, "large")).synthesize(collection, tmp_path / "made")
    GenerationStore(cache_folder() / "generations.sqlite").export(tmp_path / "said.jsonl")
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "elsewhere"))
    replay = Replay(str(tmp_path / "said.jsonl"), model='"model":"small"')
    with pytest.raises(ValueError, match="said.jsonl holds 0 models with .*small.*: let `model` be a part.*large"):
        GradedPassages(replay).synthesize(collection, tmp_path / "again")
    same = GradedPassages(Replay(str(tmp_path / "said.jsonl"), model="large"))
    same.synthesize(collection, tmp_path / "again")
    assert (tmp_path / "again" / "corpus.jsonl").read_bytes() == (tmp_path / "made" / "corpus.jsonl").read_bytes()


def asked_of(collection, tmp_path, **settings):
    """What the model is shown for the first query."""
    shown = []

    class Shown(Model):
        contract = None  # so that nothing is kept

        def generate(self, requests):
            shown.extend(request.messages for request in requests)
            return super().generate(requests)

    GradedPassages(Shown(always), **settings).synthesize(collection, tmp_path / "made")
    return shown


def test_the_prompt_names_levels_form_length_and_readers(collection, tmp_path):
    shown = asked_of(collection, tmp_path, lengths=["forty words"], difficulties=["cooks"])[0][-1]["content"]
    for level in LEVELS:
        assert f"- {level.name}: {level.definition}" in shown and f'<passage level="{level.name}">' in shown
    assert "forty words" in shown and "cooks" in shown and shown.endswith("Query: otters")
    form = shown[shown.index("<passage") : shown.rindex("</passage>")] + "</passage>"
    assert parsed(form, NAMES) == ((), "empty passage")  # the form itself is no answer


def test_length_and_difficulty_depend_on_seed_and_query_alone(tmp_path):
    names = {f"q{i}": f"text {i}" for i in range(300)}
    write_collection(tmp_path / "many", [("d", "", "x")], names, {"train": {name: {"d": 1} for name in names}})
    lengths = ["aaa", "bbb", "ccc"]

    def drawn(**settings):
        shown = asked_of(Collection(tmp_path / "many"), tmp_path / str(settings), lengths=lengths, **settings)
        texts = [one[-1]["content"] for one in shown]
        return {text.rpartition("Query: ")[2]: next(one for one in lengths if f": {one}." in text) for text in texts}

    everything, some = drawn(), drawn(queries=50)
    assert len(some) == 50 and some.items() <= everything.items() and drawn(seed=1) != everything
    assert min(Counter(everything.values()).values()) > 60  # of 100 expected


def test_examples_are_shown_before_the_query(collection, tmp_path):
    path = tmp_path / "examples.jsonl"
    texts = dict(zip(NAMES, ("E1", "E2", "E3", "E4"), strict=True))
    path.write_text(json.dumps({"query": "what is tea", "length": "short", "passages": texts}) + "\n")
    shown = asked_of(collection, tmp_path, examples=path)[0][-1]["content"]
    example = "Length: short\nQuery: what is tea\n" + tagged(**{n.replace(" ", "_"): t for n, t in texts.items()})
    assert example in shown and shown.index(example) < shown.index("Query: otters")


@pytest.mark.parametrize("line", ["{", '{"query": "a"}', '{"query": "a", "passages": {"related": "b"}}', '["a"]'])
def test_an_example_that_lacks_a_level_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "examples.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r'examples.jsonl:1: each line is {"query": ..., "passages": {"perfectly'):
        GradedPassages(Model(always), examples=tmp_path / "examples.jsonl")


def test_levels_may_be_others(collection, tmp_path):
    levels = [Level("good", "answers", 5), Level("bad", "does not", 0)]
    answer = tagged(bad="no", good="yes")
    GradedPassages(Model(lambda *_: answer), levels=levels).synthesize(collection, tmp_path / "made")
    assert Collection(tmp_path / "made").qrels("train").to_dict()["q2"] == {"q2-5": 5, "q2-0": 0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": LEVELS[:1]}, "levels are at least 2"),
        ({"levels": [Level("a", "", 1), Level("A", "", 0)]}, "names differ"),
        ({"levels": [Level("a", "", 1), Level("b", "", 1)]}, "labels differ"),
        ({"levels": [Level("a", "", 1), Level('"b"', "", 0)]}, "have no quotes"),
        ({"lengths": []}, "name at least one of each"),
        ({"tries": 0}, "at least 1, not 0"),
        ({"queries": 0}, "at least 1, not 3 and 0"),
        ({"sampling": Sampling()}, "3 tries at temperature 0 are all the same"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GradedPassages(Model(always), **settings)
