"""retrieval.train with everything that can be trained, on a small generated collection and tiny models."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from prf.ance_prf import ANCEPRF
from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.datasets.generated_limit import GeneratedLimit
from retrieval.encoders.towers import Towers
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.run_file import read_run
from retrieval.train import train
from retrieval.trained import Dev, dev_evaluation

MADE = {"documents": 8, "queries": 28, "distractors": 12, "items": 8, "train_queries": 28, "dev_queries": 10}
LIMIT = f"""\
dataset: &here {json.dumps({"type": "generated_limit", **MADE})}
groups: {{size: 3, negatives: random}}
dev: {{split: dev, measure: R@10, documents: 20}}
measures: [R@2, nDCG@10]
"""
TRAINER = (
    "trainer: {loss: {type: infonce, temperature: 0.05}, steps: 4, batch_size: 7, learning_rate: 1e-3, eval_steps: 2"
)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Run a recipe below tmp_path."""
    monkeypatch.chdir(tmp_path)

    def call(text, trainer="", *more):
        (tmp_path / "recipe.yaml").write_text(f"{LIMIT}{TRAINER}{trainer}}}\n{text}")
        return run(train, ["recipe.yaml", "out=out", *more])

    return call


def bi_encoder(tiny_model) -> str:
    return f"encoder: {{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32}}\n"


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_sparse_encoder_is_trained_with_a_regulariser_in_chunks(trained, tiny_mlm, tmp_path):
    encoder = f"encoder: {{type: splade, model: {tiny_mlm}, dtype: float32}}\n"
    options = ", doc_regularisers: [{type: flops, weight: 0.01}], regulariser_steps: 2, chunk_tokens: 200"
    results = trained(encoder, options, "dev=null")
    assert list(results)[:2] == ["zero-shot", "trained"] and len(losses(tmp_path / "out")) == 4
    assert results["trained"]["mean"] != results["zero-shot"]["mean"]


def test_a_late_interaction_encoder_is_trained_from_a_plain_model(trained, tiny_model, tmp_path):
    words = 'query_marker: "", doc_marker: "", query_length: 12, doc_length: 30, seed: 0, dtype: float32'
    results = trained(f"encoder: {{type: colbert, model: {tiny_model}, {words}}}\n", ", past: 20", "dev=null")
    assert results["trained"]["mean"] != results["zero-shot"]["mean"]
    assert len(read_run(tmp_path / "out" / "trained.parquet").query_ids) == 28


def test_a_cross_encoder_is_trained_on_its_own_lists_and_reranks_the_first_pass(trained, tiny_model, tmp_path):
    reranker = f"reranker: {{type: cross_encoder, model: {tiny_model}, seed: 0, dtype: float32}}\n"
    results = trained(reranker + "first: bm25\ndepth: 10\n", ", in_batch: false")
    assert list(results)[:2] == ["first pass", "trained"] and results["first pass"]["mean"]["R@2"] == 1
    first, second = (read_run(tmp_path / "out" / f"{name}.parquet") for name in ("first pass", "trained"))
    for before, after in zip(first.rows[:, :10], second.rows[:, :10], strict=True):
        assert set(before[before >= 0]) == set(after[after >= 0])


TUNINGS = ["{type: lora, r: 2}", "{type: lora, r: 2, side: queries}", "{type: soft_prompt, tokens: 3}", "query_side"]


@pytest.mark.parametrize("tuning", TUNINGS)
def test_each_tuning_is_measured_with_what_it_saved(trained, tiny_model, tmp_path, tuning):
    trained(bi_encoder(tiny_model) + f"tuning: {tuning}\n", "", "dev=null")
    out, options = tmp_path / "out", {"pooling": "mean", "dtype": "float32"}
    start, whole = Transformer(str(tiny_model), **options), "side" not in tuning and "lora" in tuning
    if tuning == "query_side":
        made: Any = Towers(Transformer(str(out / "model"), dtype="float32"), start)
    elif whole:
        made = Transformer(str(out / "model"), dtype="float32")
    else:
        made = Transformer(str(tiny_model), query_adapter=str(out / "model"), **options)
    collection = GeneratedLimit(**MADE).open()
    by_hand = DenseRetriever(made, Flat())
    by_hand.open(collection.corpus, tmp_path / "by_hand")
    expected = by_hand.retrieve(collection.queries("test"), 1000)
    found, before = (read_run(out / f"{name}.parquet", docs=collection.corpus.ids) for name in ("trained", "zero-shot"))
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert not np.array_equal(found.scores, before.scores)


def feedback(tiny_model, data="feedback_texts", model="ance_prf") -> str:
    encoder = f"{{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32}}"
    reader = f"{{type: ance_prf, encoder: {encoder}, fb_docs: 2}}" if model == "ance_prf" else model
    first = f"{{type: dense, encoder: {encoder}, index: flat}}"
    listed = (
        "data:\n  type: feedback_texts\n  source: {type: judged, dataset: *here}\n  dataset: *here\n"
        f"  retriever: {first}\n  model: {reader}\n"
    )
    text = f"encoder: {encoder}\nreader: {reader}\nfirst: {first}\ndepth: 10\n"
    return text + (listed if data == "feedback_texts" else "")


