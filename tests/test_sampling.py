"""What a model is asked for: values that cannot be are refused, and equal ones are written alike."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.sampling import Request, Sampling
from retrieval.store import plain


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stop": "###"}, "stop is a list of texts that are not empty, not '###'"),
        ({"stop": [""]}, "stop is a list of texts that are not empty"),
        ({"temperature": float("nan")}, "temperature is 0 or more"),
        ({"top_p": 0.0}, "top_p in"),
        ({"stop": [5]}, "stop is a list of texts that are not empty"),
        ({"max_tokens": 0}, "max_tokens and top_k are at least 1"),
        ({"max_tokens": 64.5}, "max_tokens is a whole number, not 64.5"),
        ({"max_tokens": None}, "max_tokens is a whole number, not None"),
        ({"max_tokens": True}, "max_tokens is a whole number, not True"),
        ({"top_k": 0.5}, "top_k is a whole number, not 0.5"),
        ({"seed": float("inf")}, "seed is a whole number, not inf"),
        ({"seed": "1"}, "seed is a whole number, not '1'"),
        ({"logprobs": 1}, "logprobs is true or false, not 1"),
    ],
)
def test_sampling_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)


def test_a_float_for_an_int_asks_the_same():
    whole = Sampling(max_tokens=64.0, top_k=np.int64(5), seed=np.float32(2))
    other = Sampling(64, top_k=5, seed=2)
    assert plain(Request(None, "a", whole, 1.0).about()) == plain(Request(None, "a", other, 1).about())
    with pytest.raises(ValueError, match=r"sample is a whole number, not 0\.5"):
        Request(None, "a", whole, 0.5)
