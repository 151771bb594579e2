"""Queries for tools: lists that are read, and results that take turns. The model is a rule."""

from __future__ import annotations

import pytest

from prf.writers.tool_query import ToolQuery, listed
from retrieval.corpus import Corpus, Document
from retrieval.protocols import Writer
from retrieval.registry import find
from retrieval.retrievers.multi_query import MultiQuery
from tests.prf.writers.shown import asked, broken, joined, queries, ruled
from tests.tables import Table, lists


def test_recipes_find_it_by_its_file():
    assert find(Writer, "tool_query") is ToolQuery and ToolQuery.needs == ()


@pytest.mark.parametrize("original", [True, False])
def test_each_tool_is_searched_for_apart_and_the_request_first_if_wanted(original):
    model = ruled("book a flight\nbook a hotel")
    writer, asks = ToolQuery(model, original=original), queries("a trip to Oslo")
    texts = writer.write(asks, None)
    assert texts == [["book a flight", "book a hotel"]] and "a trip to Oslo" in asked(model.requests[0])
    own = [("a trip to Oslo", 1.0)] if original else []
    assert joined(writer, asks, texts).variants == [[*own, ("book a flight", 1.0), ("book a hotel", 1.0)]]


def test_results_take_turns_and_a_list_whose_next_was_taken_goes_on_to_its_next_new_one(tmp_path):
    """prf.md 6.1: [a, b, c] and [b, d] give a, b, c, d."""
    corpus = Corpus.build([Document(name, "", name) for name in "abcd"], tmp_path / "corpus")
    table = Table({"q0#0": {"a": 3.0, "b": 2.0, "c": 1.0}, "q0#1": {"b": 2.0, "d": 1.0}})
    retriever = MultiQuery(table, fusion="round_robin")
    retriever.open(corpus, tmp_path)
    writer, asks = ToolQuery(ruled("- one\n- two"), original=False), queries("q")
    found = retriever.retrieve(joined(writer, asks, writer.write(asks, None)), 10)
    assert lists(found) == {"q0": ["a", "b", "c", "d"]}
    assert table.seen[0].texts == ["one", "two"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("find flights\nfind hotels", ["find flights", "find hotels"]),
        (
            "Here are the queries:\n1. find flights\n2) find hotels\n(3) rent a car",
            ["find flights", "find hotels", "rent a car"],
        ),
        ("Sure.\n- \"find flights\"\n* 'find hotels'\n• rent a car", ["find flights", "find hotels", "rent a car"]),
        ("find flights\n\n  FIND  flights \n---", ["find flights"]),
        ("7-day weather", ["7-day weather"]),
        ("", []),
        ("...\n-", []),
        ("Queries:", []),
    ],
)
def test_lists_are_read_without_marks_and_quotes_each_line_once(answer, found):
    assert listed(answer) == found


def test_at_most_so_many_tools_count():
    assert ToolQuery(ruled("a\nb\nc"), tools=2).write(queries("q"), None) == [["a", "b"]]
    with pytest.raises(ValueError, match="tools is 0; a request needs at least 1"):
        ToolQuery(ruled("a"), tools=0)


@pytest.mark.parametrize("model", [broken, "", "Queries:", "I am sorry, but I cannot help with that."])
def test_a_failure_raises_and_with_a_fallback_the_request_is_searched_alone(model):
    with pytest.raises(ValueError, match="Rule failed .*fallback: keep"):
        ToolQuery(ruled(model)).write(queries("q"), None)
    writer, asks = ToolQuery(ruled(model), fallback="keep"), queries("q")
    texts = writer.write(asks, None)
    assert texts == [[]] and joined(writer, asks, texts).variants == [[("q", 1.0)]]
    assert writer.provenance()["failed generations"] == 1
