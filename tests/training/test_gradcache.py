"""GradCache: the gradients of the full batch, for every way to part it."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import tiny_model

from training.gradcache import cached_step
from training.losses.infonce import InfoNCE
from training.losses.wasserstein import Wasserstein
from training.pieces import Piece, pieces, whole

ORACLES = json.loads((Path(__file__).parent / "loss_oracles.json").read_text())["cases"]
QUERIES = ["ask q1", "ask q2 more", "ask q3", "ask q4 more more more"]
DOCS = [f"tell d{n} {'more ' * (n % 5)}" for n in range(8)]
LABELS = torch.block_diag(*[torch.tensor([[1.0, 0.0]])] * 4).double()


class Faces(nn.Module):
    """Queries and documents through one encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, queries=None, docs=None):
        return (
            None if queries is None else self.encoder(queries, queries=True),
            None if docs is None else self.encoder(docs),
        )


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}


def dense(dropout: float = 0.0):
    model = tiny_model(dropout).double().train()
    return Faces(model), {"queries": model.tokenize_queries(QUERIES), "docs": model.tokenize_docs(DOCS)}


def parted(sides, tokens):
    return {side: pieces(sides[side], tokens) for side in ("docs", "queries")}


def scored(loss):
    return lambda made: loss(made["queries"] @ made["docs"].T, LABELS, torch.ones_like(LABELS, dtype=torch.bool))


@pytest.mark.parametrize("loss", [InfoNCE(0.5), Wasserstein()])
@pytest.mark.parametrize("tokens", [1, 3, 7, 12, 20, 1000])
def test_gradients_are_those_of_the_full_batch(loss, tokens):
    module, sides = dense()
    whole = scored(loss)(dict(zip(("queries", "docs"), module(**sides), strict=True)))
    whole.backward()
    expected = gradients(module)
    module.zero_grad()
    parts = parted(sides, tokens)
    found = cached_step(module, parts, scored(loss), lambda value: value.backward())
    torch.testing.assert_close(found, whole.detach(), rtol=0, atol=1e-12)
    assert gradients(module).keys() == expected.keys()
    for name, value in gradients(module).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_dropout_draws_the_same_numbers_in_both_passes():
    module, sides = dense(dropout=0.3)
    parts = parted(sides, 8)
    torch.manual_seed(5)
    found = cached_step(module, parts, scored(InfoNCE()), lambda value: value.backward())
    after, cached = torch.rand(3), gradients(module)
    module.zero_grad()
    torch.manual_seed(5)  # the same chunks with their graphs held, one after the other
    made: dict[str, list] = {"docs": [], "queries": []}
    for side, own in parts.items():
        made[side] += [one for part in own for one in module(**{side: part.batch}) if one is not None]
    value = scored(InfoNCE())({side: whole([p.places for p in parts[side]], ones) for side, ones in made.items()})
    value.backward()
    assert float(found) == pytest.approx(float(value.detach()), abs=1e-12) and torch.equal(after, torch.rand(3))
    for name, one in gradients(module).items():
        torch.testing.assert_close(one, cached[name], rtol=0, atol=1e-12)


def test_it_is_not_the_sum_of_the_chunks_losses():
    module, sides = dense()
    parts = parted(sides, 8)
    cached_step(module, parts, scored(InfoNCE()), lambda value: value.backward())
    cached = gradients(module)
    module.zero_grad()
    for rows in (slice(0, 2), slice(2, 4)):
        columns = slice(2 * rows.start, 2 * rows.stop)
        queries = {name: value[rows] for name, value in sides["queries"].items()}
        docs = {name: value[columns] for name, value in sides["docs"].items()}
        made = module(queries=queries, docs=docs)
        (InfoNCE()(made[0] @ made[1].T, LABELS[rows, columns]) / 2).backward()
    largest = max(cached, key=lambda name: float(cached[name].abs().max()))
    assert not torch.allclose(gradients(module)[largest], cached[largest], rtol=1e-2)


