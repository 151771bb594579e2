"""Every loss of the folder: what each must hold to, and the reference values of InfoNCE, KL and Wasserstein."""

import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

import training.losses
from training.losses.infonce import InfoNCE
from training.losses.kl import KL
from training.losses.wasserstein import Wasserstein

LOSSES = [module.name for module in pkgutil.iter_modules(training.losses.__path__)]
FORMS = ("mean_log", "pair_mean", "log_sum", "excl_other_pos")
ORACLES = json.loads((Path(__file__).parent / "loss_oracles.json").read_text())["cases"]


def built(name: str):
    module = importlib.import_module(f"training.losses.{name}")
    assert len(module.__all__) == 1
    return getattr(module, module.__all__[0])()


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def batch(queries=3, size=3, seed=0):
    """Random scores, and graded labels (3, 1, 0, ...) in each query's own block."""
    scores = torch.randn(queries, queries * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.zeros_like(scores)
    for query in range(queries):
        labels[query, query * size : query * size + 2] = tensor([3.0, 1.0])
    return scores, labels


def with_gradient(loss, scores, labels, mask=None):
    scores = scores.detach().clone().requires_grad_()
    value = loss(scores, labels, mask)
    value.backward()
    return value.detach(), scores.grad


# ---- every loss of the folder ------------------------------------------------------------------------------------

every = pytest.mark.parametrize("name", LOSSES)


@every
def test_a_loss_is_one_finite_number_with_a_finite_gradient(name):
    value, gradient = with_gradient(built(name), *batch())
    assert value.shape == ()
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_the_gradient_is_that_of_finite_differences(name):
    scores, labels = batch(queries=2)
    loss = built(name)
    assert torch.autograd.gradcheck(lambda s: loss(s, labels), scores.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5)


@every
def test_a_constant_added_to_a_row_changes_nothing(name):
    scores, labels = batch()
    shifted = scores + tensor([[7.0], [-3.0], [100.0]])
    for plain, moved in zip(
        with_gradient(built(name), scores, labels), with_gradient(built(name), shifted, labels), strict=True
    ):
        torch.testing.assert_close(moved, plain, rtol=1e-9, atol=1e-10)


@every
def test_the_order_of_the_passages_changes_nothing(name):
    scores, labels = batch()
    order = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(1))
    value, gradient = with_gradient(built(name), scores, labels)
    moved, moved_gradient = with_gradient(built(name), scores[:, order], labels[:, order])
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[:, order])


@every
def test_a_passage_masked_for_all_is_as_good_as_removed(name):
    scores, labels = batch()
    kept = torch.ones(scores.shape[1], dtype=torch.bool)
    kept[[1, 5]] = False
    value, gradient = with_gradient(built(name), scores, labels, kept.expand_as(scores))
    short, short_gradient = with_gradient(built(name), scores[:, kept], labels[:, kept])
    torch.testing.assert_close(value, short)
    torch.testing.assert_close(gradient[:, kept], short_gradient)
    assert not gradient[:, ~kept].any()


@every
def test_what_stands_in_a_masked_cell_does_not_matter(name):
    scores, labels = batch()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, [1, 4]] = mask[1, 0] = mask[2, 8] = False
    value, gradient = with_gradient(built(name), scores, labels, mask)
    for filling in (1e4, -1e4, torch.nan, torch.inf):
        other = with_gradient(built(name), scores.masked_fill(~mask, filling), labels.masked_fill(~mask, 2.0), mask)
        assert torch.equal(other[0], value) and torch.equal(other[1], gradient)
    assert not gradient[~mask].any()


@every
def test_a_full_mask_is_no_mask(name):
    scores, labels = batch()
    assert torch.equal(built(name)(scores, labels, torch.ones_like(scores) > 0), built(name)(scores, labels))


@every
def test_a_batch_of_one_query(name):
    value, gradient = with_gradient(built(name), *batch(queries=1))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
