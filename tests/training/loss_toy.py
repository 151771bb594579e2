"""Every loss of the folder, as made by default and in other ways, and small batches for them."""

import json
from pathlib import Path

import pytest
import torch

from retrieval import protocols
from retrieval.registry import components, find

ORACLES = json.loads((Path(__file__).parent / "loss_oracles.json").read_text())["cases"]
WITHOUT_SCORES = {"matryoshka": "it cuts vectors, and what it does with scores is its inner loss's"}
SCORED = [name for name in components(protocols.Loss) if name not in WITHOUT_SCORES]
OTHERWISE = [
    ("infonce", {"form": "pair_mean", "temperature": 0.5}),
    ("infonce", {"form": "log_sum"}),
    ("infonce", {"form": "excl_other_pos"}),
    ("infonce", {"symmetric": True}),
    ("kl", {"temperature": 0.5, "label_temperature": 2.0, "rescale": True}),
    ("wasserstein", {"temperature": 0.5, "infonce_weight": 0.1}),
    ("listnet", {"target": "label_sum", "temperature": 0.5}),
    ("listnet", {"target": "unnormalised"}),
    ("listmle", {"position_aware": True, "temperature": 0.5}),
    ("listmle", {"ties": "shuffle"}),
    ("ranknet", {"weight": "difference", "reduction": "list_mean"}),
    ("ranknet", {"weight": "squared_difference", "sigma": 2.0, "log": "log2"}),
    ("lambdaloss", {"weighting": "none"}),
    ("lambdaloss", {"weighting": "lambdarank", "log": "natural", "reduction": "list_mean"}),
    ("lambdaloss", {"weighting": "ndcg1", "reduction": "list_mean"}),
    ("lambdaloss", {"weighting": "ndcg2", "reduction": "sum"}),
    ("lambdaloss", {"k": 2, "reduction": "list_mean"}),
    ("approx_ndcg", {"temperature": 0.1}),
    ("neural_ndcg", {"sinkhorn_rounds": 0}),
    ("neural_ndcg", {"temperature": 0.1}),
    ("hinge", {"reduction": "sum"}),
]


def built(name, **options):
    return find(protocols.Loss, name)(**options)


def named(name, options):
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


WAYS = [pytest.param(name, options, id=named(name, options)) for name, options in [(n, {}) for n in SCORED] + OTHERWISE]


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def batch(queries=3, size=3, seed=0):
    """Random scores, and graded labels (3, 1, 0, ...) in each query's own block."""
    scores = torch.randn(queries, queries * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.zeros_like(scores)
    for query in range(queries):
        labels[query, query * size : query * size + 2] = tensor([3.0, 1.0])
    return scores, labels


def distinct(labels):
    """The labels with no two of a row equal, in a random order of those that were."""
    order = torch.rand(labels.shape, generator=torch.Generator().manual_seed(5)).argsort(1)
    return labels + 0.01 * order


def with_gradient(loss, scores, labels, mask=None):
    scores = scores.detach().clone().requires_grad_()
    value = loss(scores, labels, mask)
    value.backward()
    return value.detach(), scores.grad
