"""What the trainer may do besides: past passages, own lists, regularisers, parts of a batch, mining anew, processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import tiny_model, toy_groups

from retrieval.corpus import Corpus
from retrieval.types import Qrels, Queries
from training.collections import Groups
from training.losses.infonce import InfoNCE
from training.losses.kl import KL
from training.losses.margin_mse import MarginMSE
from training.losses.matryoshka import Matryoshka
from training.losses.wasserstein import Wasserstein
from training.past import Past
from training.ranking import Ranking
from training.sources.judged import lists_of
from training.trainer import Trainer


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return toy_groups(tmp_path_factory.mktemp("data") / "corpus")


def trainer(loss=None, **options) -> Trainer:
    plain = {"steps": 8, "batch_size": 5, "learning_rate": 1e-2, "eval_steps": 3}
    return Trainer(loss or InfoNCE(), **plain | options)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if "loss" in line]


class Spy:
    """InfoNCE that keeps what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, scores, labels, mask):
        self.seen.append((scores.detach().clone(), labels, mask))
        return InfoNCE()(scores, labels, mask)


class Stopped(Exception):
    """What stands for a kill."""


class Script:
    """An evaluation with figures given beforehand, which may be stopped at one of them."""

    def __init__(self, *figures):
        self.figures = list(figures)

    def __call__(self, model):
        figure = self.figures.pop(0)
        if figure is None:
            raise Stopped
        return {"nDCG@10": figure}


# ---- parts of a batch --------------------------------------------------------------------------------------------


def test_a_batch_in_chunks_trains_as_a_whole_one(groups, tmp_path):
    whole, parts = tiny_model(0.0).double(), tiny_model(0.0).double()
    trainer(accumulate=2).train(whole, groups, tmp_path / "whole")
    trainer(accumulate=2, chunk_tokens=7).train(parts, groups, tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-12)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=0, atol=1e-9)


def test_chunks_with_dropout_resume_bit_by_bit(groups, tmp_path):
    options = {"chunk_tokens": 7, "steps": 6}
    trainer(**options).train(tiny_model(), groups, tmp_path / "whole", Script(*[0.1] * 9), "nDCG@10")
    with pytest.raises(Stopped):
        trainer(**options).train(tiny_model(), groups, tmp_path / "cut", Script(0.1, 0.1, None), "nDCG@10")
    trainer(**options).train(tiny_model(), groups, tmp_path / "cut", Script(*[0.1] * 9), "nDCG@10")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_out_of_memory_says_what_to_set(groups, tmp_path):
    class Hungry:
        def __call__(self, scores, labels, mask):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with pytest.raises(ValueError, match=r"out of memory at step 1 \(a batch of 5, .*set trainer.chunk_tokens"):
        trainer(Hungry()).train(tiny_model(), groups, tmp_path)


# ---- scores ------------------------------------------------------------------------------------------------------


def test_each_query_may_be_scored_against_its_own_list_alone(groups, tmp_path):
    own, every = Spy(), Spy()
    trainer(own, in_batch=False, steps=1).train(tiny_model(0.0), groups, tmp_path / "own")
    trainer(every, steps=1).train(tiny_model(0.0), groups, tmp_path / "every")
    ((scores, labels, mask),) = own.seen
    assert scores.shape == labels.shape == mask.shape == (5, 2) and labels.tolist() == [[1, 0]] * 5 and mask.all()
    blocks = torch.stack([every.seen[0][0][i, 2 * i : 2 * i + 2] for i in range(5)])
    torch.testing.assert_close(scores, blocks)


def test_regularisers_are_added_and_rise_with_the_square_of_the_steps(groups, tmp_path):
    class Norm:
        def __call__(self, vectors):
            return 0 * vectors.sum() + len(vectors)

    plain = {"steps": 4, "learning_rate": 1e-9}
    trainer(**plain).train(tiny_model(0.0), groups, tmp_path / "plain")
    more = trainer(query_regularisers=[Norm()], doc_regularisers=[Norm()], regulariser_steps=3, **plain)
    more.train(tiny_model(0.0), groups, tmp_path / "more")
    added = np.array(losses(tmp_path / "more")) - losses(tmp_path / "plain")
    assert added == pytest.approx([15 / 9, 15 * 4 / 9, 15, 15], rel=1e-4)


# ---- past passages -----------------------------------------------------------------------------------------------


