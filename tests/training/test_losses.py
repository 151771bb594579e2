"""What every loss of the folder must hold to, as it is made by default and in other ways."""

import pytest
import torch

from tests.training.loss_toy import SCORED, WAYS, batch, built, distinct, tensor, with_gradient

every = pytest.mark.parametrize(("name", "options"), WAYS)

# Where an invariant cannot hold, and why.
TIED = {"listmle": "passages of equal labels stand in the order of their columns, or in a drawn one"}
FIRST = {"margin_mse": "the first passage of a row is the positive"}
BOTH_WAYS = {"infonce-symmetric=True": "its other direction is over the scores of a column"}


def labelled(name, labels):
    return distinct(labels) if name in TIED else labels


@every
def test_a_loss_is_one_finite_number_with_a_finite_gradient(name, options):
    value, gradient = with_gradient(built(name, **options), *batch())
    assert value.shape == ()
    assert torch.isfinite(value) and torch.isfinite(gradient).all() and gradient.any()


@every
def test_the_gradient_is_that_of_finite_differences(name, options):
    scores, labels = batch(queries=2)
    loss = built(name, **options)
    assert torch.autograd.gradcheck(lambda s: loss(s, labels), scores.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5)


@every
def test_the_gradient_under_a_mask_is_that_of_finite_differences(name, options):
    scores, labels = batch(queries=2)
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, [1, 3]] = mask[1, 5] = False
    loss = built(name, **options)
    assert torch.autograd.gradcheck(lambda s: loss(s, labels, mask), scores.requires_grad_(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), [way for way in WAYS if way.id not in BOTH_WAYS])
def test_a_constant_added_to_a_row_changes_nothing(name, options):
    scores, labels = batch()
    shifted = scores + tensor([[7.0], [-3.0], [100.0]])
    loss = built(name, **options)
    for plain, moved in zip(with_gradient(loss, scores, labels), with_gradient(loss, shifted, labels), strict=True):
        torch.testing.assert_close(moved, plain, rtol=1e-9, atol=1e-10)


@every
def test_the_order_of_the_passages_changes_nothing(name, options):
    scores, labels = batch()
    labels = labelled(name, labels)
    order = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(1))
    if name in FIRST:
        order = torch.cat([torch.zeros(1, dtype=torch.long), order[order > 0]])
    value, gradient = with_gradient(built(name, **options), scores, labels)
    moved, moved_gradient = with_gradient(built(name, **options), scores[:, order], labels[:, order])
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[:, order])


@every
def test_a_passage_masked_for_all_is_as_good_as_removed(name, options):
    scores, labels = batch()
    labels = labelled(name, labels)
    kept = torch.ones(scores.shape[1], dtype=torch.bool)
    kept[[1, 5]] = False
    value, gradient = with_gradient(built(name, **options), scores, labels, kept.expand_as(scores))
    short, short_gradient = with_gradient(built(name, **options), scores[:, kept], labels[:, kept])
    torch.testing.assert_close(value, short)
    torch.testing.assert_close(gradient[:, kept], short_gradient)
    assert not gradient[:, ~kept].any()


BY_LIST = ("approx_ndcg", "infonce", "kl", "listmle", "listnet", "neural_ndcg", "list_mean")  # means over lists
BY_BATCH = ("pair_mean", "symmetric", "shuffle", "wasserstein")


@pytest.mark.parametrize(
    ("name", "options"),
    [way for way in WAYS if any(word in way.id for word in BY_LIST) and not any(word in way.id for word in BY_BATCH)],
)
def test_lists_of_several_lengths_are_as_good_as_each_alone(name, options):
    scores, labels = batch()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, [1, 4, 7]] = mask[1, [0, 8]] = False
    loss = built(name, **options)
    alone = [loss(scores[[row]][:, mask[row]], labels[[row]][:, mask[row]]) for row in range(3)]
    torch.testing.assert_close(loss(scores, labels, mask), sum(alone) / 3)


@every
def test_what_stands_in_a_masked_cell_does_not_matter(name, options):
    scores, labels = batch()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, [1, 4]] = mask[1, 1] = mask[2, 8] = False
    value, gradient = with_gradient(built(name, **options), scores, labels, mask)
    for filling in (1e4, -1e4, torch.nan, torch.inf):
        other = scores.masked_fill(~mask, filling), labels.masked_fill(~mask, 2.0)
        moved, moved_gradient = with_gradient(built(name, **options), *other, mask)
        assert torch.equal(moved, value) and torch.equal(moved_gradient, gradient)
    assert not gradient[~mask].any()