@pytest.mark.parametrize("scores", [torch.zeros(2, 4), torch.arange(8.0).reshape(2, 4)])
def test_equal_labels_give_no_nan(name, scores):
    value, gradient = with_gradient(built(name), scores.double(), torch.ones(2, 4, dtype=torch.float64))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_a_small_step_against_the_gradient_lowers_it(name):
    scores, labels = batch()
    value, gradient = with_gradient(built(name), scores, labels)
    assert built(name)(scores - 1e-3 * gradient, labels) < value


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_have_a_finite_gradient(name, dtype):
    scores, labels = batch()
    value, gradient = with_gradient(built(name), (1e4 * scores.sign()).to(dtype), labels.to(dtype))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_float32_is_close_to_float64(name):
    scores, labels = batch()
    exact, gradient = with_gradient(built(name), scores, labels)
    value, coarse = with_gradient(built(name), scores.float(), labels.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(coarse.double(), gradient, rtol=1e-5, atol=1e-5)


@every
def test_bfloat16_scores_are_computed_with_in_float32(name):
    scores, labels = batch()
    value = built(name)(scores.bfloat16(), labels.bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, built(name)(scores.bfloat16().float(), labels.float()))


# ---- reference values --------------------------------------------------------------------------------------------


def case(oracle):
    """Loss, scores and labels of an oracle."""
    inputs, params = oracle["inputs"], oracle["params"]
    match oracle["loss"]:
        case "infonce":
            scores = tensor(inputs["scores"])
            columns = torch.tensor(inputs["positive_index"])
            return InfoNCE(params["temperature"]), scores, torch.eye(scores.shape[1], dtype=scores.dtype)[columns]
        case "infonce_from_embeddings":
            q, d = (torch.nn.functional.normalize(tensor(inputs[side]), dim=1) for side in "qd")
            return InfoNCE(1 / params["scale"]), q @ d.T, torch.eye(len(d), dtype=d.dtype)
        case "multi_positive_infonce":
            loss = InfoNCE(params["temperature"], form=params["variant"])
            return loss, tensor(inputs["scores"]), tensor(inputs["positive_mask"])
        case "kl_distillation":
            squared = params["multiply_by_T_squared"]
            loss = KL(params["student_temperature"], params["teacher_temperature"], rescale=squared)
            return loss, tensor(inputs["student"]), tensor(inputs["teacher"])
        case "ws2":
            return Wasserstein(params["temperature"]), tensor(inputs["scores"]), tensor(inputs["labels_blockdiag"])
    raise LookupError(oracle["loss"])


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle["id"])
def test_the_reference_value_and_gradient(oracle):
    loss, scores, labels = case(oracle)
    value, gradient = with_gradient(loss, scores, labels)
    assert float(value) == pytest.approx(oracle["expected"], abs=1e-10)
    assert float(loss(scores.float(), labels.float())) == pytest.approx(oracle["expected"], abs=1e-5)
    if "grad" in oracle:
        torch.testing.assert_close(gradient, tensor(oracle["grad"]), rtol=0, atol=1e-10)


WS2 = next(oracle for oracle in ORACLES if oracle["id"] == "ws2_Q2_K4")
TRIPLE = tensor([[2, 1, 0.5], [0.2, 1.5, -0.3], [0, 0.7, 0.9]])
PAIRS = tensor([[1.2, 0.3, -0.5, 0.1], [0, 0.4, 0.8, -0.2], [0.5, 0.9, 0.1, 1.1]])
POSITIVE = tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]])


@pytest.mark.parametrize(
    ("loss", "scores", "labels", "expected"),
    [
        (InfoNCE(0.1), TRIPLE, torch.eye(3), 0.04236156149163269),
        (InfoNCE(form="log_sum"), PAIRS, POSITIVE, 0.5439045018202303),
        (KL(), tensor(WS2["inputs"]["scores"]), tensor(WS2["inputs"]["labels_blockdiag"]), 0.04829080037437708),
        (
            Wasserstein(0.5),
            tensor(WS2["inputs"]["scores"]),
            tensor(WS2["inputs"]["labels_blockdiag"]),
            0.11692371086542253,
        ),
    ],
)
def test_further_reference_values(loss, scores, labels, expected):
    assert float(loss(scores, labels)) == pytest.approx(expected, abs=1e-10)


# ---- InfoNCE -----------------------------------------------------------------------------------------------------

forms = pytest.mark.parametrize("form", FORMS)


@forms
def test_all_forms_agree_on_one_positive_per_query(form):
    assert float(InfoNCE(form=form)(TRIPLE, torch.eye(3))) == pytest.approx(0.5424654046593477, abs=1e-12)


@forms
def test_the_gradient_of_each_form_is_that_of_finite_differences(form):
    loss = InfoNCE(0.5, form)
    assert torch.autograd.gradcheck(lambda s: loss(s, POSITIVE), PAIRS.clone().requires_grad_(), atol=1e-6)


@forms
def test_each_form_survives_a_row_of_positives_only_and_extreme_scores(form):
    labels = tensor([[1, 1, 1, 1], [0, 0, 1, 0], [0, 1, 0, 1]])
    for scores in (PAIRS, 1e4 * PAIRS.sign(), (1e4 * PAIRS.sign()).float()):
        value, gradient = with_gradient(InfoNCE(form=form), scores, labels)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@forms
