"""GradCache with token vectors, sparse weights and pairs: the gradients of the whole batch."""

import pytest
import torch

from retrieval.encoders.colbert import ColBERT
from retrieval.encoders.splade import Splade
from retrieval.rerankers.cross_encoder import CrossEncoder
from training.gradcache import cached_step
from training.losses.infonce import InfoNCE
from training.pieces import pieces
from training.ranking import _Faces

QUERIES = ["the otter", "a comet near Mars", "violin"]
DOCS = ["A small otter sleeps near the harbour", "Every comet", "The old violin was seen above Mars in the kitchen"]


@pytest.mark.parametrize("kind", ["colbert", "splade", "cross_encoder"])
def test_gradients_are_those_of_the_whole_batch(kind, tiny_model, tiny_mlm):
    made = {
        "colbert": lambda: ColBERT(str(tiny_model), 12, 30, "", "", seed=0, dtype="float32"),
        "splade": lambda: Splade(str(tiny_mlm), dtype="float32"),
        "cross_encoder": lambda: CrossEncoder(str(tiny_model), seed=0),
    }[kind]()
    module = _Faces(made.trainable().eval())
    model = module.model
    if kind == "cross_encoder":
        sides = {"pairs": model.tokenize_pairs([query for query in QUERIES for _ in DOCS], DOCS * 3)}
    else:
        sides = {"docs": model.tokenize_docs(DOCS), "queries": model.tokenize_queries(QUERIES)}

    def loss(own):
        scores = own["pairs"].reshape(3, 3) if "pairs" in own else model.score(own["queries"], own["docs"])
        return InfoNCE()(scores, torch.eye(3))

    whole = dict(zip(_Faces.order, module(**sides), strict=True))
    loss({side: whole[side] for side in sides}).backward()
    expected = {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}
    module.zero_grad()
    parts = {side: pieces(batch, 12) for side, batch in sides.items()}
    assert all(len(own) > 1 for own in parts.values())
    cached_step(module, parts, loss, lambda value: value.backward())
    assert expected and any(one.abs().max() > 1e-4 for one in expected.values())
    found = torch.cat([one.grad.flatten() for name, one in module.named_parameters() if name in expected])
    whole_one = torch.cat([one.flatten() for one in expected.values()])
    assert (found - whole_one).norm() < 1e-4 * whole_one.norm()  # float32, in which these models are trained