def test_past_passages_are_further_columns_with_label_0(groups, tmp_path):
    spy = Spy()
    trainer(spy, past=14, steps=3).train(tiny_model(0.0), groups, tmp_path)
    assert [scores.shape[1] for scores, _, _ in spy.seen] == [10, 20, 24]
    for _, labels, _ in spy.seen:
        assert not labels[:, 10:].any()


def test_a_past_passage_is_masked_where_it_is_known_or_in_the_batch_or_newer_in_the_queue():
    def group(rows, known):
        return {"rows": np.array(rows, np.int32), "known": np.array(known, np.int32)}

    past, mask, labels = Past(4), torch.ones(2, 2, dtype=torch.bool), torch.eye(2)
    first = torch.arange(4.0).reshape(2, 2).requires_grad_()
    docs, _, _ = past.joined(first, labels, mask, [group([7], [7]), group([8], [8])])
    assert docs is first
    past.joined(first + 10, labels, mask, [group([9], [9]), group([7], [7])])
    docs, more, allowed = past.joined(first + 20, labels, mask, [group([1], [1, 9]), group([8], [8])])
    assert docs.tolist() == [[20, 21], [22, 23], [0, 1], [2, 3], [10, 11], [12, 13]]
    assert more[:, 2:].eq(0).all()
    # the queue holds 7, 8, 9, 7: the older 7 is a repetition, 8 is in the batch, 9 is relevant to the first query
    assert allowed[:, 2:].tolist() == [[False, False, False, True], [False, False, True, True]]
    docs.sum().backward()
    assert first.grad.tolist() == [[1, 1], [1, 1]]
    assert past.state()["past.rows"].tolist() == [9, 7, 1, 8]


def test_a_stopped_run_with_past_passages_ends_with_the_same_losses(groups, tmp_path):
    options = {"past": 7, "steps": 6, "accumulate": 2}
    trainer(**options).train(tiny_model(), groups, tmp_path / "whole", Script(*[0.1] * 9), "nDCG@10")
    with pytest.raises(Stopped):
        trainer(**options).train(tiny_model(), groups, tmp_path / "cut", Script(0.1, 0.1, None), "nDCG@10")
    trainer(**options).train(tiny_model(), groups, tmp_path / "cut", Script(*[0.1] * 9), "nDCG@10")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


# ---- early stopping, mining anew ---------------------------------------------------------------------------------


def test_training_ends_after_so_many_evaluations_without_a_better_one(groups, tmp_path):
    figures = Script(0.1, 0.5, 0.4, 0.5, 0.9)
    result = trainer(steps=30, patience=2).train(tiny_model(), groups, tmp_path, figures, "nDCG@10")
    assert (result.best_step, result.steps, figures.figures) == (3, 9, [0.9])
    assert trainer(steps=30, patience=2).train(tiny_model(), groups, tmp_path, figures, "nDCG@10") == result


def test_a_run_killed_right_after_the_evaluation_that_ends_it_does_not_go_on(groups, tmp_path):
    def stopped(model, folder):
        raise Stopped

    figures = Script(0.5, 0.4, 0.9)
    with pytest.raises(Stopped):
        trainer(patience=1).train(tiny_model(), groups, tmp_path, figures, "nDCG@10", save=stopped)
    result = trainer(patience=1).train(tiny_model(), groups, tmp_path, figures, "nDCG@10")
    assert (result.best_step, result.steps, figures.figures) == (0, 3, [0.9])


