"""A model judges: an oracle agrees with people entirely, what is no grade is never one, a second run asks nothing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from retrieval.cli import run as command_line
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.model_judged import ModelJudged
from retrieval.ids import DocIds
from retrieval.judge import grade, judge
from retrieval.judgements import read_judgements
from retrieval.looks import look
from retrieval.run_file import write_run
from retrieval.sampling import Sampling
from retrieval.store import GenerationStore
from retrieval.types import Generation, Run
from tests.prf.writers.rules import Rule

DOCS = ("a", "b", "c", "d")
PEOPLE = {"p": {"a": 3, "b": 0, "c": 1}, "q": {"a": 2, "d": 0, "gone": 0}}


@pytest.fixture
def dataset(tmp_path):
    texts = [(doc, "", f"this is {doc} indeed") for doc in DOCS] + [("blank", "", " ")]
    write_collection(tmp_path / "c", texts, {"p": "the p", "q": "the q"}, {"test": PEOPLE})
    return Folder(str(tmp_path / "c"))


@pytest.fixture
def runs(tmp_path):
    """One that ranks a, b, c, d for both queries, and one that has it the other way round."""
    for name, order in (("down", [0, 1, 2, 3]), ("up", [3, 2, 1, 0])):
        rows = np.array([order] * 2, np.int32)
        scores = np.tile(np.arange(4, 0, -1, dtype=np.float32), (2, 1))
        write_run(Run.ordered(["p", "q"], DocIds.of(DOCS), rows, scores), tmp_path / f"{name}.trec")
    return {name: tmp_path / f"{name}.trec" for name in ("down", "up")}


def pair(request):
    """The query and the document that a request is about."""
    text = request.messages[-1]["content"]
    return re.search(r"query: the (\w)", text)[1], re.search(r"Passage: this is (\w)", text)[1]


def oracle(request):
    query, doc = pair(request)
    return str(PEOPLE[query].get(doc, 0))


def judged_file(out):
    return {(one.query, one.document): one for one in read_judgements(out / "judgements.jsonl").pairs}


def test_an_oracle_agrees_with_people_entirely(dataset, runs, tmp_path, capsys):
    found = judge(
        dataset, Rule(oracle), runs, pairs="judged", relevant=[1, 1], measures=["nDCG@10"], out=tmp_path / "o"
    )
    agreed = found["agreement"]
    assert agreed["pairs"] == 5 and agreed["judged by people only"] == 1  # gone is not in the corpus
    values = [agreed[what] for what in agreed if "kappa" in what or "alpha" in what]
    assert len(values) == 6 and values == [1.0] * 6
    assert found["Kendall's tau"] == {"nDCG@10": pytest.approx(1)}
    assert agreed["confusion (rows: people)"] == np.diag([2, 1, 1, 1]).tolist()
    out = capsys.readouterr().out
    assert (
        "c, test, judged by Rule" in out
        and "grades of 5 pairs: a row for each by people, a column for each by Rule" in out
    )
    assert "look 1 at this test set, 2 systems so far (looks by judge 1)" in out


def test_a_judge_who_says_the_contrary_turns_the_order_of_systems_around(dataset, runs):
    def contrary(request):
        return str(3 - int(oracle(request)))

    found = judge(dataset, Rule(contrary), runs, pairs="judged", measures=["nDCG@10"])
    people, model = found["people"], found["judged by Rule"]
    assert people["down"]["mean"]["nDCG@10"] > people["up"]["mean"]["nDCG@10"]
    assert model["down"]["mean"]["nDCG@10"] < model["up"]["mean"]["nDCG@10"]
    assert found["Kendall's tau"] == {"nDCG@10": pytest.approx(-1)} and found["agreement"]["quadratic kappa"] < 0
    assert model["down"]["judged by"] == "Rule" and "judged by" not in people["down"]


def test_the_top_of_every_run_is_judged_once_and_the_rest_is_not(dataset, runs, tmp_path):
    model = Rule(oracle)
    found = judge(dataset, model, runs, depth=1, out=tmp_path / "o")
    assert [pair(one) for one in model.requests] == [("p", "a"), ("p", "d"), ("q", "a"), ("q", "d")]
    assert {key: one.grade for key, one in judged_file(tmp_path / "o").items()} == {
        ("p", "a"): 3,
        ("p", "d"): 0,
        ("q", "a"): 2,
        ("q", "d"): 0,
    }
    assert found["agreement"]["pairs"] == 3 and found["agreement"]["judged by the model only"] == 1
    request = model.requests[0]
    assert request.sampling.temperature == 0 and request.sampling.max_tokens == 16


def test_what_is_no_grade_is_counted_and_never_one(dataset, runs, tmp_path, capsys):
    def rule(request):
        query, doc = pair(request)
        gone = Generation("", failure="the server is gone") if doc == "c" else oracle(request)
        return "3, or maybe 2" if (query, doc) == ("p", "a") else gone

    found = judge(dataset, Rule(rule), runs, pairs="judged", fallback="unjudged", out=tmp_path / "o")
    lines = judged_file(tmp_path / "o")
    assert lines["p", "a"].grade is None and lines["p", "a"].answer == "3, or maybe 2"
    assert lines["p", "c"].grade is None and lines["p", "c"].answer == ""
    assert found["counts"]["failed judgements"] == 2 and found["counts"]["judged pairs"] == 3
    assert found["agreement"]["pairs"] == 3 and "failed judgements: 2" in capsys.readouterr().out
    assert ModelJudged(dataset, tmp_path / "o" / "judgements.jsonl").open().qrels("test").to_dict() == {
        "p": {"b": 0},
        "q": {"a": 2, "d": 0},
    }


def test_without_a_fallback_an_answer_that_is_no_grade_stops_and_writes_nothing(dataset, tmp_path):
    with pytest.raises(
        ValueError, match="5 of 5 answers are no grade, such as 'relevant' for query 'p' and document 'a'"
    ):
        judge(dataset, Rule(lambda request: "relevant"), pairs="judged", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_what_is_no_grade_is_asked_again_as_another_sample_and_counted(dataset, tmp_path):
    model = Rule(lambda request: oracle(request) if request.sample == 2 or pair(request)[1] != "a" else "hm")
    found = judge(dataset, model, pairs="judged", sampling=Sampling(16, 0.5), retries=3, out=tmp_path / "o")
    lines = judged_file(tmp_path / "o")
    assert (lines["p", "a"].asked, lines["p", "a"].grade, lines["p", "b"].asked) == (3, 3, 1)
    assert found["counts"]["pairs asked again"] == 2 and found["counts"]["failed judgements"] == 0
    assert len(model.requests) == 5 + 2 + 2 and found["cost"]["failed generations"] == 4


def test_a_passage_without_text_is_not_asked_about_and_has_no_grade(tmp_path):
    write_collection(
        tmp_path / "b",
        [("a", "", "this is a"), ("blank", "", " ")],
        {"p": "the p"},
        {"test": {"p": {"a": 1, "blank": 0}}},
    )
    model = Rule(lambda request: "1")
    found = judge(Folder(str(tmp_path / "b")), model, pairs="judged", words=2, out=tmp_path / "o")
    assert (
        len(model.requests) == 1
        and found["counts"]["empty passages"] == 1
        and found["counts"]["truncated passages"] == 1
    )
    assert judged_file(tmp_path / "o")["p", "blank"].grade is None
    assert found["agreement"]["Cohen's kappa"] is None  # both said 1 and nothing else


def test_no_shared_pair_is_no_agreement_and_said_so(dataset, runs, capsys):
    rows = np.array([[3], [1]], np.int32)  # d for p and b for q: people judged neither
    write_run(Run.ordered(["p", "q"], DocIds.of(DOCS), rows, np.ones((2, 1), np.float32)), runs["up"])
    found = judge(dataset, Rule(lambda request: "1"), {"up": runs["up"]}, depth=1)
    assert found["agreement"] is None and found["Kendall's tau"] == {"nDCG@10": None, "R@100": None}
    assert "agreement: none to tell, as no pair was judged by people and by Rule" in capsys.readouterr().out


def test_judgements_name_the_model_and_what_determined_them(dataset, tmp_path):
    judge(dataset, Rule(oracle), pairs="judged", out=tmp_path / "o")
    first, *rest = (tmp_path / "o" / "judgements.jsonl").read_text().splitlines()
    head = json.loads(first)
    about = head["made of"]
    assert head["judge"] == "Rule" and about["prompt"] == "judged 1" and len(about["prompt sha256"]) == 64
    assert about["corpus"] == dataset.open().corpus.fingerprint and about["max_tokens"] == 16
    assert json.loads(rest[0]) == {"query": "p", "document": "a", "grade": 3, "answer": "3", "asked": 1}


def test_a_small_chat_model_judges_from_a_recipe_and_a_recording_stands_in_for_it(
    dataset, runs, tiny_chat, tmp_path, capsys
):
    (tmp_path / "x.yaml").write_text(
        f"dataset: {{type: folder, path: {tmp_path / 'c'}}}\nruns: {{down: {runs['down']}, up: {runs['up']}}}\n"
        f"generator: {{type: transformers, model: {tiny_chat}, dtype: float32}}\ndepth: 2\nfallback: unjudged\n"
        "sampling: {max_tokens: 4}\n"
    )
    first = command_line(judge, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'first'}"])
    assert first["counts"]["failed judgements"] + first["counts"]["judged pairs"] == 8 == first["cost"]["model calls"]
    again = command_line(judge, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'again'}"])
    assert again["cost"]["model calls"] == 0 and again["cost"]["cache hits"] == 8
    written = (tmp_path / "first" / "judgements.jsonl").read_bytes()
    assert (tmp_path / "again" / "judgements.jsonl").read_bytes() == written
    store = GenerationStore()
    assert store.export(tmp_path / "answers.jsonl") == 8
    store.close()
    replay = f"generator={{type: replay, file: {tmp_path / 'answers.jsonl'}}}"
    command_line(judge, [str(tmp_path / "x.yaml"), replay, f"out={tmp_path / 'replayed'}"])
    assert (tmp_path / "replayed" / "judgements.jsonl").read_bytes() == written
    assert "judged by chat" in capsys.readouterr().out  # the folder's name, not where it is
    assert look(dataset.open(), "test", "search", [])["by verb"]["judge"] == 3


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("2", 2),
        (" 3\n", 3),
        ("**1**", 1),
        ("Grade: 0", 0),
        ("final score: 2.", 2),
        ("-1", None),
        ("4", None),
        ("12", None),
        ("2.5", None),
        ("1-2", None),
        ("2 out of 3", None),
        ("2, since it names the answer", None),
        ("relevant", None),
        ("", None),
    ],
)
def test_a_grade_is_a_digit_from_0_to_3_and_nothing_more(answer, found):
    assert grade(answer) == found


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "runs: name at least one run to judge the best documents of, or give pairs: judged"),
        ({"pairs": "judged", "depth": 0}, "depth and words .or null. are at least 1, retries 0, not 0, 300 and 0"),
        ({"pairs": "judged", "words": 0}, "not 10, 0 and 0"),
        ({"pairs": "judged", "retries": 1}, "at temperature 0 the answer stays: give sampling.temperature too"),
        ({"pairs": "judged", "relevant": [1]}, "relevant is the lowest relevant grade of people and of the model, not"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(dataset, wrong, message):
    model = Rule(oracle)
    with pytest.raises(ValueError, match=message):
        judge(dataset, model, **wrong)
    assert not model.requests


def test_a_collection_that_a_model_judged_is_not_taken_for_people(dataset, tmp_path):
    judge(dataset, Rule(oracle), pairs="judged", out=tmp_path / "o")
    with pytest.raises(ValueError, match="split test was judged by Rule, which is kept apart"):
        judge(ModelJudged(dataset, tmp_path / "o" / "judgements.jsonl"), Rule(oracle), pairs="judged")
