"""Batches within a budget of tokens that adapts to memory; work done ahead in a thread."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.batching import Budget, batches, in_batches
from retrieval.model_files import choose_device
from retrieval.threads import read_ahead

LENGTHS = [7, 3, 12, 1, 5, 5, 9, 2, 12, 4, 0, 6] * 5


def squares(limit=10**9, error=torch.OutOfMemoryError):
    """An encoder of positions that is out of memory above so many padded tokens."""

    def encode(part):
        if len(part) * max(LENGTHS[i] for i in part) > limit:
            raise error
        return part**2

    return encode


def collected(encode, budget, device="cpu"):
    found = np.full(len(LENGTHS), -1)
    parts = []
    for part, squared in in_batches(encode, LENGTHS, budget, device, "texts"):
        found[part] = squared
        parts.append(part)
    return found, parts


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 900))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    parts = batches(lengths, budget)
    assert sorted(np.concatenate(parts).tolist() if parts else []) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[i] for i in part) <= budget


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("tokens", [20, 400])  # many batches, on all cores; few
def test_out_of_memory_halves_the_budget_and_changes_no_result(device, tokens, caplog):
    budget = Budget(tokens)
    with caplog.at_level(logging.WARNING):
        found, parts = collected(squares(limit=13), budget, device)
    np.testing.assert_array_equal(found, np.arange(len(LENGTHS)) ** 2)
    ordered = np.concatenate(parts)
    np.testing.assert_array_equal(ordered, np.argsort(-np.array(LENGTHS), kind="stable"))
    assert budget.tokens == {20: 10, 400: 12}[tokens]
    assert f"batches of {tokens // 2} tokens instead of {tokens}" in caplog.text


def test_a_halved_budget_stays_for_later_calls_and_is_told():
    budget = Budget(32)
    assert budget.about() == {"batch_tokens": 32}
    collected(squares(limit=16), budget)
    assert budget.about() == {"batch_tokens": 32, "batch tokens halved to": 16}
    calls = []
    collected(lambda part: calls.append(part) or part, budget, "cuda")
    assert max(len(part) * max(LENGTHS[i] for i in part) for part in calls) <= 16


@settings(max_examples=30, deadline=None)
@given(st.integers(12, 200), st.integers(1, 500))
def test_any_memory_that_holds_the_longest_text_is_enough(limit, tokens):
    found, _ = collected(squares(limit), Budget(tokens), "cuda")
    np.testing.assert_array_equal(found, np.arange(len(LENGTHS)) ** 2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_text_that_does_not_fit_alone_is_an_error(device):
    with pytest.raises(ValueError, match=r"texts: a text of 12 tokens does not fit .* alone \(batch_tokens 12\)"):
        collected(squares(limit=11), Budget(25), device)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_a_processor_without_memory_halves_the_budget_too(error):
    budget = Budget(40)
    collected(squares(20, error), budget)
    assert budget.tokens == 20


def test_another_error_passes_through():
    with pytest.raises(RuntimeError, match="shapes differ"):
        collected(squares(10, RuntimeError("shapes differ")), Budget(40))


def test_a_budget_without_tokens_is_refused():
    with pytest.raises(ValueError, match="batch_tokens is 0: a batch holds at least 1 token"):
        Budget(0)


def test_work_ahead_keeps_order_and_is_one_item_ahead():
    begun = []
    done = read_ahead(map(lambda n: begun.append(n) or n * 10, range(5)))
    assert next(done) == 0
    assert next(done) == 10
    assert max(begun) <= 2
    assert list(done) == [20, 30, 40]
    assert list(read_ahead(map(str, []))) == []


def test_an_error_ahead_comes_after_what_was_done_before_it():
    done = read_ahead(map(lambda n: 6 // n, [1, 2, 0, 3]))
    assert [next(done), next(done)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(done)


def test_the_thread_ends_when_the_reader_stops():
    before = threading.active_count()
    done = read_ahead(map(str, range(10**9)))
    assert next(done) == "0"
    done.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("rank", "expected"), [(None, "cuda:0"), ("1", "cuda:1"), ("3", "cuda:1")])
def test_each_rank_of_a_job_takes_a_gpu_of_its_own(monkeypatch, rank, expected):
    """Two GPUs are pretended; naming a device needs none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert str(choose_device(None)) == expected
    assert str(choose_device("cpu")) == "cpu"
