"""Reference values and gradients of every loss, made with independent code."""

import pytest
import torch
from torch.nn.functional import normalize

from tests.training.loss_toy import ORACLES, built, tensor, with_gradient
from training.losses.neural_ndcg import neural_sort

BY_ID = {oracle["id"]: oracle for oracle in ORACLES}
ELSEWHERE = {  # cases that are no value of a loss of scores, each with a test of its own
    "true_ndcg": "the limit of two losses, below",
    "neuralsort_tau1": "a matrix, below",
    "matryoshka_sum": "of vectors: test_matryoshka.py",
    "gradcache_linear": "of an encoder: test_gradcache.py",
}


def infonce(inputs, params):
    scores = tensor(inputs["scores"])
    return (
        "infonce",
        {"temperature": params["temperature"]},
        scores,
        torch.eye(scores.shape[1])[inputs["positive_index"]],
    )


def from_vectors(inputs, params):
    q, d = (normalize(tensor(inputs[side]), dim=1) for side in "qd")
    return "infonce", {"temperature": 1 / params["scale"]}, q @ d.T, torch.eye(len(d))


def multi_positive(inputs, params):
    options = {"temperature": params["temperature"], "form": params["variant"]}
    return "infonce", options, tensor(inputs["scores"]), tensor(inputs["positive_mask"])


def margin_mse(inputs, params):
    scores, labels = (tensor([inputs[f"{who}_pos"], inputs[f"{who}_neg"]]).T for who in "st")
    return "margin_mse", {}, scores, labels


def kl(inputs, params):
    names = {"temperature": "student_temperature", "label_temperature": "teacher_temperature"}
    options = {own: params[name] for own, name in names.items()} | {"rescale": params["multiply_by_T_squared"]}
    return "kl", options, tensor(inputs["student"]), tensor(inputs["teacher"])


def wasserstein(inputs, params):
    options = {"temperature": params["temperature"]}
    return "wasserstein", options, tensor(inputs["scores"]), tensor(inputs["labels_blockdiag"])


def softmax_cross_entropy(inputs, params):
    target = "label_sum" if "sum(labels)" in params["target"] else "unnormalised"
    return "listnet", {"target": target}, tensor(inputs["scores"]), tensor(inputs["labels"])


def ranknet(inputs, params):
    said = params["reduction"]
    reduction = "list_mean" if "per list" in said else "sum" if said == "sum" else "mean"
    options = {"reduction": reduction, "log": params.get("log", "natural"), "sigma": params.get("sigma", 1.0)}
    options["weight"] = {"label difference": "difference"}.get(params.get("weight"))
    return "ranknet", options, tensor(inputs["scores"]), tensor(inputs["labels"])


def lambdaloss(inputs, params):
    options = {"weighting": params["scheme"], "log": params["log"], "reduction": params["reduction"].split()[0]}
    options |= {name: params[name] for name in ("mu", "sigma", "k") if name in params}
    return "lambdaloss", options, tensor(inputs["scores"]), tensor(inputs["labels"])


def neural_ndcg(inputs, params):
    options = {"temperature": params["tau"], "sinkhorn_rounds": params.get("sinkhorn_max_iter", 50)}
    if not params["sinkhorn"]:
        options["sinkhorn_rounds"] = 0
    return "neural_ndcg", options, tensor(inputs["scores"]), tensor(inputs["labels"])


def in_batch_hinge(inputs, params):
    scores = tensor(inputs["scores"])
    return "hinge", {"margin": params["margin"]}, scores, torch.eye(len(scores))


def of_graded_lists(name):
    def case(inputs, params):
        options = {key: params[key] for key in ("temperature",) if key in params}
        return name, options, tensor(inputs["scores"]), tensor(inputs["labels"])

    return case


def in_batch_listnet(inputs, params):
    labels = [tensor([row]) for row in inputs["labels_per_query"]]
    return "listnet", {}, tensor(inputs["scores"]), torch.block_diag(*labels)


CASES = {
    "infonce": infonce,
    "infonce_from_embeddings": from_vectors,
    "multi_positive_infonce": multi_positive,
    "margin_mse": margin_mse,
    "kl_distillation": kl,
    "ws2": wasserstein,
    "listnet": of_graded_lists("listnet"),
    "listnet_blockdiag": in_batch_listnet,
    "softmax_cross_entropy": softmax_cross_entropy,
    "listmle": of_graded_lists("listmle"),
    "ranknet": ranknet,
    "lambdaloss": lambdaloss,
    "approx_ndcg": of_graded_lists("approx_ndcg"),
    "neural_ndcg": neural_ndcg,
    "inbatch_margin": in_batch_hinge,
}


@pytest.mark.parametrize(
    "oracle", [oracle for oracle in ORACLES if oracle["id"] not in ELSEWHERE], ids=lambda oracle: oracle["id"]
)
def test_the_reference_value_and_gradient(oracle):
    name, options, scores, labels = CASES[oracle["loss"]](oracle["inputs"], oracle["params"])
    loss = built(name, **options)
    value, gradient = with_gradient(loss, scores, labels)
    coarse, coarse_gradient = with_gradient(loss, scores.float(), labels.float())
    assert float(value) == pytest.approx(oracle["expected"], abs=1e-10)
    assert float(coarse) == pytest.approx(oracle["expected"], abs=1e-5)
    if "grad" in oracle:
        torch.testing.assert_close(gradient, tensor(oracle["grad"]), rtol=0, atol=1e-10)
        torch.testing.assert_close(coarse_gradient.double(), tensor(oracle["grad"]), rtol=0, atol=1e-5)


