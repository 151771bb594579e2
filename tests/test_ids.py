"""Ids: rows and back, their written form, and their byte order against Python's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval import ids as module
from retrieval.ids import DocIds, DuplicateId, byte_order, decode_id, decode_ids, encode_id, encode_ids

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# long, alike for seven bytes and more, with zero bytes
ALIKE = st.builds(lambda count, rest: "a" * count + rest, st.integers(0, 22), st.text("ab\0", max_size=3))


@UNHURRIED
@given(st.lists(TEXT, unique=True), st.lists(TEXT))
def test_rows_and_take_are_each_other_s_inverse(ids, others):
    docs = DocIds.of(ids)
    assert docs.take(docs.rows(ids)) == ids
    assert docs.rows(others).tolist() == [ids.index(other) if other in ids else -1 for other in others]
    assert [docs[row] for row in range(len(docs))] == ids


@UNHURRIED
@given(st.lists(TEXT, unique=True), st.lists(TEXT))
def test_both_ways_of_finding_rows_agree(ids, others):
    arrays = pa.array(ids, pa.large_string()), pa.array(others + ids[::2] * 2, pa.large_string())
    assert module._rows_by_hash(*arrays).tolist() == module._rows_by_order(*arrays).tolist()


@UNHURRIED
@given(st.lists(st.one_of(TEXT, ALIKE)))
def test_byte_order_is_that_of_python_s_bytes(texts):
    places, new = byte_order(pa.array(texts, pa.large_string()))
    ordered = [texts[place].encode() for place in places]
    assert ordered == sorted(text.encode() for text in texts)
    assert new.tolist() == [number == 0 or ordered[number - 1] != text for number, text in enumerate(ordered)]


def test_byte_order_sees_past_a_long_beginning_and_through_a_slice():
    texts = [f"msmarco_passage_00_{number}" for number in (3, 20, 1, 20, 100)]
    places, new = byte_order(pa.array(["z", *texts], pa.large_string()).slice(1))
    assert [texts[place][19:] for place in places] == ["1", "100", "20", "20", "3"]
    assert new.tolist() == [True, True, True, False, True]


@UNHURRIED
@given(TEXT)
def test_a_written_id_is_one_word_and_comes_back(text):
    written = encode_id(text)
    assert decode_id(written) == text
    assert written.split() == ([written] if text else [])
    assert encode_ids(pa.array([text])).to_pylist() == [written]
    assert decode_ids(pa.array([written])).to_pylist() == [text]


def test_only_white_space_and_percent_are_changed():
    changed = [chr(code) for code in range(0x3100) if encode_id(chr(code)) != chr(code)]
    assert changed == [chr(code) for code in range(0x3100) if chr(code).isspace() or chr(code) == "%"]
    assert encode_id("Olinda Posso 100%") == "Olinda%20Posso%20100%25"
    assert decode_id("50%zz%2F") == "50%zz%2F"  # not ours


def test_ranks_follow_the_written_form():
    assert DocIds.of(["a b", "a!b", "a"]).rank.tolist() == [2, 1, 0]  # "a%20b" stands after "a!b"


def test_an_id_given_twice_is_named():
    with pytest.raises(DuplicateId, match="'a b' is given twice") as caught:
        DocIds.of(["a b", "c", "a b"])
    assert caught.value.args[1] == "a b"


def test_the_fingerprint_tells_ids_and_their_order_apart():
    same = DocIds.of(["ab", "c"]).fingerprint
    assert DocIds.of(pa.array(["x", "ab", "c"]).slice(1)).fingerprint == same
    assert len({same, *(DocIds.of(ids).fingerprint for ids in (["a", "bc"], ["c", "ab"], ["abc"], []))}) == 5
    assert DocIds.of(["ab", "c"], "corpus").fingerprint == "corpus"


def test_rank_is_a_permutation_of_rows():
    docs = DocIds.of([str(number) for number in range(500)])
    assert np.array_equal(np.sort(docs.rank), np.arange(500))
    assert docs.rank.dtype == np.int32