@pytest.mark.parametrize("tuning", ["full", *TUNINGS])
def test_documents_are_encoded_again_where_their_weights_were_trained_alone(trained, tiny_model, monkeypatch, tuning):
    encoded, encode = list[int](), Transformer.encode_docs
    monkeypatch.setattr(
        Transformer, "encode_docs", lambda self, texts: encoded.append(len(texts)) or encode(self, texts)
    )
    trained(bi_encoder(tiny_model) + f"tuning: {tuning}\n")
    dev, whole = [20], [32]  # of 33 documents two are the same text
    assert encoded == (dev + whole if tuning in TUNINGS[1:] else dev * 3 + whole * 2)  # steps 0, 2, 4; before, after


def test_the_first_pass_of_a_reranker_is_indexed_in_the_cache_alone(trained, tiny_model, tmp_path):
    reranker = f"reranker: {{type: cross_encoder, model: {tiny_model}, seed: 0, dtype: float32}}\n"
    trained(reranker + "first: bm25\ndepth: 10\n", ", in_batch: false")
    assert sorted(one.name for one in (tmp_path / "out").iterdir() if one.is_dir()) == ["checkpoints", "model"]


def test_queries_are_read_with_their_feedback_over_a_frozen_index(trained, tiny_model, tmp_path):
    results = trained(feedback(tiny_model) + "tuning: query_side\n", "", "dev=null", "data.source.split=test")
    assert results["contamination"]["test queries trained on"] == 28
    assert results["truncated documents"] == 33  # each once, though two passes search them
    collection = GeneratedLimit(**MADE).open()
    start = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    dense, reader = DenseRetriever(start, Flat()), ANCEPRF(Transformer(str(tmp_path / "out/model"), dtype="float32"), 2)
    by_hand = FeedbackRetriever(dense, reader, DenseRetriever(start, Flat()), 10)
    by_hand.open(collection.corpus, tmp_path / "by_hand")
    found = read_run(tmp_path / "out" / "trained.parquet", docs=collection.corpus.ids)
    np.testing.assert_array_equal(found.rows, by_hand.retrieve(collection.queries("test"), 1000).rows)


def test_a_reader_may_read_what_another_retriever_than_its_own_finds(trained, tiny_model, tmp_path):
    text = feedback(tiny_model)
    first = text.partition("first: ")[2].partition("\n")[0]
    results = trained(text.replace(first, "bm25") + "tuning: query_side\n", "", "dev=null")
    collection = GeneratedLimit(**MADE).open()
    dense = DenseRetriever(Transformer(str(tiny_model), pooling="mean", dtype="float32"), Flat())
    reader = ANCEPRF(Transformer(str(tmp_path / "out/model"), dtype="float32"), 2)
    reader.separator = Transformer(str(tiny_model), pooling="mean", dtype="float32").separator
    by_hand = FeedbackRetriever(BM25(), reader, dense, 10)
    by_hand.open(collection.corpus, tmp_path / "by_hand")
    found = read_run(tmp_path / "out" / "trained.parquet", docs=collection.corpus.ids)
    np.testing.assert_array_equal(found.rows, by_hand.retrieve(collection.queries("test"), 1000).rows)
    assert results["truncated documents"] == 33


def test_a_reader_is_trained_as_it_is_measured(trained, tiny_model, capsys):
    ours = feedback(tiny_model)
    for number, (text, says, *more) in enumerate(
        (
            (feedback(tiny_model, data="none"), "data has to be of type feedback_texts"),
            (ours, "a reader searches an index that stays, and Full trains documents: use query_side"),
            (feedback(tiny_model, "none", "average"), "Average reads no documents with an encoder"),
            (f"{ours}tuning: query_side\n", "reader and data.model differ", "reader.fb_docs=1"),
            (f"{ours}tuning: query_side\n", "reader and data.model differ", "data.model.separator=' ::: '"),
            (f"{ours}tuning: query_side\n", "first and data.retriever differ", "data.retriever.encoder.pooling=cls"),
        )
    ):
        with pytest.raises(SystemExit):
            trained(text, "", f"out=out{number}", *more)
        assert says in capsys.readouterr().err


def test_negatives_are_mined_anew_while_training(trained, tiny_model, tmp_path):
    mined = (
        "data:\n  type: mined\n  source: {type: judged, dataset: *here}\n  dataset: *here\n  retriever: bm25\n"
        "  mining: {k: 2, last_rank: 10, near_duplicate: null}\n"
    )
    results = trained(bi_encoder(tiny_model) + mined, ", refresh_steps: 2", "groups.negatives=judged")
    (path,) = (tmp_path / "out" / "refreshed").iterdir()
    collection, bm25 = GeneratedLimit(**MADE).open(), BM25()
    bm25.open(collection.corpus, tmp_path / "bm25")
    found, first = read_run(path, docs=collection.corpus.ids), bm25.retrieve(collection.queries("train"), 10)
    assert path.name == "2.parquet" and not np.array_equal(found.rows, first.rows)
    assert results["training groups"]["groups"] == 28


