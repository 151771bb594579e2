"""What is particular to a loss: its forms, its options, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tests.training.loss_toy import batch, built, tensor, with_gradient
from training.losses.infonce import InfoNCE
from training.losses.kl import KL
from training.losses.lambdaloss import LambdaLoss
from training.losses.listmle import ListMLE
from training.losses.margin_mse import MarginMSE
from training.losses.triplet import Triplet
from training.losses.wasserstein import Wasserstein

TRIPLE = tensor([[2, 1, 0.5], [0.2, 1.5, -0.3], [0, 0.7, 0.9]])
PAIRS = tensor([[1.2, 0.3, -0.5, 0.1], [0, 0.4, 0.8, -0.2], [0.5, 0.9, 0.1, 1.1]])
POSITIVE = tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]])

WRONG = [
    ("infonce", {"form": "sum"}, "no form 'sum': choose from mean_log, pair_mean, log_sum, excl_other_pos"),
    ("listnet", {"target": "sum"}, "no target 'sum': choose from softmax, label_sum, unnormalised"),
    ("listmle", {"ties": "random"}, "no ties 'random': choose from stable, shuffle"),
    ("ranknet", {"weight": "label"}, "no weight 'label': choose from difference, squared_difference"),
    ("ranknet", {"log": "10"}, "no log '10': choose from natural, log2"),
    ("lambdaloss", {"weighting": "ndcg3"}, "no weighting 'ndcg3': choose from none, lambdarank, ndcg1, ndcg2, ndcg2pp"),
    ("lambdaloss", {"reduction": "max"}, "no reduction 'max': choose from mean, sum, list_mean"),
    ("hinge", {"reduction": "list_mean"}, "no reduction 'list_mean': choose from mean, sum"),
    ("lambdaloss", {"k": 0}, "k is 0; it must be above 0"),
    ("lambdaloss", {"mu": -1.0}, "mu is -1.0; it must be above 0"),
    ("ranknet", {"sigma": 0.0}, "sigma is 0.0; it must be above 0"),
    ("kl", {"label_temperature": 0}, "label_temperature is 0; it must be above 0"),
    ("wasserstein", {"infonce_weight": -0.1}, "infonce_weight is -0.1; it must be 0 .off. or above"),
    ("wasserstein", {"infonce_temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ("neural_ndcg", {"sinkhorn_rounds": -1}, "sinkhorn_rounds is -1; it must be 0 .off. or above"),
    ("triplet", {"margin": 0.0}, "margin is 0.0; it must be above 0"),
    ("hinge", {"margin": math.nan}, "margin is nan; it must be above 0"),
    *(
        (name, {"temperature": -1}, "temperature is -1; it must be above 0")
        for name in ("infonce", "kl", "wasserstein", "margin_mse", "listnet", "listmle", "approx_ndcg", "neural_ndcg")
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_a_wrong_argument_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        built(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lambdaloss", {}, "a label is -1; gains 2\\^label - 1 want grades from 0 on"),
        ("approx_ndcg", {}, "a label is -1; gains"),
        ("neural_ndcg", {}, "a label is -1; gains"),
        ("listnet", {"target": "label_sum"}, "a label is -1; target 'label_sum' wants labels from 0 on"),
        ("listnet", {"target": "unnormalised"}, "a label is -1; target 'unnormalised' wants labels from 0 on"),
    ],
)
def test_labels_below_zero_are_refused_where_they_mean_nothing_unless_masked(name, options, message):
    labels = tensor([[2, -1, 0]])
    with pytest.raises(ValueError, match=message):
        built(name, **options)(TRIPLE[:1], labels)
    built(name, **options)(TRIPLE[:1], labels, labels >= 0)


# ---- InfoNCE -----------------------------------------------------------------------------------------------------

forms = pytest.mark.parametrize("form", ["mean_log", "pair_mean", "log_sum", "excl_other_pos"])


@forms
def test_all_forms_agree_on_one_positive_per_query(form):
    assert float(InfoNCE(form=form)(TRIPLE, torch.eye(3))) == pytest.approx(0.5424654046593477, abs=1e-12)


@forms
@pytest.mark.parametrize("symmetric", [False, True])
def test_each_form_survives_a_row_of_positives_only_and_extreme_scores(form, symmetric):
    labels = tensor([[1, 1, 1, 1], [0, 0, 1, 0], [0, 1, 0, 1]])
    for scores in (PAIRS, 1e4 * PAIRS.sign(), (1e4 * PAIRS.sign()).float()):
        value, gradient = with_gradient(InfoNCE(form=form, symmetric=symmetric), scores, labels)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_the_pair_mean_of_a_masked_batch_is_the_mean_over_all_its_pairs():
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[0, 2] = mask[2, 3] = False
    loss = InfoNCE(form="pair_mean")
    alone = [loss(PAIRS[[row]][:, mask[row]], POSITIVE[[row]][:, mask[row]]) for row in range(3)]
    torch.testing.assert_close(loss(PAIRS, POSITIVE, mask), (2 * alone[0] + alone[1] + alone[2]) / 4)


@forms
def test_the_other_direction_is_that_of_positive_passages_against_queries(form):
    one = InfoNCE(0.5, form)
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[1, 0] = mask[0, 3] = False
    back = one(PAIRS.T, POSITIVE.T, mask.T)  # every passage is some query's positive here
    expected = (one(PAIRS, POSITIVE, mask) + back) / 2
    torch.testing.assert_close(InfoNCE(0.5, form, symmetric=True)(PAIRS, POSITIVE, mask), expected)
    hard = torch.cat([PAIRS, tensor([[0.3], [0.7], [0.2]])], 1), torch.nn.functional.pad(POSITIVE, (0, 1))
    expected = (one(*hard) + one(PAIRS.T, POSITIVE.T)) / 2  # a negative of all has no direction of its own
    torch.testing.assert_close(InfoNCE(0.5, form, symmetric=True)(*hard), expected)


def test_queries_without_a_positive_are_named():
    mask = torch.ones_like(PAIRS, dtype=torch.bool)
    mask[1, 2] = False
    with pytest.raises(ValueError, match="no positive .* in rows 1 of the batch"):
        InfoNCE()(PAIRS, POSITIVE, mask)
    with pytest.raises(ValueError, match="in rows 0, 1, 2 of the batch"):
        InfoNCE()(PAIRS, torch.zeros_like(PAIRS))


# ---- KL ----------------------------------------------------------------------------------------------------------


def test_kl_is_zero_where_scores_and_labels_differ_by_a_constant():
    assert float(KL(2.0)(2 * PAIRS + 5, PAIRS)) == pytest.approx(0, abs=1e-12)


# ---- Wasserstein -------------------------------------------------------------------------------------------------


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


def test_wasserstein_does_not_tie_queries_to_their_rows_and_with_infonce_does():
    scores, labels = batch()
    value, gradient = with_gradient(Wasserstein(), scores, labels)
    moved, moved_gradient = with_gradient(Wasserstein(), scores[[2, 0, 1]], labels)
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[[2, 0, 1]])
    remedied = Wasserstein(infonce_weight=0.1)
    assert remedied(labels[[2, 0, 1]], labels) > 1.5 * remedied(labels, labels)


def test_wasserstein_with_infonce_is_their_weighted_sum_the_highest_labels_being_positive():
    scores, labels = batch()
    labels[1, 3:6] = tensor([2, 2, 1])
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, 0] = False
    positive = torch.zeros_like(labels)
    positive[[0, 1, 1, 2], [1, 3, 4, 6]] = 1
    expected = Wasserstein(0.7)(scores, labels, mask) + 0.3 * InfoNCE(0.2)(scores, positive, mask)
    torch.testing.assert_close(Wasserstein(0.7, 0.3, 0.2)(scores, labels, mask), expected)


def test_wasserstein_with_infonce_names_queries_without_a_relevant_passage():
    scores, labels = batch()
    labels[1] = 0
    Wasserstein()(scores, labels)
    with pytest.raises(ValueError, match="no positive .* in rows 1 of the batch"):
        Wasserstein(infonce_weight=0.1)(scores, labels)


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


# ---- lists -------------------------------------------------------------------------------------------------------


def test_margin_mse_of_lists_of_several_lengths_is_the_mean_over_all_negatives():
    mask = tensor([[1, 0, 1], [1, 1, 1]]).bool()
    scores, teacher = tensor([[5, math.nan, 3], [3, 3.5, 2]]), tensor([[9, 7, 5], [6, 8, 3]])
    assert float(MarginMSE()(scores, teacher, mask)) == pytest.approx((4 + 2.25 + 4) / 3, abs=1e-12)


def test_margin_mse_divides_scores_by_its_temperature():
    scores, teacher = tensor([[0.5, 0.4]]), tensor([[9, 7]])
    assert float(MarginMSE(0.1)(scores, teacher)) == pytest.approx(1, abs=1e-12)


def test_margin_mse_names_rows_whose_positive_is_masked():
    with pytest.raises(ValueError, match="the first passage, which is the positive, is masked in rows 1 of the batch"):
        MarginMSE()(TRIPLE[:2], TRIPLE[:2], tensor([[1, 1, 0], [0, 1, 1]]).bool())


def test_listmle_shuffles_ties_by_its_seed_and_nothing_else():
    scores, labels = batch(queries=2, size=4)
    drawn = [float(ListMLE(ties="shuffle", seed=seed)(scores, labels)) for seed in range(5)]
    assert drawn == [float(ListMLE(ties="shuffle", seed=seed)(scores, labels)) for seed in range(5)]
    assert len({*drawn}) == 5
    ranked = labels + 0.1 * torch.arange(8)
    torch.testing.assert_close(ListMLE(ties="shuffle")(scores, ranked), ListMLE()(scores, ranked))


def test_the_shuffles_of_listmle_have_the_mean_over_all_orders_of_the_ties():
    scores, labels = tensor([[0.3, -1, 2, 0.1]]), tensor([[1, 0, 0, 0]])
    orders = [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]]
    expected = sum(float(ListMLE()(scores[:, order], labels)) for order in orders) / 6
    many = ListMLE(ties="shuffle")(scores.expand(4000, 4), labels.expand(4000, 4))
    assert float(many) == pytest.approx(expected, abs=0.05)


def test_position_aware_listmle_of_a_short_list_has_the_weights_of_its_length():
    scores, labels = tensor([[0.5, 0.1, 9.0, -0.3]]), tensor([[2, 1, 3, 0]])
    mask = tensor([[1, 1, 0, 1]]).bool()
    terms = [math.log(sum(math.exp(s) for s in rest)) - rest[0] for rest in ([0.5, 0.1, -0.3], [0.1, -0.3], [-0.3])]
    expected = (7 * terms[0] + 3 * terms[1] + 1 * terms[2]) / 11
    assert float(ListMLE(position_aware=True)(scores, labels, mask)) == pytest.approx(expected, abs=1e-12)


def test_ranknet_weighted_by_squared_labels():
    terms = [3 * math.log(1 + math.exp(-0.3)), 4 * math.log(1 + math.exp(-0.4)), math.log(1 + math.exp(-0.1))]
    loss = built("ranknet", weight="squared_difference")
    found = loss(tensor([[0.5, 0.2, 0.1]]), tensor([[2, 1, 0]]))
    assert float(found) == pytest.approx(sum(terms) / 3, abs=1e-12)


@pytest.mark.parametrize("weighting", ["lambdarank", "ndcg1", "ndcg2", "ndcg2pp"])
def test_lambdaloss_leaves_out_lists_without_a_relevant_passage(weighting):
    scores, labels = batch(queries=2)
    loss = LambdaLoss(weighting)
    torch.testing.assert_close(loss(scores, labels * tensor([[1], [0]])), loss(scores[:1], labels[:1]))


def test_lambdaloss_cut_beyond_the_list_is_not_cut():
    scores, labels = batch()
    assert torch.equal(LambdaLoss(k=9)(scores, labels), LambdaLoss()(scores, labels))


@pytest.mark.parametrize("name", ["approx_ndcg", "neural_ndcg"])
def test_smooth_ndcg_leaves_out_lists_without_a_relevant_passage(name):
    scores, labels = batch(queries=2)
    torch.testing.assert_close(
        built(name)(scores, labels * tensor([[1], [0]])), built(name)(scores[:1], labels[:1]), rtol=0, atol=1e-12
    )


def test_triplet_and_hinge_agree_where_a_query_has_one_negative_and_know_several_positives():
    scores, labels = tensor([[0.2, 0.9, 0.4], [0.3, 0.1, 0.7]]), tensor([[1, 3, 0], [0, 2, 1]])
    expected = (0.7 + 0 + 0.7 + 0.1) / 4  # 0.5 - 0.2 + 0.4; 0.5 - 0.9 + 0.4; 0.5 - 0.1 + 0.3; 0.5 - 0.7 + 0.3
    for name in ("triplet", "hinge"):
        assert float(built(name)(scores, labels)) == pytest.approx(expected, abs=1e-12)


def test_queries_without_a_negative_do_not_count_in_triplet():
    scores, labels = tensor([[0.2, 0.9], [0.3, 0.1]]), tensor([[1, 1], [0, 2]])
    assert float(Triplet(1.0)(scores, labels)) == pytest.approx(1.2, abs=1e-12)
