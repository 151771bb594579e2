"""Queries that carry an instruction each are trained on as they are searched with."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.with_queries import WithQueries
from retrieval.encoders.colbert import ColBERT
from retrieval.encoders.splade import Splade
from retrieval.encoders.transformer import Transformer
from retrieval.types import Queries, Run
from tests.conftest import TEXTS
from training import retrieved as module
from training.collections import Groups
from training.losses.infonce import InfoNCE
from training.ranking import Ranking
from training.retrieved import retrieved
from training.sources.judged import Judged
from training.sources.mixture import Mixture
from training.sources.scored import Scored
from training.sources.typos import Typos
from training.sources.union import Union

OWN = {"q0": "find the violin in the kitchen", "q1": "northern Norway"}


@pytest.fixture
def judged(tmp_path):
    """A function that makes a source of two queries, with an instruction each or without."""

    def made(name: str, instructions=OWN, queries=("q0", "q1")) -> Judged:
        documents = [(f"d{n}", "", TEXTS[n]) for n in range(4)]
        grades = {query: {f"d{n}": 1} for n, query in enumerate(queries)}
        texts = {query: f"comet {query}" for query in queries}
        own = {query: one for query, one in zip(queries, instructions.values(), strict=False)}
        write_collection(tmp_path / name, documents, texts, {"train": grades}, instructions=own)
        return Judged(Folder(str(tmp_path / name)))

    return made


def encoder(model, **more) -> Transformer:
    prompt = {"query_prompt": "{instruction} : ", "instruction": "every wild teapot"}
    return Transformer(str(model), pooling="mean", dtype="float32", **prompt | more)


def read(model, lists) -> list[str]:
    """What a model reads of the queries in training."""
    batch = Ranking(model, Groups(lists, 1), InfoNCE(), len(lists), 0)
    inputs = batch.collate(0, range(len(lists)))
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in inputs["queries"]["input_ids"]]
    return [text for _, text in sorted(zip(inputs["names"], texts, strict=True))]


@pytest.mark.parametrize(
    "made",
    [
        lambda source: source,
        lambda source: Union([source]),
        lambda source: Mixture([source], [1.0]),
        lambda source: Typos(source, share=1.0, kinds=["swap"]),
    ],
    ids=["judged", "union", "mixture", "typos"],
)
def test_the_model_reads_the_instruction_of_each_query(judged, tiny_model, made):
    model = encoder(tiny_model).trainable()
    found = read(model, made(judged("toy")).lists())
    for text, own in zip(found, OWN.values(), strict=True):
        assert text.startswith(model.tokenizer.decode(model.tokenizer(own, add_special_tokens=False).input_ids))


def test_it_is_trained_on_the_vectors_that_it_searches_with(judged, tiny_model):
    import torch

    queries = judged("toy").lists().queries
    for pooled in (True, False):
        searching = encoder(tiny_model, include_prompt=pooled)
        model = searching.trainable().eval()
        with torch.inference_mode():
            found = model(model.tokenize_instructed(queries.texts, queries.instructions), queries=True)
        expected = searching.encode_instructed(queries.texts, queries.instructions).vectors
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        assert not np.allclose(expected, searching.encode_queries(queries.texts).vectors, atol=1e-3)


def test_a_model_that_takes_none_is_refused_where_searching_would_be(judged, tiny_model, tiny_mlm):
    lists = judged("toy").lists()
    with pytest.raises(ValueError, match="query_prompt '' has no {instruction} for"):
        read(Transformer(str(tiny_model), pooling="mean", dtype="float32").trainable(), lists)
    with pytest.raises(ValueError, match="the queries carry instructions, which ColBERT does not take"):
        read(ColBERT(str(tiny_model), 12, 30, "", "", seed=0, dtype="float32").trainable(), lists)
    assert len(read(Splade(str(tiny_mlm), dtype="float32").trainable(), lists)) == 2  # searched by the text alone


def test_sources_of_which_only_some_have_instructions_are_refused(judged):
    sources = [judged("one"), judged("two", {}, ["q2", "q3"])]
    for made in (Union(sources), Mixture(sources, [1, 1])):
        with pytest.raises(ValueError, match="some of the sources carry instructions and those of others none"):
            made.lists()


def test_a_query_with_two_instructions_is_refused(judged):
    with pytest.raises(ValueError, match="query 'q0' has the instruction 'find .*' in one source and 'other' in"):
        Union([judged("one"), judged("two", {"q0": "other", "q1": "x"})]).lists()


def test_the_queries_of_other_files_keep_theirs_and_those_that_were_there(judged, tmp_path):
    plain = judged("toy").dataset
    (tmp_path / "toy" / "weak.jsonl").write_text('{"_id": "w", "text": "weak", "instruction": "its own"}\n')
    (tmp_path / "toy" / "weak.tsv").write_text("query-id\tcorpus-id\tscore\nw\td1\t1\n")
    both = WithQueries(plain, "weak.jsonl", "weak.tsv").open()
    assert both.queries("train").instructions == list(OWN.values()) and both.queries("weak").instructions == ["its own"]


def test_a_kept_run_of_other_instructions_is_not_taken(judged, monkeypatch):
    asked = []

    class First:
        def __init__(self) -> None: ...

        def open(self, corpus, folder) -> None: ...

        def retrieve(self, queries: Queries, k: int) -> Run:
            asked.append(queries.instructions)
            return Run(queries.ids, corpus.ids, np.zeros((len(queries), 1), np.int32), np.ones((2, 1), np.float32))

    one, other = judged("one").lists(), judged("two", {"q0": "a", "q1": "b"}).lists()
    corpus = one.passages
    for queries in (one.queries, other.queries, one.queries):
        retrieved(First(), corpus, queries, 1)
    assert module.CHUNK > 2 and asked == [list(OWN.values()), ["a", "b"]]


def test_lists_of_other_instructions_are_others(judged):
    one, other, none = (judged(name, own).lists() for name, own in (("a", OWN), ("b", {"q0": "x"}), ("c", {})))
    assert len({lists.fingerprint() for lists in (one, other, none)}) == 3
    assert len({Groups(lists, 1).settings()["lists"] for lists in (one, other, none)}) == 3


def test_a_teacher_is_asked_with_them(judged, tiny_model):
    teacher, lists = encoder(tiny_model), judged("toy").lists()
    targets = Scored(Judged(judged("toy2").dataset), encoder=teacher).lists().targets
    asked = teacher.encode_instructed(lists.queries.texts, lists.queries.instructions).vectors
    documents = teacher.encode_docs(lists.passages.texts(lists.rows)).vectors
    np.testing.assert_allclose(targets, (asked * documents).sum(1), rtol=1e-5)
