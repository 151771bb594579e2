"""Preference training of a rewriter from end to end: what is mined by hand, what is learned, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from prf.append import Append
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.generators.transformers import Transformers
from retrieval.prefer import Pairing, prefer
from retrieval.retrievers.bm25 import BM25
from retrieval.sampling import Sampling
from retrieval.types import Generation
from training.preference import read_pairs
from training.rewriter import RewriterTrainer

DOCUMENTS = [("a", "", "otter animal"), ("b", "", "comet animal animal"), ("c", "", "violin animal animal animal")]
QUERIES = {name: f"animal {name}" for name in ("q1", "q2", "q3", "q4", "t1", "t2")}
# "animal" ranks c, b, a; "otter" finds a alone, "comet" b alone
TRAIN = {"q1": {"a": 1}, "q2": {"a": 1, "b": 0}, "q3": {"b": 1, "a": 0}, "q4": {"b": 0}}
CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = Pairing(samples=2, k=1, depth=10)


class Rules:
    """A rewriter that says "otter", then "comet", and of old "comet" only; with an adapter it is the model."""

    def __init__(self, model, adapter=None, revision=None, template_options=None):
        self.model, self.adapter, self.revision, self.template_options = (
            model,
            adapter,
            revision,
            template_options or {},
        )
        self.asked = 0

    def contract(self):
        return self.tuned.contract() if self.adapter else {"rules": 1}

    @property
    def tuned(self):
        return Transformers(self.model, self.adapter, dtype="float32")

    def generate(self, requests):
        if self.adapter:
            yield from self.tuned.generate(requests)
            return
        for place, one in enumerate(requests):
            self.asked += 1
            good = one.sampling.temperature > 0 and one.sample == 0
            yield place, Generation("otter" if good else "comet", 1, 1)


@pytest.fixture
def collection(tmp_path):
    test = {"t1": {"a": 1}, "t2": {"a": 1}}
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, {"train": TRAIN, "test": test})
    return Folder(str(tmp_path / "toy"))


def trained(collection, generator, out, **more):
    trainer = more.pop("trainer", RewriterTrainer(steps=2, batch_size=2, learning_rate=1e-3, rank=4))
    given = {"pairs": SMALL, "sampling": Sampling(8, 1.0), "measures": ["Sufficiency@1"], "retriever": BM25(), **more}
    return prefer(collection, generator=generator, trainer=trainer, out=out, **given)


def test_the_pairs_are_those_worked_by_hand(collection, tiny_chat, tmp_path):
    results = trained(collection, Rules(str(tiny_chat)), tmp_path / "out", fallback="keep")
    pairs = read_pairs(tmp_path / "out" / "round-1" / "pairs.jsonl")
    # a is the one needed: "otter" ranks it 1st, the query 3rd, "comet" not at all; for b it is "comet" 1st, "otter" not
    assert [(one.query_id, one.chosen, one.rejected) for one in pairs] == [
        ("q1", "otter", "comet"),
        ("q2", "otter", "comet"),
        ("q3", "comet", "otter"),
    ]
    assert "animal q1" in pairs[0].messages[-1]["content"]
    counts = results["rounds"][0]
    assert counts["queries without a needed document"] == 1 and counts["pairs"] == 3
    assert counts["training"]["pairs"] == 3 and counts["training"]["steps"] == 2
    assert results["query"]["mean"]["Sufficiency@1"] == results["untrained"]["mean"]["Sufficiency@1"] == 0


def test_a_rewriter_of_the_best_of_n_makes_a_held_out_query_find_its_document(collection, tiny_chat, tmp_path):
    trainer = RewriterTrainer("sft", steps=40, batch_size=2, learning_rate=2e-2, rank=4)
    train = {name: {"a": 1} for name in ("q1", "q2", "q3", "q4")}
    toy = tmp_path / "other"
    write_collection(toy, DOCUMENTS, QUERIES, {"train": train, "test": {"t1": {"a": 1}, "t2": {"a": 1}}})
    more = {"pairs": SMALL, "sampling": Sampling(8, 1.0), "measures": ["Sufficiency@1"], "fallback": "keep"}
    rules = Rules(str(tiny_chat))
    results = prefer(Folder(str(toy)), BM25(), rules, trainer, out=tmp_path / "out", **more)
    assert results["untrained"]["mean"]["Sufficiency@1"] == 0 and results["round 1"]["mean"]["Sufficiency@1"] == 1


def test_without_the_query_itself_two_texts_are_compared(collection, tiny_chat, tmp_path):
    only = Pairing(samples=1, k=1, depth=10)
    results = trained(collection, Rules(str(tiny_chat)), tmp_path / "a", pairs=only, fallback="keep")
    found = read_pairs(tmp_path / "a" / "round-1" / "pairs.jsonl")
    # "otter" against the query: for b the query ranks 2nd, "otter" does not find it
    assert [(one.chosen, one.rejected) for one in found] == [
        ("otter", "animal q1"),
        ("otter", "animal q2"),
        ("animal q3", "otter"),
    ]
    assert results["rounds"][0]["pairs that choose the query"] == 1
    with pytest.raises(ValueError, match=r"no pair to train on \(queries without a needed document 1, queries 3"):
        trained(collection, Rules(str(tiny_chat)), tmp_path / "b", pairs=Pairing(1, False, 1, depth=10))


class Watched:
    """A trainer that learns nothing; it keeps what it is given."""

    def __init__(self, objective="dpo"):
        self.objective, self.pairs = objective, []

    def train(self, generator, pairs, folder):
        self.pairs = [(one.query_id, one.chosen, one.rejected) for one in pairs]
        return {"pairs": len(pairs)}


class Says:
    """A rewriter that says always the same, with or without an adapter."""

    def __init__(self, text="otter", model="m", adapter=None, revision=None, template_options=None):
        self.text, self.model, self.adapter, self.revision = text, model, adapter, revision
        self.template_options = template_options or {}

    def contract(self):
        return {"says": self.text}

    def generate(self, requests):
        yield from ((place, Generation(self.text, 1, 1)) for place in range(len(requests)))


def test_queries_of_the_test_are_left_out_of_training_and_counted_beside_the_figures(tmp_path, capsys):
    queries = QUERIES | {"t1": "Animal: Q1!", "t2": "animal of the test"}
    train = {name: {"a": 1} for name in ("q1", "q2", "q3", "t2")}  # q1 says what t1 says, t2 is in both splits
    write_collection(tmp_path / "toy", DOCUMENTS, queries, {"train": train, "test": {"t1": {"a": 1}, "t2": {"b": 1}}})
    watched = Watched()
    results = trained(Folder(str(tmp_path / "toy")), Says(), tmp_path / "out", trainer=watched)
    assert [query for query, _, _ in watched.pairs] == ["q2", "q3"]
    assert results["test queries left out of training"] == 2 and results["rounds"][0]["queries"] == 2
    shared = results["contamination"]
    assert shared["test queries"] == 2 and shared["test queries trained on"] == 0
    assert shared["judged documents trained on"] == 1  # a, of t1
    shown = capsys.readouterr().out
    assert "left out of training: 2 queries of train that are test queries" in shown
    assert "shared by training and test: judged documents trained on 1" in shown


def test_sft_learns_the_best_text_of_every_query_also_where_all_are_as_good(collection, tmp_path):
    watched, alone = Watched("sft"), Pairing(1, original=False, k=1, depth=10)
    results = trained(collection, Says(), tmp_path / "out", trainer=watched, pairs=alone)
    assert watched.pairs == [("q1", "otter", None), ("q2", "otter", None), ("q3", "otter", None)]
    assert results["rounds"][0]["texts"] == 3 and results["rounds"][0]["queries without a text"] == 0
    with pytest.raises(ValueError, match=r"made of something else \(objective was sft, is dpo"):
        trained(collection, Says(), tmp_path / "out", trainer=Watched(), pairs=alone)


def test_the_query_itself_is_joined_to_its_query_like_any_text(collection, tmp_path):
    class Joined(Append):
        def _joined(self, query, texts):
            return "comet" if texts == [query] else super()._joined(query, texts)

    watched, one = Watched(), Pairing(1, k=1, depth=10)
    trained(collection, Says("violin"), tmp_path / "out", trainer=watched, pairs=one, join=Joined(repeat=0))
    # joined to itself a query says "comet", which finds b alone; plain, it would find a too, and "violin" does not
    assert watched.pairs == [("q3", "animal q3", "violin")]


@pytest.mark.parametrize("name", ["scifact-qwen", "scifact-qwen-best-of-n"])
def test_a_recipe_gets_past_the_queries_that_scifact_has_in_both_splits(data, tmp_path, name):
    recipe = yaml.safe_load((CONFIGS / "prefer" / f"{name}.yaml").read_text())
    watched, pairs = Watched(recipe["trainer"]["objective"]), Pairing(**recipe["pairs"] | {"samples": 1, "depth": 10})
    scifact = Folder(recipe["dataset"]["path"])
    results = trained(scifact, Says("cells"), tmp_path / "out", trainer=watched, pairs=pairs, measures=["nDCG@10"])
    assert results["test queries left out of training"] == 2 and results["rounds"][0]["queries"] == 807
    assert results["contamination"]["test queries trained on"] == 0


def test_a_join_puts_the_rewrite_to_its_query(collection, tiny_chat, tmp_path):
    trained(collection, Rules(str(tiny_chat)), tmp_path / "a", join=Append(), fallback="keep")
    found = read_pairs(tmp_path / "a" / "round-1" / "pairs.jsonl")
    # "animal q1 comet" has b first and a 3rd as the query has it: the query comes first among equals
    assert (found[0].chosen, found[0].rejected) == ("otter", "animal q1")


def test_a_killed_run_goes_on_and_ends_with_the_same_adapter(collection, tiny_chat, tmp_path, monkeypatch):
    import trl

    def killed(self):
        raise KeyboardInterrupt

    rules = Rules(str(tiny_chat))
    with monkeypatch.context() as patched:
        patched.setattr(trl.DPOTrainer, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(collection, rules, tmp_path / "a", fallback="keep")
    asked, first = rules.asked, tmp_path / "a" / "round-1"
    assert asked == 2 + 3 * 2 and sorted(path.name for path in first.iterdir()) == ["pairs.json", "pairs.jsonl"]
    results = trained(collection, rules, tmp_path / "a", fallback="keep")
    assert rules.asked == asked  # every answer was kept
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "fresh"))
    whole = trained(collection, Rules(str(tiny_chat)), tmp_path / "b", fallback="keep")
    assert results["rounds"] == whole["rounds"] and results["round 1"] == whole["round 1"]
    name = "round-1/adapter/adapter_model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_finished_rounds_are_kept_when_another_is_wanted(collection, tiny_chat, tmp_path):
    def tuned(**more):
        model = Transformers(str(tiny_chat), dtype="float32")
        trainer = RewriterTrainer(steps=2, batch_size=2, rank=4)
        given = {"pairs": Pairing(3, k=None, depth=10), "sampling": Sampling(8, 1.5), "fallback": "keep"}
        return prefer(collection, BM25(), model, trainer, out=tmp_path / "out", **given, **more)

    first = tuned()
    adapter = tmp_path / "out" / "round-1" / "adapter" / "adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    both = tuned(rounds=2)
    assert adapter.stat().st_mtime_ns == before and both["rounds"][0] == first["rounds"][0]
    about = [json.loads((tmp_path / "out" / f"round-{n}" / "pairs.json").read_text())["made of"] for n in (1, 2)]
    assert about[0]["generator"]["adapter"] is None and about[1]["generator"]["adapter"] is not None
    assert list(both)[:4] == ["query", "untrained", "round 1", "round 2"]


def test_pairs_of_another_model_are_refused(collection, tiny_chat, tmp_path, monkeypatch):
    trained(collection, Rules(str(tiny_chat)), tmp_path / "a", fallback="keep")
    monkeypatch.setattr(Rules, "contract", lambda self: {"rules": 2})
    with pytest.raises(ValueError, match=r"round-1 holds pairs made of something else \(generator was .*rules.: 1"):
        trained(collection, Rules(str(tiny_chat)), tmp_path / "a", fallback="keep")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"pairs": Pairing(2, k=2, depth=10)}, "pairing was"),
        ({"join": Append()}, "join was None"),
        ({"retriever": BM25(k1=0.5)}, "retriever was"),
        ({"split": "more"}, "split was train, is more; qrels was"),
    ],
)
def test_pairs_of_other_settings_are_refused_by_name(collection, tiny_chat, tmp_path, more, named):
    qrels = tmp_path / "toy" / "qrels"
    (qrels / "more.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    trained(collection, Rules(str(tiny_chat)), tmp_path / "a", fallback="keep")
    with pytest.raises(ValueError, match=rf"made of something else \({named}"):
        trained(collection, Rules(str(tiny_chat)), tmp_path / "a", fallback="keep", **more)


@pytest.mark.parametrize(
    ("changed", "old", "new", "named"),
    [("qrels/train.tsv", "q4\tb\t0", "q4\tb\t1", "qrels"), ("queries.jsonl", "animal q1", "animal quest", "queries")],
)
def test_pairs_of_other_data_are_refused_by_name(collection, tiny_chat, tmp_path, changed, old, new, named):
    trained(collection, Rules(str(tiny_chat)), tmp_path / "a", fallback="keep")
    path = tmp_path / "toy" / changed
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"made of something else \({named} was"):
        trained(Folder(str(tmp_path / "toy")), Rules(str(tiny_chat)), tmp_path / "a", fallback="keep")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"test": "train"}, "all 4 queries of split train are queries of train, such as 'q1': name two others"),
        ({"rounds": 0}, "at least 1 round, not 0"),
        ({"trainer": RewriterTrainer("sft"), "pairs": Pairing(margin=1)}, "sft learns the best of every query alone"),
        ({"sampling": Sampling(8)}, "2 samples at temperature 0 are all the same"),
        ({"split": "dev"}, "no split 'dev'"),
        ({"measures": ["Sufficient@1"]}, "unknown measure 'Sufficient@1'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(collection, tiny_chat, tmp_path, more, message):
    rules = Rules(str(tiny_chat))
    with pytest.raises(ValueError, match=message):
        trained(collection, rules, tmp_path / "out", **more)
    assert rules.asked == 0


def test_a_generator_that_cannot_be_trained_is_refused(collection, tmp_path):
    from retrieval.generators.replay import Replay

    with pytest.raises(ValueError, match="Replay cannot be trained .*: take transformers"):
        trained(collection, Replay("a.jsonl"), tmp_path / "out")


def test_the_recipe_of_the_best_of_n_compares_n_rewrites_alone():
    recipe = yaml.safe_load((CONFIGS / "prefer" / "scifact-qwen-best-of-n.yaml").read_text())
    assert recipe["trainer"]["objective"] == "sft" and Pairing(**recipe["pairs"]) == Pairing(4, original=False)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"depth": 0}, {"k": 0}, {"k": 11, "depth": 10}])
def test_a_pairing_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="samples and depth are at least 1 and k is between 1 and depth"):
        Pairing(**wrong)


def test_the_recipe_runs_from_the_command_line_and_tells_what_it_did(
    collection, tiny_chat, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(
        f"""\
dataset: {{type: folder, path: ./toy}}
retriever: bm25
generator: {{type: transformers, model: {tiny_chat}, dtype: float32}}
sampling: {{max_tokens: 8, temperature: 1.5}}
pairs: {{samples: 3, k: 1, depth: 10}}
trainer: {{steps: 2, batch_size: 2, rank: 4}}
fallback: keep
"""
    )
    results = run(prefer, ["recipe.yaml", "out=out"])
    shown = capsys.readouterr().out
    assert "Sufficiency@10" in shown and "round 1: queries without a needed document 1" in shown
    assert "adapter: out/round-1/adapter" in shown and results["rounds"][0]["queries"] == 3
