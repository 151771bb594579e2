"""FSDP 2 in two processes against one process without it: real shards, on processors and over gloo."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_trainer import Stopped, StopsAt, assert_equal_weights, found, lines, trainer, weights
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from toy import TOPICS, toy_groups
from toy import tiny_model as toy_model
from transformers.models.bert.modeling_bert import BertLayer

from retrieval.corpus import Corpus
from retrieval.encoders.splade import Splade
from retrieval.encoders.transformer import Transformer
from training import ranking
from training.batches import Batches
from training.collections import Groups
from training.loop import Loop
from training.sharded import prepare_launch, sharding
from training.tunings.full import Full
from training.tunings.lora import LoRA
from training.tunings.query_side import QuerySide

FSDP = {  # what `accelerate launch` sets for a config with fsdp_version: 2, the rest as by default
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
CHUNKS = [0, 7, 50]  # in pieces above and below what passes the model at once
KINDS: dict[str, Any] = {
    "splade": Full(),
    "query_side": QuerySide(),
    "lora": LoRA(r=4),
    "lora of queries": LoRA(r=4, side="queries"),
}


def uneven_groups(data: Path, seed: int = 0) -> Groups:
    """Groups of passages of one to nine words, so that their pieces differ in number between processes."""
    if not data.exists():
        Corpus.build(((f"d{n}", f"d{n}", " ".join(["more"] * (n * n % 9))) for n in range(TOPICS)), data)
    return toy_groups(data, seed=seed)


def train(folder: Path, data: Path, chunk_tokens: int, dropout: float = 0.0, calls: int = 0) -> None:
    """A run in float64 that mines anew, activations made again or in chunks; it may stop at a call of its loss."""
    loss, model = StopsAt(), toy_model(dropout).double()
    loss.left = calls

    def refresh(model, step):
        return uneven_groups(data, seed=step + round(TOPICS * found(model)["P@1"]))

    options = {"steps": 6, "batch_size": 6, "accumulate": 2, "refresh_steps": 3, "past": 9}
    made = trainer(loss, chunk_tokens=chunk_tokens or None, checkpoint_activations=not chunk_tokens, **options)
    best = made.train(model, uneven_groups(data), folder, found, "P@1", refresh).best_step
    kept = load_file(folder / "checkpoints" / f"checkpoint-{best}" / "model.safetensors")
    assert_equal_weights({f"model.{name}": value for name, value in weights(model).items()}, kept)


def train_halves(folder: Path, data: Path) -> None:
    """Texts longer in the first process than in the second, in chunks above what passes the model at once."""
    options: dict[str, Any] = {"steps": 2, "batch_size": TOPICS, "chunk_tokens": 41}
    if not data.exists():
        batch = Batches(toy_groups(data.with_name("plain"), size=1), TOPICS, 0)[0]
        half = {group["query_id"][1:] for group in batch[: TOPICS // 2]}
        words = {str(n): " ".join(["more"] * (9 if str(n) in half else 7)) for n in range(TOPICS)}
        Corpus.build(((f"d{n}", "tell", text) for n, text in words.items()), data)
    trainer(**options).train(toy_model(0.0).double(), toy_groups(data, size=1), folder)


def bert(folder: Path) -> Any:
    return Transformer(str(folder), pooling="mean", dtype="float32", device="cpu").trainable()


def splade(folder: Path) -> Any:
    return Splade(str(folder), dtype="float32", device="cpu").trainable()


def train_kind(folder: Path, data: Path, model: Path, kind: str) -> None:
    """Two steps of a model that is tied, frozen, adapted or shares its weights."""
    module = splade(model) if kind == "splade" else bert(model)
    KINDS[kind].prepare(module)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    made = trainer(steps=2, batch_size=6)
    made.train(module.double(), uneven_groups(data), folder, save=KINDS[kind].save)


def run_all(out: str, data: str, model: str, mlm: str) -> None:
    """What is compared."""
    for chunk_tokens in CHUNKS:
        train(Path(out) / f"{chunk_tokens}", Path(data), chunk_tokens)
    train_halves(Path(out) / "halves", Path(data).with_name("halves"))
    for kind in KINDS:
        train_kind(Path(out) / kind, Path(data), Path(mlm if kind == "splade" else model), kind)


def run_sharded(out: str, data: str, *models: str) -> None:
    """The same in shards, which is looked at in passing; runs that are stopped; and one in bfloat16."""
    shard_on_processors()
    ranking.TOKENS["cpu"] = 20  # several pieces without chunk_tokens too
    seen_models, counts = [], []
    kinds: set[torch.dtype] = set()
    step, cut = Loop.training_step, ranking.pieces

    def seen(self, model, *rest):
        seen_models.append(model)
        layer = next(part for part in model.modules() if isinstance(part, BertLayer))
        layer.register_forward_hook(lambda layer, given, made: kinds.add(given[0].dtype))
        return step(self, model, *rest)

    def counted(batch, tokens, alike=False):
        found = cut(batch, tokens, alike)
        counts.append((len(found), len(cut(batch, tokens))))
        return found

    Loop.training_step, ranking.pieces = seen, counted  # type: ignore[method-assign]
    run_all(out, data, *models)
    sharded = {name for name, part in seen_models[0].named_modules() if isinstance(part, FSDPModule)}
    assert sharded == {"", "model.transformer.encoder.layer.0"}
    assert all(isinstance(weight, DTensor) for model in seen_models for weight in model.parameters())
    gathered: list[Any] = [None, None]
    torch.distributed.all_gather_object(gathered, counts)
    first, second = gathered
    assert [made for made, _ in first] == [made for made, _ in second]
    assert [alone for _, alone in first] != [alone for _, alone in second]
    for chunk_tokens in CHUNKS:
        train(Path(out) / f"whole-{chunk_tokens}", Path(data), chunk_tokens, 0.1)
        with pytest.raises(Stopped):
            train(Path(out) / f"cut-{chunk_tokens}", Path(data), chunk_tokens, 0.1, calls=9)
        train(Path(out) / f"cut-{chunk_tokens}", Path(data), chunk_tokens, 0.1)
    kinds.clear()
    half = trainer(steps=2, batch_size=6, precision="bfloat16")
    half.train(toy_model(), uneven_groups(Path(data)), Path(out) / "half")
    assert kinds == {torch.bfloat16}


def shard_on_processors() -> None:
    """Let accelerate do on processors what it does on accelerators, where alone it takes up FSDP."""
    from accelerate.state import AcceleratorState, DistributedType

    begin = AcceleratorState.__init__

    def init(self, *args, fsdp_plugin=None, **options):
        begin(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = init


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model, tiny_mlm):
    """The folders of one process and of two."""
    folder = tmp_path_factory.mktemp("sharded")
    uneven_groups(folder / "data")
    train_halves(folder / "before", folder / "halves")  # makes the data
    here, script = str(Path(__file__).parent), folder / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {here!r})\nimport test_sharded\ntest_sharded.run_sharded(*sys.argv[1:])"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    env = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path), **FSDP}
    rest = [str(folder / "data"), str(tiny_model), str(tiny_mlm)]
    done = subprocess.run([*launch, str(folder / "two"), *rest], env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ranking.TOKENS, "cpu", 20)
        run_all(str(folder / "one"), *rest)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("name", [*map(str, CHUNKS), "halves", *KINDS])
def test_sharded_weights_train_as_whole_ones(runs, name):
    one, two = (run / name for run in runs)
    alone, shared = lines(one), lines(two)
    assert [line.get("evaluation") for line in shared] == [line.get("evaluation") for line in alone]
    for what in ("loss", "gradient_norm"):
        assert [line.get(what) for line in shared] == pytest.approx([line.get(what) for line in alone], abs=1e-9)
    (checkpoint,) = one.glob("checkpoints/*/model.safetensors")
    whole, gathered = load_file(checkpoint), load_file(two / checkpoint.relative_to(one))
    assert gathered.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(gathered[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk_tokens", CHUNKS)
def test_a_stopped_run_of_shards_ends_with_the_same_bytes(runs, chunk_tokens):
    whole, cut = (runs[1] / f"{name}-{chunk_tokens}" for name in ("whole", "cut"))
    assert (cut / "training.jsonl").read_text() == (whole / "training.jsonl").read_text()
    assert_equal_weights(*(load_file(run / "model" / "model.safetensors") for run in (cut, whole)))


def test_weights_in_shards_stay_float32_where_bfloat16_is_computed_in(runs):
    kept = load_file(runs[1] / "half" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert {value.dtype for value in kept.values() if value.is_floating_point()} == {torch.float32}


def test_layers_that_share_weights_or_hold_embeddings_are_not_gathered_alone(tiny_model, tiny_mlm):
    class Plugin:
        pass

    def layers(module, tuning):
        tuning.prepare(module)
        return sharding(module, Plugin(), False)._no_split_modules

    assert layers(splade(tiny_mlm), Full()) == ["BertLayer"]
    assert layers(bert(tiny_model), QuerySide()) == ["BertLayer"]
    assert layers(bert(tiny_model), LoRA(side="queries")) == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not supported: .* launch with FSDP"),
        ({**FSDP, "FSDP_VERSION": "1"}, "FSDP 1 is not supported: set fsdp_version: 2"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params is not supported: set it to false"),
        ({**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "trainer.checkpoint_activations to true"),
    ],
)
def test_launches_that_training_cannot_follow_are_refused(monkeypatch, told, says):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=says):
        prepare_launch()


def test_fsdp_without_accelerators_is_refused(monkeypatch, tmp_path):
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="FSDP needs several processes with an accelerator each"):
        trainer().train(toy_model(), uneven_groups(tmp_path / "data"), tmp_path / "run")
