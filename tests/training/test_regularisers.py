"""Penalties on representations."""

import pytest
import torch

from retrieval import protocols
from retrieval.registry import components, find
from training.regularisers.flops import Flops
from training.regularisers.l1 import L1

VECTORS = torch.tensor([[1.0, 0.0, 3.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
every = pytest.mark.parametrize("name", [*components(protocols.Regulariser)])


def built(name, weight=1.0):
    return find(protocols.Regulariser, name)(weight)


def test_flops_is_the_squared_mean_of_each_dimension_summed():
    assert float(Flops(0.5)(VECTORS)) == 0.5 * (1.5**2 + 0 + 1.5**2)


def test_l1_is_the_sum_of_each_text_in_the_mean():
    assert float(L1(0.5)(VECTORS)) == 0.5 * (4 + 2) / 2


def test_flops_costs_more_where_texts_share_dimensions_and_l1_does_not():
    shared, apart = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
    assert Flops(1.0)(shared) == 2 * Flops(1.0)(apart)
    assert L1(1.0)(shared) == L1(1.0)(apart)


@every
def test_the_gradient_is_that_of_finite_differences(name):
    vectors = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(built(name, 0.3), vectors.requires_grad_())


@every
def test_activations_of_either_sign_cost_the_same_and_zeros_nothing(name):
    assert torch.equal(built(name)(-VECTORS), built(name)(VECTORS))
    zeros = torch.zeros(2, 3, requires_grad=True)
    value = built(name)(zeros)
    value.backward()
    assert float(value.detach()) == 0 and not zeros.grad.any()


@every
def test_a_weight_of_zero_is_off(name):
    assert float(built(name, 0.0)(VECTORS)) == 0


@every
def test_low_precision_is_summed_in_float32(name):
    many = torch.rand(64, 500, generator=torch.Generator().manual_seed(0)).bfloat16()
    value = built(name)(many)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, built(name)(many.double()).float())


@every
def test_a_wrong_weight_and_token_vectors_are_refused(name):
    with pytest.raises(ValueError, match="weight is -0.1; it must be 0 or above"):
        built(name, -0.1)
    with pytest.raises(ValueError, match=r"wants one vector a text, \[texts, width\], not \[2, 3, 4\]"):
        built(name)(torch.zeros(2, 3, 4))
