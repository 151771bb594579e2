"""The training loop on a toy collection: each word of the queries means one word of the documents."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import TOPICS, tiny_model, toy_groups

from retrieval.bi_encoder import BiEncoder, Settings
from training.losses.infonce import InfoNCE
from training.losses.wasserstein import Wasserstein
from training.trainer import Trainer


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the quickest for a model this small, and the same bits in every test
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return toy_groups(tmp_path_factory.mktemp("data") / "corpus")


def trainer(loss=None, **options) -> Trainer:
    plain = {"steps": 8, "batch_size": 5, "learning_rate": 1e-2, "eval_steps": 3}
    return Trainer(loss or InfoNCE(), **plain | options)


def found(model: BiEncoder) -> dict[str, float]:
    """The share of queries whose own document comes first."""
    with torch.no_grad():
        queries = model(model.tokenize_queries([f"ask q{n}" for n in range(TOPICS)]))
        docs = model(model.tokenize_docs([f"tell d{n} more" for n in range(TOPICS)]))
    assert not model.training
    return {"P@1": float(((queries @ docs.T).argmax(1) == torch.arange(TOPICS)).float().mean())}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def weights(model: BiEncoder) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_weights(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


class Scripted:
    """An evaluation with figures given beforehand, which keeps the weights it saw."""

    def __init__(self, *figures: float):
        self.figures, self.seen = list(figures), []

    def __call__(self, model: BiEncoder) -> dict[str, float]:
        self.seen.append(weights(model))
        torch.rand(7)  # must not reach the training
        return {"nDCG@10": self.figures.pop(0)}


class Stopped(Exception):
    """What stands for a kill."""


class StopsAt:
    """InfoNCE that is stopped when it is called for the nth time (0: never)."""

    def __init__(self, temperature: float = 1.0):
        self.temperature, self.left = temperature, 0

    def __call__(self, scores, labels, mask):
        self.left -= 1
        if self.left == 0:
            raise Stopped
        return InfoNCE(self.temperature)(scores, labels, mask)


# ---- training ----------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_saves_what_it_learnt(groups, tmp_path):
    model = tiny_model()
    result = trainer(steps=60, batch_size=13, eval_steps=20).train(model, groups, tmp_path, found, "P@1")
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert len(losses) == 60 and np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert result.metrics["P@1"] > 0.9 > 0.2 > lines(tmp_path)[0]["evaluation"]["P@1"]
    assert found(model) == result.metrics
    loaded = BiEncoder.load(result.model, Settings())
    assert_equal_weights(weights(loaded), weights(model))
    assert result.model == tmp_path / "model" and result.steps == 60


def test_each_step_and_evaluation_has_a_line(groups, tmp_path):
    trainer(warmup_ratio=0.25).train(tiny_model(), groups, tmp_path, found, "P@1")
    assert [(line["step"], "evaluation" in line) for line in lines(tmp_path)] == [
        (0, True),
        *((1, False), (2, False), (3, False), (3, True)),
        *((4, False), (5, False), (6, False), (6, True)),
        *((7, False), (8, False), (8, True)),
    ]
    rates = [line["learning_rate"] for line in lines(tmp_path) if "loss" in line]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.01 * 5 / 6, 0.01 * 4 / 6, 0.005, 0.01 * 2 / 6, 0.01 / 6])


def test_steps_follow_from_epochs(groups, tmp_path):
    result = trainer(steps=None, epochs=2, accumulate=2).train(tiny_model(), groups, tmp_path)
    assert result.steps == 5  # 2 epochs of 5 full batches, two a step


def test_the_loss_sees_every_query_against_every_passage(groups, tmp_path):
    seen = []

    class Spy:
        def __call__(self, scores, labels, mask):
            seen.append((scores.dtype, scores.shape, labels, mask))
            return InfoNCE()(scores, labels, mask)

    trainer(Spy(), steps=1).train(tiny_model(), groups, tmp_path)
    ((dtype, shape, labels, mask),) = seen
    assert dtype == torch.float32 and shape == labels.shape == mask.shape == (5, 10)
    assert torch.equal(labels, torch.block_diag(*[torch.tensor([[1.0, 0.0]])] * 5))
    assert mask.dtype == torch.bool


def test_training_in_bfloat16_keeps_float32_weights_and_scores(groups, tmp_path):
    model = tiny_model()
    before = weights(model)
    result = trainer(Wasserstein(), precision="bfloat16", steps=3).train(model, groups, tmp_path)
    assert all(value.dtype == torch.float32 for value in model.state_dict().values() if value.is_floating_point())
    assert any(not torch.equal(before[name], value) for name, value in weights(model).items())
    assert result.metrics == {} and result.best_step == 3


def test_accumulated_batches_each_have_their_loss(groups, tmp_path):
    halves = []

    class Spy:
        def __call__(self, scores, labels, mask):
            loss = InfoNCE()(scores, labels, mask)
            halves.append(float(loss.detach()))
            return loss

    trainer(Spy(), steps=2, accumulate=2).train(tiny_model(), groups, tmp_path)
    logged = [line["loss"] for line in lines(tmp_path)]
    assert logged == pytest.approx([sum(halves[:2]) / 2, sum(halves[2:]) / 2])


# ---- the best checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "best"), [((0.1, 0.9, 0.5, 0.9), 1), ((0.1, 0.2, 0.3, 0.4), 3), ((0.8, 0.1, 0.2, 0.3), 0)]
)
def test_the_best_checkpoint_is_chosen_by_the_metric(groups, tmp_path, figures, best):
    model, dev = tiny_model(), Scripted(*figures)
    result = trainer().train(model, groups, tmp_path, dev, "nDCG@10")
    assert result.best_step == [0, 3, 6, 8][best] and result.metrics == {"nDCG@10": figures[best]}
    assert_equal_weights(weights(model), dev.seen[best])
    assert_equal_weights(load_file(tmp_path / "model" / "model.safetensors"), weights(model.transformer))


def test_without_a_metric_the_last_weights_are_kept(groups, tmp_path):
    model, dev = tiny_model(), Scripted(0.9, 0.1, 0.1, 0.2)
    result = trainer().train(model, groups, tmp_path, dev)
    assert result.best_step == 8 and result.metrics == {"nDCG@10": 0.2}
    assert_equal_weights(weights(model), dev.seen[-1])


def test_evaluating_does_not_change_the_training(groups, tmp_path):
    one, two = tiny_model(), tiny_model()
    trainer().train(one, groups, tmp_path / "one")
    trainer().train(two, groups, tmp_path / "two", Scripted(0.1, 0.2, 0.3, 0.4), "nDCG@10")
    assert_equal_weights(weights(one), weights(two))


@pytest.mark.parametrize("figures", [{"MRR": 0.5}, {"nDCG@10": float("nan")}])
def test_an_evaluation_without_the_metric_stops_at_once(groups, tmp_path, figures):
    with pytest.raises(ValueError, match="the best 'nDCG@10' is wanted, and the evaluation gave"):
        trainer().train(tiny_model(), groups, tmp_path, lambda model: figures, "nDCG@10")
    with pytest.raises(ValueError, match="no evaluation that measures it"):
        trainer().train(tiny_model(), groups, tmp_path, metric="nDCG@10")


def test_only_weights_in_safetensors_and_text_are_left(groups, tmp_path):
    trainer().train(tiny_model(), groups, tmp_path, Scripted(0.1, 0.9, 0.5, 0.4), "nDCG@10")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    outside = {name for name in left if not name.startswith("model/")}
    assert outside == {"training.json", "training.jsonl", "checkpoints/checkpoint-3/model.safetensors"}
    assert all(name.endswith((".json", ".safetensors", ".jsonl")) for name in left)


# ---- stopping and continuing -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(groups, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model = tiny_model()
    trainer(StopsAt(), steps=12, accumulate=2).train(model, groups, folder, found, "P@1")
    return weights(model), (folder / "training.jsonl").read_text()


@pytest.mark.parametrize("calls", [1, 5, 7, 8, 15, 23])  # of the loss, two a step; checkpoints at 0, 3, 6, 9, 12
def test_a_stopped_run_ends_with_the_same_bytes(groups, tmp_path, uninterrupted, calls):
    loss = StopsAt()
    loss.left = calls
    with pytest.raises(Stopped):
        trainer(loss, steps=12, accumulate=2).train(tiny_model(), groups, tmp_path, found, "P@1")
    model, torn = tiny_model(), tmp_path / "training.jsonl"
    torn.write_text(torn.read_text() + '{"step": 99, "lo')
    (tmp_path / "checkpoints" / "partial" / "checkpoint-12").mkdir(parents=True, exist_ok=True)
    trainer(StopsAt(), steps=12, accumulate=2).train(model, groups, tmp_path, found, "P@1")
    assert_equal_weights(weights(model), uninterrupted[0])
    assert torn.read_text() == uninterrupted[1]


@pytest.mark.parametrize("evaluations", [1, 2, 4, 5])
def test_a_run_stopped_while_evaluating_ends_with_the_same_bytes(groups, tmp_path, uninterrupted, evaluations):
    count = iter(range(1, 99))

    def stops(model):
        if next(count) == evaluations:
            raise Stopped
        return found(model)

    with pytest.raises(Stopped):
        trainer(StopsAt(), steps=12, accumulate=2).train(tiny_model(), groups, tmp_path, stops, "P@1")
    model = tiny_model()
    trainer(StopsAt(), steps=12, accumulate=2).train(model, groups, tmp_path, found, "P@1")
    assert_equal_weights(weights(model), uninterrupted[0])
    assert (tmp_path / "training.jsonl").read_text() == uninterrupted[1]


def test_a_run_stopped_while_saving_the_model_only_saves_it(groups, tmp_path, uninterrupted, monkeypatch):
    def stopped(self, folder):
        Path(folder).mkdir(parents=True)
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(BiEncoder, "save", stopped)
        trainer(StopsAt(), steps=12, accumulate=2).train(tiny_model(), groups, tmp_path, found, "P@1")
    assert not (tmp_path / "model").exists()
    model, loss = tiny_model(), StopsAt()
    trainer(loss, steps=12, accumulate=2).train(model, groups, tmp_path, found, "P@1")
    assert loss.left == 0
    assert_equal_weights(weights(model), uninterrupted[0])
    assert (tmp_path / "training.jsonl").read_text() == uninterrupted[1]


def test_a_finished_run_is_not_run_again(groups, tmp_path):
    first, dev = tiny_model(), Scripted(0.1, 0.9, 0.5, 0.4)
    result = trainer().train(first, groups, tmp_path, dev, "nDCG@10")
    again = tiny_model()
    assert trainer().train(again, groups, tmp_path, dev, "nDCG@10") == result
    assert_equal_weights(weights(again), weights(first))


def test_a_folder_begun_with_other_settings_is_refused(groups, tmp_path):
    trainer(steps=1).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match='"steps": 1; now "steps": 2.*use another folder'):
        trainer(steps=2).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match='"temperature": 1.0; now "temperature": 0.5'):
        trainer(InfoNCE(0.5), steps=1).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match='"size": 2, "seed": 0; now "size": 1, "seed": 1'):
        other = toy_groups(groups.lists.passages.folder, seed=1, size=1)
        trainer(steps=1).train(tiny_model(), other, tmp_path)


# ---- what cannot go on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_a_number_that_is_not_finite_stops_with_the_queries_of_the_batch(groups, tmp_path, what):
    seen = []

    class Breaks:
        def __call__(self, scores, labels, mask):
            seen.append(labels)
            if len(seen) < 3:
                return InfoNCE()(scores, labels, mask)
            return scores.sum() * torch.nan if what == "loss" else (scores.sum() * 0).sqrt()

    with pytest.raises(FloatingPointError, match=f"the {what} is nan at step 3.* of the queries (q\\d+, ){{4}}q\\d+$"):
        trainer(Breaks()).train(tiny_model(), groups, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_a_gradient_that_is_not_finite_names_the_queries_of_all_accumulated_batches(groups, tmp_path):
    seen = []

    def breaks_first(scores, labels, mask):
        seen.append(labels)
        return (scores.sum() * 0).sqrt() if len(seen) == 1 else InfoNCE()(scores, labels, mask)

    of_two = "gradient norm is nan at step 1, in a batch of the queries (q\\d+, ){9}q\\d+$"
    with pytest.raises(FloatingPointError, match=of_two):
        trainer(breaks_first, accumulate=2).train(tiny_model(), groups, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be above 0"),
        ({"steps": 0}, "steps is 0"),
        ({"precision": "float16"}, "choose from auto, float32, bfloat16"),
    ],
)
def test_settings_that_cannot_be_are_errors(wrong, says):
    with pytest.raises(ValueError, match=says):
        trainer(**wrong)


def test_a_batch_larger_than_the_groups_is_an_error(groups, tmp_path):
    with pytest.raises(ValueError, match="26 training groups do not make a batch of 27: lower batch_size"):
        trainer(batch_size=27).train(tiny_model(), groups, tmp_path)