@pytest.mark.parametrize("stopped", [9, 12])  # where checkpoint 6, at which negatives are mined, is the last, or 9 is
def test_negatives_are_mined_anew_and_a_resumed_run_takes_those_of_its_step(groups, tmp_path, stopped):
    asked = []

    def refresh(model, step):
        assert not model.training
        asked.append(step)
        return toy_groups(groups.lists.passages.folder, seed=step)

    options = {"refresh_steps": 6, "steps": 12, "eval_steps": 3}
    trainer(**options).train(tiny_model(), groups, tmp_path / "whole", Script(*[0.1] * 9), "nDCG@10", refresh)
    assert asked == [6]
    cut = Script(*[0.1] * (stopped // 3), None)
    with pytest.raises(Stopped):
        trainer(**options).train(tiny_model(), groups, tmp_path / "cut", cut, "nDCG@10", refresh)
    trainer(**options).train(tiny_model(), groups, tmp_path / "cut", Script(*[0.1] * 9), "nDCG@10", refresh)
    assert asked == [6, 6, 6]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_losses_and_evaluations_are_shown_in_tensorboard(groups, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(steps=4, log_to=["tensorboard"]).train(tiny_model(), groups, tmp_path, Script(0.1, 0.2, 0.3), "nDCG@10")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [one.value for one in events.Scalars("train/loss")]
    assert shown == pytest.approx(losses(tmp_path), rel=1e-5)
    named = next(tag for tag in events.Tags()["scalars"] if "nDCG@10" in tag)
    assert [one.value for one in events.Scalars(named)] == pytest.approx([0.1, 0.2, 0.3])


def test_what_is_logged_to_has_to_be_installed():
    with pytest.raises(ModuleNotFoundError, match="log_to wandb needs a package: pip install wandb"):
        trainer(log_to=["wandb"])


def test_what_is_mined_anew_after_a_kill_is_mined_with_the_weights_of_its_step(groups, tmp_path):
    seen = []

    def refresh(model, step):
        seen.append(sum(float(one.detach().abs().sum()) for one in model.parameters()))
        if len(seen) == 1:
            raise Stopped
        return toy_groups(groups.lists.passages.folder, seed=step)

    options = {"refresh_steps": 3, "steps": 5}
    for _ in range(2):
        try:
            trainer(**options).train(tiny_model(), groups, tmp_path, Script(*[0.1] * 9), "nDCG@10", refresh)
        except Stopped:
            continue
    assert seen[1] == seen[0] != sum(float(one.abs().sum()) for one in tiny_model().state_dict().values())


def test_passages_of_equal_text_are_one_in_masks(tmp_path):
    texts = ["tell d0", "tell d1", "tell d0", "tell d3"]
    corpus = Corpus.build(((f"d{n}", "", text) for n, text in enumerate(texts)), tmp_path / "corpus")
    queries = Queries(["q0", "q1"], ["ask q0", "ask q1"])
    qrels = Qrels.from_dict({"q0": {"d0": 1, "d1": 0}, "q1": {"d2": 1, "d3": 0}})
    task = Ranking(tiny_model(), Groups(lists_of(corpus, queries, qrels), 2), InfoNCE(), 2, 0)
    mask, names = task.collate(0, [0, 1])["mask"], task.collate(0, [0, 1])["names"]
    other = {"q0": [True, True, False, True], "q1": [False, True, True, True]}
    columns = {("q0", "q1"): [0, 1, 2, 3], ("q1", "q0"): [2, 3, 0, 1]}[tuple(names)]
    for place, name in enumerate(names):
        assert mask[place].tolist() == [other[name][column] for column in columns]


# ---- what cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"refresh_steps": 4}, "refresh_steps is 4; it must be a multiple of eval_steps, 3"),
        ({"patience": 0}, "patience is 0; it must be above 0"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0"),
        ({"warmup_ratio": 3.0}, "warmup_ratio is 3.0"),
        ({"regulariser_steps": -1}, "regulariser_steps -1"),
    ],
)
def test_settings_that_do_not_fit_are_errors(options, says):
    with pytest.raises(ValueError, match=says):
        trainer(**options)


def test_options_that_exclude_each_other_are_errors(groups, tmp_path):
    with pytest.raises(ValueError, match="past is 4, .* set in_batch to true"):
        trainer(past=4, in_batch=False).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match="patience is counted in evaluations"):
        trainer(patience=2).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match="refresh_steps and what mines anew go together"):
        trainer(refresh_steps=3).train(tiny_model(), groups, tmp_path)
    with pytest.raises(ValueError, match="needs a loss"):
        Trainer().train(tiny_model(), groups, tmp_path)


def test_a_loss_of_own_lists_refuses_those_of_the_batch(groups, tmp_path):
    with pytest.raises(ValueError, match="MarginMSE compares a query's own passages: set in_batch to false"):
        trainer(MarginMSE()).train(tiny_model(), groups, tmp_path / "batch")
    trainer(MarginMSE(), in_batch=False, steps=2).train(tiny_model(), groups, tmp_path / "own")
    assert len(losses(tmp_path / "own")) == 2


