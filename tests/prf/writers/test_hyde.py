"""HyDE and MuGI: several texts, joined as vectors or behind repeated queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prf.append import Append
from prf.writers.hyde import TASKS, HyDE
from prf.writers.mugi import MuGI
from retrieval.types import Dense
from tests.prf.writers.rules import QUERIES, Rule, found, rewritten, saying

NUMBERED = [f"text {n}" for n in range(8)]


def numbered():
    return Rule(lambda request: f"text {request.sample}")


def test_eight_documents_are_sampled_as_the_paper_does():
    model = numbered()
    assert HyDE(model).write(QUERIES, None) == [NUMBERED, NUMBERED]
    sampling = model.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.stop) == (512, 0.7, 1.0, ("\n\n\n",))
    assert len(model.requests) == 16


def test_the_new_vector_is_the_mean_of_nine():
    writer = HyDE(numbered())
    texts = writer.write(QUERIES, None)
    random = np.random.default_rng(0)
    own, documents = random.normal(size=(2, 4)).astype(np.float32), random.normal(size=(16, 4)).astype(np.float32)
    feedback = replace(found(*texts), vectors=lambda rows: documents[rows])
    moved = writer.join().reformulate(replace(QUERIES, representations=Dense(own)), feedback).representations.vectors
    expected = [np.vstack([own[i : i + 1], documents[8 * i : 8 * i + 8]]).astype(float).mean(0) for i in range(2)]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_for_bm25_the_documents_can_be_appended():
    writer = HyDE(numbered(), samples=2)
    new = Append().reformulate(QUERIES, found(*writer.write(QUERIES, None)))
    assert new.texts == [f"{query} text 0 text 1" for query in QUERIES.texts]


def test_each_task_has_a_prompt_of_its_own():
    prompts = []
    for task in TASKS:
        model = saying("x")
        HyDE(model, task).write(QUERIES.take([0]), None)
        prompts.append(model.prompts[0])
        assert model.prompts[0].count(QUERIES.texts[0]) == 1
    assert len({*prompts}) == len(TASKS) == 7
    with pytest.raises(ValueError, match="task is one of web_search, .*, not 'msmarco'; name a `prompt`"):
        HyDE(saying("x"), "msmarco")


@pytest.mark.parametrize(("samples", "length", "times"), [(5, 40, 1), (1, 1000, 8)])
def test_mugi_repeats_the_query_by_the_characters_of_its_texts(samples, length, times):
    model = Rule(lambda request: "x" * length)
    (query,) = rewritten(MuGI(model, samples=samples), QUERIES.take([0])).texts
    assert query == " ".join([QUERIES.texts[0]] * times + ["x" * length] * samples)
    joined = samples * length + samples - 1
    assert times == max(1, joined // len(QUERIES.texts[0]) // 6)
    assert len(model.requests) == samples


def test_mugi_asks_for_five_passages_of_temperature_1():
    model = saying("x")
    MuGI(model).write(QUERIES, None)
    assert len(model.requests) == 10 and model.requests[0].sampling.temperature == 1.0
    assert [request.sample for request in model.requests] == [0, 1, 2, 3, 4] * 2