def test_infonce_masks_a_cell_as_if_it_were_removed_from_its_row(form):
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[0, 2] = mask[2, 3] = False
    rows = [
        InfoNCE(form=form)(PAIRS[[row]][:, mask[row]], POSITIVE[[row]][:, mask[row]]) * weight
        for row, weight in enumerate([2, 1, 1] if form == "pair_mean" else [1, 1, 1])
    ]
    expected = sum(rows) / (4 if form == "pair_mean" else 3)
    torch.testing.assert_close(InfoNCE(form=form)(PAIRS, POSITIVE, mask), expected)


def test_queries_without_a_positive_are_named():
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[1, 2] = False
    with pytest.raises(ValueError, match="no positive .* in rows 1 of the batch"):
        InfoNCE()(PAIRS, POSITIVE, mask)
    with pytest.raises(ValueError, match="in rows 0, 1, 2 of the batch"):
        InfoNCE()(PAIRS, torch.zeros_like(PAIRS))


def test_an_unknown_form_or_temperature_is_an_error():
    with pytest.raises(ValueError, match="choose from mean_log, pair_mean, log_sum, excl_other_pos"):
        InfoNCE(form="sum")  # type: ignore[arg-type]
    for wrong in (lambda: InfoNCE(0), lambda: KL(-1), lambda: KL(label_temperature=0), lambda: Wasserstein(0)):
        with pytest.raises(ValueError, match="temperature is .* above 0"):
            wrong()


# ---- KL ----------------------------------------------------------------------------------------------------------


def test_kl_masks_a_cell_as_if_it_were_removed_from_its_row():
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[0, 0] = mask[2, 1] = False
    rows = [KL()(PAIRS[[row]][:, mask[row]], POSITIVE[[row]][:, mask[row]]) for row in range(3)]
    torch.testing.assert_close(KL()(PAIRS, POSITIVE, mask), sum(rows) / 3)


def test_kl_is_zero_where_scores_and_labels_differ_by_a_constant():
    assert float(KL(2.0)(2 * PAIRS + 5, PAIRS)) == pytest.approx(0, abs=1e-12)


# ---- Wasserstein -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [KL(), Wasserstein()])
def test_a_row_masked_throughout_is_named(loss):
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[2] = False
    with pytest.raises(ValueError, match="rows 2 of the batch"):
        loss(PAIRS, POSITIVE, mask)


def test_wasserstein_of_one_query_is_the_distance_of_its_distributions():
    scores, labels = batch(queries=1)
    expected = (scores.softmax(1) - labels.softmax(1)).square().sum()
    torch.testing.assert_close(Wasserstein()(scores, labels), expected)


def test_wasserstein_gives_a_masked_cell_no_probability():
    scores, labels = batch()
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    far = torch.finfo(torch.float64).min
    low = Wasserstein()(scores.masked_fill(~mask, far), labels.masked_fill(~mask, far))
    torch.testing.assert_close(Wasserstein()(scores, labels, mask), low)


def test_wasserstein_is_the_formula_with_covariance_matrices():
    scores, labels = batch(queries=5)
    x, y = scores.softmax(1).numpy(), labels.softmax(1).numpy()
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.trace(sqrtm(sqrtm(cx) @ cy @ sqrtm(cx))).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx) + np.trace(cy) - 2 * cross
    assert float(Wasserstein()(scores, labels)) == pytest.approx(expected, abs=1e-6)


def test_wasserstein_does_not_tie_queries_to_their_rows():
    scores, labels = batch()
    value, gradient = with_gradient(Wasserstein(), scores, labels)
    moved, moved_gradient = with_gradient(Wasserstein(), scores[[2, 0, 1]], labels)
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[[2, 0, 1]])


def test_wasserstein_has_a_finite_gradient_where_scores_have_no_covariance():
    labels = torch.block_diag(*[tensor([[3.0, 2, 1, 0]])] * 64)
    value, gradient = with_gradient(Wasserstein(), torch.zeros_like(labels), labels)
    assert float(value) == pytest.approx(0.005131252497823057, abs=1e-12)
    assert torch.isfinite(gradient).all() and gradient.abs().max() < 1e-6


def test_wasserstein_is_never_below_zero():
    for seed in range(20):
        scores, labels = batch(seed=seed)
        assert Wasserstein()(scores, labels) >= 0
        assert abs(Wasserstein(0.3)(0.3 * labels + 2, labels)) < 1e-12