def test_a_frozen_side_gets_no_backward_pass():
    module, sides = dense()
    module.encoder.query_transformer = tiny_model(0.0).double().transformer
    module.encoder.transformer.requires_grad_(False)
    calls = []

    def backward(value):
        calls.append(value)
        value.backward()

    parts = parted(sides, 8)
    cached_step(module, parts, scored(InfoNCE()), backward)
    assert len(calls) == len(parts["queries"])
    assert all(name.startswith("encoder.query_transformer") for name in gradients(module))


def test_the_last_side_may_be_one_without_a_gradient():
    weights = nn.Parameter(torch.eye(3).double())

    def module(queries=None, docs=None):
        return None if queries is None else queries["x"], None if docs is None else docs["x"] @ weights

    data = torch.arange(12.0).reshape(4, 3).double().sin()
    parts = {side: [Piece(torch.tensor([i]), {"x": data[i : i + 1]}) for i in range(4)] for side in ("docs", "queries")}
    cached_step(module, parts, lambda made: scored_eye(made), lambda value: value.backward())
    cached, weights.grad = weights.grad, None
    scored_eye({"queries": data, "docs": data @ weights}).backward()
    torch.testing.assert_close(cached, weights.grad, rtol=0, atol=1e-12)


def scored_eye(made):
    return InfoNCE()(made["queries"] @ made["docs"].T, torch.eye(4).double())


def test_only_the_last_chunk_synchronises():
    module, sides = dense()
    entered = []

    class Unsynced:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *error):
            return None

    parts = parted(sides, 8)
    cached_step(module, parts, scored(InfoNCE()), lambda value: value.backward(), Unsynced)
    assert len(entered) == 2 * sum(map(len, parts.values())) - 1  # all first passes, and all second ones but the last


@pytest.mark.parametrize("tokens", [1, 5, 8, 13, 10**6])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pieces_hold_no_more_tokens_than_allowed_and_every_text_once(tokens, side):
    model = tiny_model()
    model.tokenizer.padding_side = side
    batch = model.tokenize_docs(DOCS)
    parts = pieces(batch, tokens)
    assert sorted(place for part in parts for place in part.places.tolist()) == list(range(len(DOCS)))
    for part in parts:
        ids, mask = part.batch["input_ids"], part.batch["attention_mask"].bool()
        assert ids.numel() <= tokens or len(ids) == 1
        assert mask.any(0).all()
        for place, own, there in zip(part.places.tolist(), ids, mask, strict=True):
            text = batch["input_ids"][place][batch["attention_mask"][place].bool()]
            assert own[there].tolist() == text.tolist()


def test_what_pieces_gave_comes_back_in_the_order_of_the_batch():
    parts = pieces(tiny_model().tokenize_docs(DOCS), 8)
    assert len(parts) > 2
    numbers = [part.places[:, None, None].float().expand(-1, 1 + n % 3, 2) for n, part in enumerate(parts)]
    found = whole([part.places for part in parts], numbers)
    assert found.shape == (len(DOCS), 3, 2) and found[:, 0, 0].tolist() == list(range(len(DOCS)))


def test_the_reference_gradients_of_a_linear_encoder():
    oracle = next(one for one in ORACLES if one["id"] == "gradcache_linear")
    x, y, start = (torch.tensor(oracle["inputs"][name], dtype=torch.float64) for name in ("xq", "xd", "W"))
    weights = nn.Parameter(start.clone())

    def module(queries=None, docs=None):
        return tuple(None if one is None else one["x"] @ weights for one in (queries, docs))

    halves = (torch.tensor([2, 3]), torch.tensor([0, 1]))
    parts = {side: [Piece(half, {"x": data[half]}) for half in halves] for side, data in (("docs", y), ("queries", x))}
    seen = {}

    def loss(made):
        seen.update(made)
        for one in made.values():
            one.retain_grad()
        return InfoNCE()(made["queries"] @ made["docs"].T, torch.eye(4).double())

    value = cached_step(module, parts, loss, lambda one: one.backward())
    assert float(value) == pytest.approx(oracle["expected"], abs=1e-12)
    for found, name in ((weights, "grad_W"), (seen["queries"], "cached_grad_q"), (seen["docs"], "cached_grad_d")):
        torch.testing.assert_close(found.grad, torch.tensor(oracle[name], dtype=torch.float64), rtol=0, atol=1e-12)
