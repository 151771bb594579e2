"""Scores that are free to move, and what 200 steps of Adam against a loss bring them to."""

import numpy as np
import pytest
import torch

from tests.training.loss_toy import built, named

LABELS = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2]], dtype=torch.float64)
IN_BATCH = torch.block_diag(*LABELS.unsqueeze(1))
SEEDS = range(10)


def ndcg(scores, labels):
    """Of each list, [lists]."""
    discounts = 1 / np.log2(np.arange(2, labels.shape[1] + 2))
    gains = 2 ** labels.numpy() - 1
    found = np.take_along_axis(gains, np.argsort(-scores.detach().numpy(), 1), 1)
    return (found * discounts).sum(1) / (-np.sort(-gains, 1) * discounts).sum(1)


def start(columns, seeds=SEEDS):
    """N(0, 1) of each seed, one below the other: the lists of all seeds are one batch."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.cat([torch.randn(4, columns, generator=one, dtype=torch.float64) for one in generators])


def optimised(loss, scores, labels, steps=200):
    scores = scores.clone().requires_grad_()
    adam = torch.optim.Adam([scores], lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        value = loss(scores, labels)
        value.backward()
        adam.step()
    return scores.detach(), float(value.detach())


def own(scores):
    """Each query's scores of its own four passages."""
    return torch.stack([scores[row, 4 * (row % 4) : 4 * (row % 4) + 4] for row in range(len(scores))])


SORTS = [
    ("approx_ndcg", {}),
    ("listnet", {}),
    ("listnet", {"target": "label_sum"}),
    ("listnet", {"target": "unnormalised"}),
    ("listmle", {}),
    ("listmle", {"position_aware": True}),
    ("ranknet", {}),
    ("ranknet", {"weight": "difference"}),
    ("lambdaloss", {"weighting": "lambdarank"}),
    ("lambdaloss", {"weighting": "ndcg1"}),
    ("lambdaloss", {"weighting": "ndcg2"}),
    ("lambdaloss", {"weighting": "ndcg2pp"}),
]


@pytest.mark.parametrize(("name", "options"), SORTS, ids=[named(*one) for one in SORTS])
def test_free_scores_come_into_the_order_of_their_labels(name, options):
    labels = LABELS.repeat(len(SEEDS), 1)
    scores, _ = optimised(built(name, **options), start(4), labels)
    assert (ndcg(scores, labels) == 1).all()


def test_margin_mse_brings_free_scores_to_the_teachers_margins():
    scores, _ = optimised(built("margin_mse"), start(4), LABELS.repeat(len(SEEDS), 1), steps=400)
    torch.testing.assert_close(scores - scores[:, :1], (LABELS - LABELS[:, :1]).repeat(10, 1), rtol=0, atol=1e-2)


def test_kl_sorts_each_querys_own_passages_in_a_batch():
    scores, _ = optimised(built("kl"), start(16), IN_BATCH.repeat(len(SEEDS), 1))
    assert (ndcg(own(scores), LABELS.repeat(len(SEEDS), 1)) == 1).all()


def test_neural_ndcg_sorts_with_sinkhorn_scaling_and_without_it_is_stuck():
    labels = LABELS.repeat(len(SEEDS), 1)
    stuck, value = optimised(built("neural_ndcg", sinkhorn_rounds=0), start(4), labels)
    assert value < -0.95 and ndcg(stuck, labels).mean() < 0.99
    scores, _ = optimised(built("neural_ndcg"), start(4), labels)
    assert (ndcg(scores, labels) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_wasserstein_sorts_from_aligned_scores_only(seed):
    noise, mine = start(16, [seed]), torch.block_diag(*[torch.ones(1, 4, dtype=torch.float64)] * 4)
    aligned, _ = optimised(built("wasserstein"), 0.5 * noise + 2 * mine, IN_BATCH)
    assert (ndcg(own(aligned), LABELS) == 1).all()
    free, value = optimised(built("wasserstein"), noise, IN_BATCH)
    remedied, _ = optimised(built("wasserstein", infonce_weight=0.03), noise, IN_BATCH)
    assert value < 1e-3 and ndcg(own(free), LABELS).mean() < 0.95 < ndcg(own(remedied), LABELS).mean()