@every
def test_a_full_mask_is_no_mask(name, options):
    scores, labels = batch()
    loss = built(name, **options)
    assert torch.equal(loss(scores, labels, torch.ones_like(scores) > 0), loss(scores, labels))


@every
def test_a_row_masked_throughout_is_named(name, options):
    scores, labels = batch()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[2] = False
    with pytest.raises(ValueError, match="rows 2 of the batch"):
        built(name, **options)(scores, labels, mask)


@every
def test_a_batch_of_one_query(name, options):
    value, gradient = with_gradient(built(name, **options), *batch(queries=1))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_a_list_of_one_passage_gives_no_nan(name, options):
    value, gradient = with_gradient(built(name, **options), tensor([[0.3], [0.1]]), tensor([[1.0], [2.0]]))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
@pytest.mark.parametrize("scores", [torch.zeros(2, 4), torch.arange(8.0).reshape(2, 4)], ids=["equal", "rising"])
def test_equal_labels_give_no_nan(name, options, scores):
    value, gradient = with_gradient(built(name, **options), scores.double(), torch.ones(2, 4, dtype=torch.float64))
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


PAIRWISE = [
    *(("ranknet", {"reduction": reduction}) for reduction in ("mean", "sum", "list_mean")),
    *(("lambdaloss", {"weighting": weighting}) for weighting in ("none", "lambdarank", "ndcg2", "ndcg2pp")),
    ("hinge", {}),
    ("triplet", {}),
]
BY_GAIN = [
    ("lambdaloss", {"weighting": "ndcg1"}),
    ("approx_ndcg", {}),
    ("neural_ndcg", {}),
    ("neural_ndcg", {"sinkhorn_rounds": 0}),
    ("listnet", {"target": "label_sum"}),
    ("listnet", {"target": "unnormalised"}),
]


@pytest.mark.parametrize(("name", "options"), PAIRWISE, ids=lambda part: str(part))
def test_without_a_pair_it_is_exactly_zero(name, options):
    value, gradient = with_gradient(built(name, **options), batch()[0], torch.ones(3, 9, dtype=torch.float64))
    assert float(value) == 0 and not gradient.any()


@pytest.mark.parametrize(("name", "options"), PAIRWISE + BY_GAIN, ids=lambda part: str(part))
def test_without_a_relevant_passage_it_is_exactly_zero(name, options):
    value, gradient = with_gradient(built(name, **options), batch()[0], torch.zeros(3, 9, dtype=torch.float64))
    assert float(value) == 0 and not gradient.any()


def test_ndcgloss1_keeps_its_pairs_where_labels_are_equal():
    loss = built("lambdaloss", weighting="ndcg1")
    assert loss(batch()[0], torch.ones(3, 9, dtype=torch.float64)) > 0.1


@every
def test_a_small_step_against_the_gradient_lowers_it(name, options):
    scores, labels = batch()
    value, gradient = with_gradient(built(name, **options), scores, labels)
    assert built(name, **options)(scores - 1e-3 * gradient, labels) < value


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_have_a_finite_gradient(name, options, dtype):
    scores, labels = batch()
    for extreme in (1e4 * scores.sign(), 1e4 * scores.clamp(-1, 1)):
        value, gradient = with_gradient(built(name, **options), extreme.to(dtype), labels.to(dtype))
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_a_large_batch_has_a_finite_gradient(name, options):
    scores, labels = (part[:3] for part in batch(queries=40, size=4))  # 160 passages: 2^160 is beyond float32
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    mask |= labels > 0
    mask[:, 0] = True
    value, gradient = with_gradient(built(name, **options), scores.float(), labels.float(), mask)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


@every
def test_float32_is_close_to_float64(name, options):
    scores, labels = batch()
    exact, gradient = with_gradient(built(name, **options), scores, labels)
    value, coarse = with_gradient(built(name, **options), scores.float(), labels.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(coarse.double(), gradient, rtol=1e-5, atol=1e-5)


@every
def test_bfloat16_scores_are_computed_with_in_float32(name, options):
    scores, labels = batch()
    value = built(name, **options)(scores.bfloat16(), labels.bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, built(name, **options)(scores.bfloat16().float(), labels.float()))


@pytest.mark.parametrize("name", [*SCORED])
def test_what_the_arguments_hold_is_left_as_it_was(name):
    scores, labels = batch()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[0, 1] = False
    before = scores.clone(), labels.clone(), mask.clone()
    built(name)(scores, labels, mask)
    assert all(torch.equal(now, was) for now, was in zip((scores, labels, mask), before, strict=True))
