"""How `explain=query,document` is parted into ids that may hold commas and spaces themselves."""

from __future__ import annotations

import pytest

from retrieval.explain import parted
from retrieval.ids import DocIds


def test_ids_with_commas_and_spaces_are_parted_where_both_are_known():
    documents = DocIds.of(["d,1", "d 2", "1", "b,1"])
    assert parted("q,d,1", ["q"], documents, "x") == ("q", "d,1")
    assert parted("q, d 2", ["q"], documents, "x") == ("q", "d 2")
    assert parted("a,b,1", ["a,b"], documents, "x") == ("a,b", "1")
    assert parted([7, 1], ["7"], documents, "x") == ("7", "1")
    with pytest.raises(ValueError, match=r"several commas part 'a,b,1' into .*; write explain='\[\"q\", \"d\"\]'"):
        parted("a,b,1", ["a", "a,b"], documents, "x")
    assert parted(["a", "b,1"], ["a", "a,b"], documents, "x") == ("a", "b,1")
    with pytest.raises(ValueError, match="no comma parts 'a,b,c' into a query of x and a document"):
        parted("a,b,c", ["a"], documents, "x")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("q9,d1", "x has no query 'q9'; there are 2, such as q1, q2"),
        ("q1,d9", "x has no document 'd9'; there are 1, such as 'd1'"),
        ("q1", "explain takes a query and a document, explain=query,document, not 'q1'"),
        (["q1"], "explain takes a query and a document"),
        ([], "explain takes a query and a document"),
    ],
)
def test_what_is_unknown_is_named(asked, said):
    with pytest.raises(ValueError, match=said):
        parted(asked, ["q1", "q2"], DocIds.of(["d1"]), "x")
