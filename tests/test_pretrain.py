"""Pre-training on documents: what it leaves behind, and what a killed run does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.encoders.transformer import Transformer
from retrieval.pretrain import pretrain
from tests.conftest import TEXTS
from training.objectives.retromae import RetroMAE
from training.reconstruction import Reconstruction


@pytest.fixture
def recipe(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents = [(f"d{number}", "", text) for number, text in enumerate(TEXTS[:300])]
    write_collection(tmp_path / "toy", documents, {"q": "x"}, {"test": {"q": {"d0": 1}}})
    (tmp_path / "recipe.yaml").write_text(f"""\
dataset: {{type: folder, path: toy}}
encoder: {{type: transformer, model: {tiny_model}, pooling: cls, dtype: float32, device: cpu}}
objective: retromae
trainer: {{steps: 6, batch_size: 16, learning_rate: 3e-3, eval_steps: 2}}
held_out: 40
""")
    return "recipe.yaml"


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_the_loss_of_held_out_documents_falls_and_the_model_has_no_head(recipe, tiny_model, tmp_path, capsys):
    found = run(pretrain, [recipe, "out=made", "trainer.steps=30", "trainer.eval_steps=30"])
    assert found["documents"] == 260 and found["steps"] == 30
    assert found["held-out loss"] < 0.9 * found["held-out loss before"]
    assert f"held-out loss: {found['held-out loss']:.4f}" in capsys.readouterr().out
    before = Transformer(str(tiny_model), pooling="cls", dtype="float32", device="cpu").trainable()
    after = Transformer(str(tmp_path / "made" / "model"), dtype="float32", device="cpu").trainable()
    assert after.state_dict().keys() == before.state_dict().keys() and after.settings.pooling == "cls"
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    moved = [not np.allclose(a.detach(), b.detach()) for a, b in pairs]
    assert sum(moved) >= len(moved) - 2  # all but BERT's pooler, which no vector passes


@pytest.mark.parametrize("objective", ["retromae", "condenser"])
def test_a_killed_run_ends_with_the_same_weights(recipe, objective, tmp_path, monkeypatch):
    run(pretrain, [recipe, f"objective={objective}", "out=whole"])
    step = Reconstruction.step
    with monkeypatch.context() as patched:
        calls = []

        def killed(self, passes, inputs):
            calls.append(1)
            if len(calls) == 4:
                raise ValueError("killed")
            return step(self, passes, inputs)

        patched.setattr(Reconstruction, "step", killed)
        with pytest.raises(SystemExit):
            run(pretrain, [recipe, f"objective={objective}", "out=parts"])
    run(pretrain, [recipe, f"objective={objective}", "out=parts"])
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    lines = [(tmp_path / name / "training.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1] and len(lines[0].splitlines()) == 6 + 4


def test_a_run_with_another_objective_is_refused(recipe, tiny_model, tmp_path):
    from retrieval.datasets.folder import Folder
    from training.trainer import Trainer

    encoder = Transformer(str(tiny_model), pooling="cls", dtype="float32", device="cpu")
    trainer = Trainer(steps=1, batch_size=8)
    pretrain(Folder("toy"), encoder, RetroMAE(), trainer, out=tmp_path / "made")
    told = json.loads((tmp_path / "made" / "training.json").read_text())
    assert told["objective"]["decoder_mask"] == 0.5
    with pytest.raises(ValueError, match="holds a run with other settings"):
        pretrain(Folder("toy"), encoder, RetroMAE(decoder_mask=0.6), trainer, out=tmp_path / "made")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.loss=infonce", "trainer.loss is of training to rank"),
        ("trainer.chunk_tokens=100", "trainer.chunk_tokens is of training to rank"),
        ("held_out=0", "held_out is 0, of 300 documents: give at least 1"),
        ("held_out=290", "10 passages do not make a batch of 16"),
        ("encoder={type: static, model: x}", "no Encoder 'static'"),
    ],
)
def test_what_cannot_be_pretrained_is_told(recipe, override, message, capsys):
    with pytest.raises(SystemExit):
        run(pretrain, [recipe, "out=made", override])
    assert message in capsys.readouterr().err
