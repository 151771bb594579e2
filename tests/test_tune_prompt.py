"""The recipe of a soft prompt, and the queries that are then written with it."""

from __future__ import annotations

import pytest

from retrieval.collection import Collection, write_collection
from retrieval.datasets.folder import Folder
from retrieval.generators.transformers import Transformers
from retrieval.sampling import Sampling
from retrieval.tune_prompt import tune_prompt
from training.filters import Keep
from training.query_prompt import QueryPrompt, read_pairs
from training.softprompt import Frozen, SoftPrompt, Steps
from training.synthesis.weak_queries import WeakQueries

DOCUMENTS = [(f"d{n}", "", f"The old comet number {n} was seen above Mars") for n in range(12)]


@pytest.fixture
def dataset(tmp_path):
    queries = {f"q{n}": f"comet {n}" for n in range(10)}
    judged = {f"q{n}": {f"d{n}": 1, "d11": 0} for n in range(10)}
    splits = {"train": dict(list(judged.items())[:7]), "dev": dict(list(judged.items())[5:])}
    write_collection(tmp_path / "c", DOCUMENTS, queries, splits)
    return Folder(str(tmp_path / "c"))


def soft_prompt(model):
    return SoftPrompt(str(model), 4, steps=Steps(epochs=1, batch_size=2), dtype="float32", device="cpu")


def test_the_examples_are_the_group_with_the_lowest_loss_and_leave_the_training_pairs(
    dataset, tiny_chat, tmp_path, capsys
):
    found = tune_prompt(
        dataset, soft_prompt(tiny_chat), queries=4, evaluation_queries=2, groups=3, out=tmp_path / "out"
    )
    assert found["pairs"] == 4 and found["evaluation pairs"] == 2 and len(found["losses of groups"]) == 3
    # the evaluation loss at the start is that of the chosen group: the lowest of all
    assert found["loss at the start"] == min(found["losses of groups"])
    assert len(read_pairs(tmp_path / "out" / "examples.jsonl")) == 1 and "soft prompt: " in capsys.readouterr().out


def test_queries_of_an_evaluation_split_are_never_those_that_train(dataset, tiny_chat, tmp_path):
    items = {}

    class Watched(SoftPrompt):
        def tune(self, train, evaluation, folder):
            items.update(train={query for _, query in train}, evaluation={query for _, query in evaluation})
            return super().tune(train, evaluation, folder)

    soft = Watched(str(tiny_chat), 4, steps=Steps(epochs=1, batch_size=4), dtype="float32", device="cpu")
    tune_prompt(dataset, soft, evaluation="dev", queries=7, shown="random", examples=2, out=tmp_path / "out")
    assert items == {"train": {f"comet {n}" for n in range(7)}, "evaluation": {f"comet {n}" for n in (7, 8, 9)}}
    assert len(read_pairs(tmp_path / "out" / "examples.jsonl")) == 7


def test_what_tuning_and_evaluation_share_is_counted_beside_the_losses(tiny_chat, tmp_path, capsys):
    queries = {f"q{n}": text for n, text in enumerate(["a comet", "an otter", "A comet?", "the far volcano"])}
    splits = {"train": {"q0": {"d0": 1}, "q1": {"d1": 1}}, "dev": {"q2": {"d0": 1, "d2": 1}, "q3": {"d3": 1}}}
    documents = [(f"d{n}", "", text) for n, text in enumerate(["Ice in orbit", "A river animal", "Dust", "Lava flows"])]
    write_collection(tmp_path / "shared", documents, queries, splits)
    found = tune_prompt(
        Folder(str(tmp_path / "shared")), soft_prompt(tiny_chat), evaluation="dev", queries=2, out=tmp_path / "out"
    )
    assert found["contamination"] == {
        "evaluation queries": 2,
        "evaluation queries trained on": 1,
        "evaluation queries close to one trained on": 0,
        "documents": 3,
        "documents trained on": 1,
        "documents close to one trained on": 0,
    }
    shown = capsys.readouterr().out
    assert "shared by tuning and evaluation: evaluation queries trained on 1, documents trained on 1" in shown


def test_the_model_writes_queries_with_the_prompt(dataset, tiny_chat, tmp_path):
    tune_prompt(dataset, soft_prompt(tiny_chat), queries=4, evaluation_queries=2, out=tmp_path / "out")
    adapter = str(tmp_path / "out" / "prompt")
    generator = Transformers(str(tiny_chat), adapter=adapter, dtype="float32", device="cpu")
    prompt = QueryPrompt(examples=tmp_path / "out" / "examples.jsonl")
    weak = WeakQueries(generator, prompt, sampling=Sampling(6), keep=Keep(min_words=0))
    counts = weak.synthesize(dataset.open(), tmp_path / "weak")
    assert counts["documents"] == 1 and counts["judged documents left out"] == 11  # d10 alone is not judged
    assert list(Collection(tmp_path / "weak").qrels("train").to_dict().values()) == [{"d10": 1}]


def test_a_folder_of_another_tuning_keeps_its_examples(dataset, tiny_chat, tmp_path):
    out = tmp_path / "out"
    tune_prompt(dataset, soft_prompt(tiny_chat), queries=4, evaluation_queries=2, out=out)
    before = (out / "examples.jsonl").read_bytes()
    with pytest.raises(ValueError, match="of another tuning"):
        tune_prompt(dataset, soft_prompt(tiny_chat), queries=4, evaluation_queries=2, shown="random", out=out)
    assert (out / "examples.jsonl").read_bytes() == before


def test_started_again_it_tries_only_the_groups_that_it_has_not_tried(dataset, tiny_chat, tmp_path, monkeypatch):
    mean, asked, out = Frozen.mean, [], tmp_path / "out"

    def counted(self, items, *rest):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(items)
        return mean(self, items, *rest)

    monkeypatch.setattr(Frozen, "mean", counted)
    more = {"queries": 4, "evaluation_queries": 2, "groups": 3, "out": out}
    with pytest.raises(KeyboardInterrupt):
        tune_prompt(dataset, soft_prompt(tiny_chat), **more)
    again = []
    monkeypatch.setattr(Frozen, "mean", lambda self, items, *rest: again.append(items) or mean(self, items, *rest))
    found = tune_prompt(dataset, soft_prompt(tiny_chat), **more)
    assert len(again) == 3  # the last group, the start and one epoch
    tune_prompt(dataset, soft_prompt(tiny_chat), **more)
    assert len(again) == 3 and len(found["losses of groups"]) == 3


def test_what_leaves_nothing_to_train_or_evaluate_on_is_refused(dataset, tiny_chat, tmp_path):
    soft, out = soft_prompt(tiny_chat), tmp_path / "out"
    with pytest.raises(ValueError, match="7 queries of train leave none to evaluate on"):
        tune_prompt(dataset, soft, queries=7, out=out)
    with pytest.raises(ValueError, match="4 training pairs leave none beside 4 examples"):
        tune_prompt(dataset, soft, queries=4, examples=4, out=out)
    with pytest.raises(ValueError, match="give out"):
        tune_prompt(dataset, soft)