def test_a_graded_example_is_there_for_every_family():
    assert {oracle["loss"] for oracle in ORACLES if oracle["id"] not in ELSEWHERE} == {*CASES}


IN_BATCH = tensor([[2, 1, 0.5], [0.2, 1.5, -0.3], [0, 0.7, 0.9]]), torch.eye(3)
POSITIVE = tuple(tensor(BY_ID["multipos_mean_log"]["inputs"][part]) for part in ("scores", "positive_mask"))
GRADED = tuple(tensor(BY_ID["listnet"]["inputs"][part]) for part in ("scores", "labels"))
WS2 = tuple(tensor(BY_ID["ws2_Q2_K4"]["inputs"][part]) for part in ("scores", "labels_blockdiag"))
FIRST = GRADED[0][:1], GRADED[1][:1]
SQUARE = tensor([[0.9, 0.6, 0.1], [0.3, 0.7, 0.5], [0.2, 0.8, 0.4]]), torch.eye(3)
ALLRANK = tensor([[0.5, 0.3, 0.5]]), tensor([[0.5, 0.3, 0.5]])


@pytest.mark.parametrize(
    ("name", "options", "given", "expected"),
    [
        ("infonce", {"temperature": 0.1}, IN_BATCH, 0.04236156149163269),
        ("infonce", {"symmetric": True}, IN_BATCH, 0.5482906931584983),
        ("infonce", {"form": "log_sum"}, POSITIVE, 0.5439045018202303),
        ("kl", {}, WS2, 0.04829080037437708),
        ("wasserstein", {"temperature": 0.5}, WS2, 0.11692371086542253),
        ("listmle", {"position_aware": True}, FIRST, 0.9478393689079849),
        ("ranknet", {"reduction": "sum"}, GRADED, 7.7926543888679705),
        ("ranknet", {"reduction": "sum", "sigma": 2.0}, GRADED, 9.278361543452045),
        ("lambdaloss", {"weighting": "ndcg1"}, GRADED, 0.17811233328884019),
        ("lambdaloss", {"weighting": "ndcg2"}, GRADED, 0.10605060571804391),
        ("lambdaloss", {"k": 2, "reduction": "sum"}, GRADED, 3.070900083209937),
        ("approx_ndcg", {"temperature": 0.1}, GRADED, -0.787355870893239),
        ("neural_ndcg", {"temperature": 0.1}, GRADED, -0.7900819627479466),
        ("hinge", {"reduction": "sum"}, SQUARE, 1.8),
        # worked by hand: hardest negatives 0.6, 0.5 and 0.8, so terms 0.2, 0.3 and 0.9
        ("triplet", {}, SQUARE, 1.4 / 3),
    ],
)
def test_further_reference_values(name, options, given, expected):
    assert float(built(name, **options)(*given)) == pytest.approx(expected, abs=1e-10)


def test_the_published_constant_of_ndcgloss2pp():
    loss = built("lambdaloss", reduction="sum")
    assert float(loss(*ALLRANK)) == pytest.approx(1.1244146823, abs=1e-6)


def test_two_negatives_of_margin_mse():
    """Margins 1 and 2 where 2 and 4 are wanted, and -0.5 and 1 where -2 and 3 are: 1 + 4 + 2.25 + 4, over 4."""
    scores, teacher = tensor([[5, 4, 3], [3, 3.5, 2]]), tensor([[9, 7, 5], [6, 8, 3]])
    assert float(built("margin_mse")(scores, teacher)) == pytest.approx(2.8125, abs=1e-12)


def test_listnet_where_the_last_passage_of_the_first_list_is_masked():
    mask = tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    assert float(built("listnet")(*GRADED, mask)) == pytest.approx(1.2416572114119073, abs=1e-10)


def test_listnet_is_kl_and_the_entropy_of_the_target():
    entropy = BY_ID["listnet"]["target_entropy"]
    assert float(built("listnet")(*GRADED) - built("kl")(*GRADED)) == pytest.approx(entropy, abs=1e-10)


@pytest.mark.parametrize("name", ["approx_ndcg", "neural_ndcg"])
def test_the_smooth_ndcg_is_the_true_one_in_the_limit(name):
    for row, ndcg in enumerate(BY_ID["true_ndcg"]["expected"]):
        loss = built(name, temperature=1e-3)
        assert float(loss(GRADED[0][[row]], GRADED[1][[row]])) == pytest.approx(-ndcg, abs=1e-10)


def test_the_matrix_of_neural_sort():
    oracle = BY_ID["neuralsort_tau1"]
    scores = tensor([oracle["inputs"]["scores"]])
    found = neural_sort(scores, torch.ones_like(scores) > 0, 1.0).exp()[0]
    torch.testing.assert_close(found, tensor(oracle["expected"]), rtol=0, atol=1e-10)


def test_the_weights_of_lambdarank_are_the_changes_of_ndcg():
    oracle = BY_ID["lambdarank_sum_ln"]
    weights = tensor(oracle["delta_ndcg_matrix_list0_in_predicted_order"])
    order = oracle["predicted_order_list0"]
    scores, labels = (part[0, order] for part in FIRST)
    expected = sum(
        weights[i, j] * torch.nn.functional.softplus(scores[j] - scores[i])
        for i in range(4)
        for j in range(4)
        if labels[i] > labels[j]
    )
    loss = built("lambdaloss", weighting="lambdarank", reduction="sum", log="natural")
    assert float(loss(*FIRST)) == pytest.approx(float(expected), abs=1e-12)
