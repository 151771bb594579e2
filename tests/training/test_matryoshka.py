"""A loss on representations cut to their first dimensions."""

import pytest
import torch
from torch.nn.functional import normalize

from tests.training.loss_toy import ORACLES, tensor
from training.losses.infonce import InfoNCE
from training.losses.matryoshka import Matryoshka
from training.trainable import VectorLoss

ORACLE = next(case for case in ORACLES if case["id"] == "matryoshka_sum")
QUERIES, DOCS = (normalize(tensor(ORACLE["inputs"][side]), dim=1) for side in "qd")
LABELS, MASK = torch.eye(3), torch.ones(3, 3, dtype=torch.bool)


class Dot:
    """Scores of vectors, and of token vectors the sum of each query token's best."""

    def score(self, queries, docs):
        if queries.ndim == 2:
            return queries @ docs.T
        return torch.einsum("qtd,psd->qpts", queries, docs).amax(3).sum(2)


def value(loss, queries=QUERIES, docs=DOCS, mask=MASK):
    return loss.of_vectors(queries, docs, Dot(), LABELS, mask)


def test_it_is_a_loss_of_vectors_and_not_of_scores():
    loss = Matryoshka(InfoNCE(), [4, 2])
    assert isinstance(loss, VectorLoss) and not isinstance(InfoNCE(), VectorLoss)
    with pytest.raises(TypeError, match="matryoshka cuts representations, of which scores have none"):
        loss(QUERIES @ DOCS.T, LABELS)


def test_the_reference_value_is_the_sum_over_the_dims():
    assert float(value(Matryoshka(InfoNCE(1 / 20), [4, 2, 1]))) == pytest.approx(ORACLE["expected"], abs=1e-10)
    for width, expected in ORACLE["per_dim"].items():
        assert float(value(Matryoshka(InfoNCE(1 / 20), [int(width)]))) == pytest.approx(expected, abs=1e-10)
    gentle = 0.3108809830861868 + 0.2524315064649529 + 1.09861228866811
    assert float(value(Matryoshka(InfoNCE(1 / 2), [4, 2, 1]))) == pytest.approx(gentle, abs=1e-10)


def test_it_is_finite_differences_gradient():
    loss = Matryoshka(InfoNCE(0.5), [4, 2], [1.0, 0.5])
    sides = QUERIES.clone().requires_grad_(), DOCS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, d: value(loss, q, d), sides, atol=1e-6)


def test_each_of_the_dims_has_its_weight():
    parts = [value(Matryoshka(InfoNCE(), [width])) for width in (4, 2)]
    torch.testing.assert_close(value(Matryoshka(InfoNCE(), [4, 2], [0.3, 2.0])), 0.3 * parts[0] + 2.0 * parts[1])


def test_lengths_are_left_as_cut_where_they_are_not_normalised():
    expected = InfoNCE()(3 * QUERIES[:, :2] @ DOCS[:, :2].T, LABELS)
    torch.testing.assert_close(value(Matryoshka(InfoNCE(), [2], normalize=False), queries=3 * QUERIES), expected)
    assert abs(float(value(Matryoshka(InfoNCE(), [2]))) - float(expected)) > 0.01


def test_the_mask_reaches_the_loss():
    mask = MASK.clone()
    mask[0, 1] = False
    cut = normalize(QUERIES[:, :2], dim=1) @ normalize(DOCS[:, :2], dim=1).T
    torch.testing.assert_close(value(Matryoshka(InfoNCE(), [2]), mask=mask), InfoNCE()(cut, LABELS, mask))


def test_token_vectors_are_cut_each_and_absent_tokens_stay_zeros_with_a_finite_gradient():
    tokens = normalize(torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=2)
    tokens[1, 3:] = 0
    seen = []

    class Seeing(Dot):
        def score(self, queries, docs):
            seen.append((queries, docs))
            return super().score(queries, docs)

    given = tokens.clone().requires_grad_()
    Matryoshka(InfoNCE(), [2]).of_vectors(given, tokens, Seeing(), LABELS, MASK).backward()
    queries, _ = seen[0]
    torch.testing.assert_close(queries, normalize(tokens[..., :2], dim=2))
    assert not queries[1, 3:].any()
    assert given.grad.abs().max() < 100 and not given.grad[..., 2:].any()


def test_dims_are_sampled_by_the_seed_and_the_step():
    each = [float(value(Matryoshka(InfoNCE(), [width]))) for width in (4, 2, 1)]
    loss = Matryoshka(InfoNCE(), [4, 2, 1], sampled=1, seed=3)
    drawn = [float(value(loss)) for _ in range(20)]
    assert {round(one, 9) for one in drawn} == {round(one, 9) for one in each}
    again = Matryoshka(InfoNCE(), [4, 2, 1], sampled=1, seed=3)
    again.step = 12  # as a resumed run sets it
    assert [float(value(again)) for _ in range(8)] == drawn[12:]


def test_two_sampled_dims_are_two_different_ones():
    each = {width: float(value(Matryoshka(InfoNCE(), [width]))) for width in (4, 2, 1)}
    sums = {round(each[one] + each[other], 9) for one, other in ((4, 2), (4, 1), (2, 1))}
    loss = Matryoshka(InfoNCE(), [4, 2, 1], sampled=2)
    assert {round(float(value(loss)), 9) for _ in range(20)} == sums


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": []}, "dims are .*; name the widths to cut to, each 1 or above"),
        ({"dims": [4, 0]}, "dims are .4, 0.; name the widths"),
        ({"dims": [4, 4]}, "dims are .4, 4.; name each width once"),
        ({"dims": [4, 2], "weights": [1.0]}, "1 weights for 2 dims; give one for each"),
        ({"dims": [4, 2], "weights": [1.0, 0.0]}, "weights are .1.0, 0.0.; each must be above 0"),
        ({"dims": [4, 2], "sampled": 3}, "sampled is 3; of 2 dims 1 to 2 can be drawn"),
        ({"dims": [4, 2], "sampled": 0}, "sampled is 0"),
    ],
)
def test_a_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Matryoshka(InfoNCE(), **options)


def test_dims_beyond_the_width_are_refused():
    with pytest.raises(ValueError, match="matryoshka dims .8, 4. go beyond the 4 dimensions of the encoder"):
        value(Matryoshka(InfoNCE(), [8, 4]))