def test_losses_refuse_scores_and_labels_that_they_would_misread(groups, tmp_path):
    def refused(loss, says, data=groups, **options):
        with pytest.raises(ValueError, match=says):
            trainer(loss, **options).train(tiny_model(), data, tmp_path)

    scored = Groups(replace(groups.lists, targets=np.ones(len(groups.lists.rows), np.float32)), 2)
    refused(InfoNCE(), "InfoNCE takes labels for grades, and data has a teacher's scores", scored, in_batch=False)
    refused(KL(), "passages of other queries have no teacher's score: set in_batch to false", scored)
    refused(InfoNCE(symmetric=True), "InfoNCE compares the passages of a batch", in_batch=False)
    refused(Wasserstein(), "Wasserstein compares the passages of a batch", in_batch=False)
    with pytest.raises(ValueError, match="matryoshka compares the passages of a batch, and MarginMSE"):
        Matryoshka(MarginMSE(), [16])
    trainer(KL(), in_batch=False, steps=1).train(tiny_model(), scored, tmp_path / "scored")


def test_each_run_has_a_tensorboard_of_its_own(groups, tmp_path):
    for name in ("one", "two"):
        trainer(steps=1, log_to=["tensorboard"]).train(tiny_model(), groups, tmp_path / name)
        assert list((tmp_path / name / "tensorboard").iterdir())


def test_a_run_begun_with_another_dev_set_is_refused(groups, tmp_path):
    trainer(steps=1).train(tiny_model(), groups, tmp_path, about={"dev": 1})
    with pytest.raises(ValueError, match='"dev": 1; now "dev": 2'):
        trainer(steps=1).train(tiny_model(), groups, tmp_path, about={"dev": 2})


def test_a_model_with_a_single_number_can_be_trained(groups, tmp_path):
    model = tiny_model()
    model.scale = torch.nn.Parameter(torch.tensor(1.0))
    trainer(steps=1).train(model, groups, tmp_path)


def test_representations_are_cut_as_drawn_for_the_step(groups, tmp_path):
    loss = Matryoshka(InfoNCE(), [16, 8, 4], sampled=1)
    trainer(loss, steps=6).train(tiny_model(), groups, tmp_path / "whole", Script(*[0.1] * 9), "nDCG@10")
    with pytest.raises(Stopped):
        trainer(loss, steps=6).train(tiny_model(), groups, tmp_path / "cut", Script(0.1, 0.1, None), "nDCG@10")
    trainer(loss, steps=6).train(tiny_model(), groups, tmp_path / "cut", Script(*[0.1] * 9), "nDCG@10")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_what_reads_pairs_takes_no_batch_negatives(groups):
    class Pairs(torch.nn.Module):
        def tokenize_pairs(self, queries, docs):
            return {}

    with pytest.raises(ValueError, match="Pairs reads a query and a passage together: set in_batch to false"):
        Ranking(Pairs(), groups, InfoNCE(), 5, 0)


def test_a_run_of_another_model_is_refused(groups, tmp_path):
    trainer(steps=1).train(tiny_model(), groups, tmp_path)
    other = tiny_model()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(ValueError, match='holds a run with other settings .*"model": '):
        trainer(steps=1).train(other, groups, tmp_path)


# ---- several processes -------------------------------------------------------------------------------------------


def run_alone(data: str, out: str, chunk_tokens: str, past: str) -> None:
    """What each process of the next test runs, in float64 and without dropout."""
    made = trainer(steps=20, batch_size=6, eval_steps=10, chunk_tokens=int(chunk_tokens) or None, past=int(past))
    made.train(tiny_model(dropout=0).double(), toy_groups(Path(data)), Path(out))


@pytest.mark.parametrize(("chunk_tokens", "past"), [(0, 0), (7, 9)])
def test_two_processes_train_as_one(groups, tmp_path, chunk_tokens, past):
    here, script = str(Path(__file__).parent), tmp_path / "run.py"
    code = f"import sys; sys.path.insert(0, {here!r}); import test_trainer_options as t; t.run_alone(*sys.argv[1:])"
    script.write_text(code)
    data, two = str(groups.lists.passages.folder), str(tmp_path / "two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    env = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launch, str(script), data, two, str(chunk_tokens), str(past)]
    done = subprocess.run(command, env=os.environ | env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    run_alone(data, str(tmp_path / "one"), str(chunk_tokens), str(past))
    one, other = lines(tmp_path / "one"), lines(tmp_path / "two")
    for what in ("loss", "gradient_norm"):
        assert [line[what] for line in other] == pytest.approx([line[what] for line in one], abs=1e-9)
    alone, shared = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=0, atol=1e-9)