def test_negatives_are_mined_anew_where_they_were_mined_not_where_it_is_tested(trained, tiny_model, tmp_path):
    other = json.dumps({"type": "generated_limit", **MADE, "seed": 7})
    mined = (
        f"data:\n  type: mined\n  source: {{type: judged, dataset: {other}}}\n  dataset: {other}\n  retriever: bm25\n"
        "  mining: {k: 2, last_rank: 10, near_duplicate: null}\n"
    )
    trained(bi_encoder(tiny_model) + mined, ", refresh_steps: 2", "groups.negatives=judged")
    mine = GeneratedLimit(**MADE, seed=7).open()
    assert mine.corpus.fingerprint != GeneratedLimit(**MADE).open().corpus.fingerprint
    found = read_run(tmp_path / "out" / "refreshed" / "2.parquet", mine.queries("train").ids, mine.corpus.ids)
    assert (found.rows >= 0).all()


def test_batches_of_one_topic_are_other_batches(trained, tiny_model, tmp_path):
    topics = (
        f"topics: {{size: 14, encoder: {{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32}}}}\n"
    )
    trained(bi_encoder(tiny_model) + topics, "", "dev=null")
    trained(bi_encoder(tiny_model), "", "dev=null", "out=plain")
    assert len(losses(tmp_path / "out")) == 4 and losses(tmp_path / "out") != losses(tmp_path / "plain")


def test_what_training_and_test_share_stands_beside_the_figures(trained, tiny_model, capsys):
    results = trained(bi_encoder(tiny_model), "", "split=test")
    shared = results["contamination"]
    assert shared["test queries"] == shared["test queries trained on"] == 28
    assert "test queries trained on 28" in capsys.readouterr().out


def test_misspelt_queries_are_counted_and_held_out_as_they_were_asked(trained, tiny_model):
    typos = "data: {type: typos, source: {type: judged, dataset: *here, split: test}, added: true, share: 1, rate: 1}\n"
    assert trained(bi_encoder(tiny_model) + typos)["contamination"]["test queries trained on"] == 28
    own = typos.replace(", split: test", "")
    results = trained(bi_encoder(tiny_model) + own, "", "dev.split=null", "dev.queries=5", "out=other")
    assert results["training groups"]["groups"] == 2 * (28 - 5)


@pytest.mark.parametrize("more", ["dev.split=test", "split=test dev.split=null"])
def test_a_checkpoint_chosen_on_the_test_set_is_refused(trained, tiny_model, capsys, more):
    with pytest.raises(SystemExit):
        trained(bi_encoder(tiny_model), "", *more.split())
    assert "dev queries are test queries" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one is trained: give an encoder or a reranker"),
        ("encoder: transformer\nfirst: bm25\n", "first is the first pass of a reranker or of a reader"),
        ("reranker: {type: cross_encoder, model: x}\n", "works on what a first pass found: give first"),
        (
            "encoder: {type: api, model: m, url: 'http://127.0.0.1:1/v1', dimensions: 4}\n",
            "cannot be trained: it has no trainable",
        ),
        ("encoder: transformer\nbaselines: {trained: bm25}\n", "'trained' cannot name one"),
    ],
)
def test_what_cannot_be_trained_is_one_line(trained, capsys, text, says):
    with pytest.raises(SystemExit) as stopped:
        trained(text)
    assert stopped.value.code == 1 and says in capsys.readouterr().err


def test_mining_anew_needs_mined_data(trained, tiny_model, capsys):
    with pytest.raises(SystemExit):
        trained(bi_encoder(tiny_model), ", refresh_steps: 2")
    assert "data has to be of type mined" in capsys.readouterr().err


def test_dev_leaves_out_documents_of_the_query_s_own_id_as_the_test_does(tmp_path):
    write_collection(
        tmp_path / "own",
        [("a", "", "otters swim in rivers"), ("b", "", "otters swim")],
        {"a": "otters swim in rivers"},
        {"test": {"a": {"b": 1}}},
    )

    class Same:
        part = property(lambda self: self)

        def stays(self, model):
            return False

        def around(self, part):
            return BM25() if part is self else self

    for excludes, expected in ((True, 1.0), (False, 0.5)):
        collection = Collection(tmp_path / "own", excludes_self=excludes)
        held_out = collection.queries("test"), collection.qrels("test")
        measured = dev_evaluation(collection, held_out, Dev(measure="RR@10"), Same(), 0)
        assert measured(None) == {"RR@10": expected}
