"""Run and judgement files: what is written comes back, what is malformed is named, nothing is half written."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from retrieval import columns, run_file
from retrieval.ids import DocIds, encode_id
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.run_file import read_run, write_run
from retrieval.types import Qrels, Run

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
# Arrow takes U+FEFF at the start of a file for a mark
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1, max_size=6)
FLOATS = st.floats(width=32, allow_nan=False)
LINES = "q1 Q0 d1 1 2.5 bm25\nq1 Q0 d2 2 2.5 bm25\nq2 Q0 d1 1 -1e-5 bm25\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def file(folder: Path, text: str | bytes, name: str = "a.trec") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


@st.composite
def runs(draw):
    """Runs of up to four queries over up to six documents, some lists short or empty."""
    docs = DocIds.of(draw(st.lists(TEXT, min_size=1, max_size=6, unique=True)))
    queries = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    shape = (len(queries), len(docs))
    rows = np.tile(np.arange(len(docs), dtype=np.int32), (len(queries), 1))
    rows[draw(some.arrays(bool, shape))] = -1
    scores = draw(some.arrays(np.float32, shape, elements=st.one_of(st.sampled_from([0.0, 0.5]), FLOATS)))
    return Run.ordered(queries, docs, rows, scores, draw(TEXT))


def same(one: Run, other: Run) -> bool:
    return (one.query_ids, one.name, one.to_dict()) == (other.query_ids, other.name, other.to_dict()) and (
        [list(found) for found in one.to_dict().values()] == [list(found) for found in other.to_dict().values()]
    )


@pytest.mark.parametrize("suffix", ["trec", "trec.gz", "parquet"])
@UNHURRIED
@given(run=runs())
def test_a_run_comes_back(folder, suffix, run):
    path = folder / f"run.{suffix}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_file, "_RESULTS", 4)  # so that they are written in several pieces
        write_run(run, path)
    queries = None if suffix == "parquet" else run.query_ids  # TREC files have no empty queries
    name = None if (run.rows >= 0).any() or suffix == "parquet" else run.name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_BLOCK", 512)  # so that results lie in several blocks
        with_own_table = read_run(path, queries, name=name)
    assert same(with_own_table, Run(tuple(run.query_ids), run.docs, run.rows, run.scores, run.name))
    assert len(with_own_table.docs) == len(set(run.rows[run.rows >= 0].tolist()))
    with_corpus = read_run(path, queries, run.docs)
    longest = with_corpus.rows.shape[1]
    assert np.array_equal(with_corpus.rows, run.rows[:, :longest]) and (run.rows[:, longest:] == -1).all()
    assert np.array_equal(with_corpus.scores.view(np.int32), run.scores[:, :longest].view(np.int32))


@UNHURRIED
@given(some.arrays(np.float32, 64, elements=FLOATS))
def test_scores_are_written_with_the_fewest_digits_that_bring_the_float_back(scores):
    texts = bytes(columns.joined([scores, pa.array(["\n"] * len(scores))])).decode().splitlines()
    for text, score in zip(texts, scores, strict=True):
        assert np.float32(text.strip()).view(np.int32) == score.view(np.int32)
        assert digits(text) <= digits(np.format_float_scientific(score, unique=True, trim="-"))


def digits(number: str) -> int:
    return len(number.strip(" -").split("e")[0].replace(".", "").strip("0"))


def test_a_trec_file_is_the_format_every_tool_knows(folder):
    docs = DocIds.of(["d 1", "50%"])
    run = Run.ordered(["q\t1"], docs, np.array([[0, 1]], np.int32), np.array([[0.1, 0.1]], np.float32), "my run")
    write_run(run, folder / "known.trec")
    assert (folder / "known.trec").read_text() == "q%091 Q0 d%201 1 0.1 my%20run\nq%091 Q0 50%25 2 0.1 my%20run\n"


def test_order_comes_from_score_and_id_not_from_rank_or_place(folder):
    text = "q Q0 a 1 1 t\nq Q0 c 2 1.0 t\np Q0 a 1 5 t\nq Q0 b 9 7 t\n"
    found = read_run(file(folder, text))
    assert [(query, list(docs)) for query, docs in found.to_dict().items()] == [("q", ["b", "c", "a"]), ("p", ["a"])]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace(" ", "   "),
        lambda text: text.replace(" ", " \t ").replace("\n", " \r\n"),
        lambda text: "\n" + text.replace("\n", "\n\n  \n  ")[:-3],
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 64])
def test_white_space_of_any_kind_separates(folder, monkeypatch, change, block):
    monkeypatch.setattr(columns, "_BLOCK", block)  # several blocks, cut inside lines
    assert read_run(file(folder, change(LINES))).to_dict() == read_run(file(folder, LINES, "plain")).to_dict()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("q2 Q0 d2 2 1.5", "expected 6 columns .* white space, found 5"),
        ("q2 Q0 d2  1.5 bm25", "found 5"),
        ("q2 Q0 d2 2 1.5 my run", "found 7"),
        ("q2 Q0 d2 2 1.5 bm25\tx", "found 7"),
        ("q2 Q0 d2 2 high bm25", "score 'high' is not a number"),
        ("q2 Q0 d2 2 NaN bm25", "score 'NaN' is not a number"),
        ("q1 Q0 d1 9 0.5 bm25", "document 'd1' is there twice for query 'q1', first on line 1"),
        ("q2 Q0 d\udcff 2 1.5 bm25", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(folder, line, complaint):
    path = file(folder, (LINES + line + "\n").encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=f"^{path}:4: .*{complaint}"):
        read_run(path)


def test_a_run_of_other_queries_is_refused_with_counts(folder):
    with pytest.raises(
        ValueError, match="1 of its 2 queries, such as 'q2', are not among the 2 asked for, such as 'q'"
    ):
        read_run(file(folder, LINES), ["q", "q1"])
    with pytest.raises(ValueError, match="2 query ids .* only 1 of them distinct"):
        read_run(file(folder, LINES), ["q1", "q1"])


def test_documents_that_the_corpus_lacks_are_refused_with_counts(folder):
    with pytest.raises(ValueError, match="1 of its 2 documents are not among the 3 of the corpus, the first is 'd1'"):
        read_run(file(folder, LINES), docs=DocIds.of(["d2", "d3", "d4"]))


def test_an_empty_file_is_a_run_without_results(folder):
    found = read_run(file(folder, "", "empty.trec"), ["q1", "q2"])
    assert (found.rows.shape, found.query_ids, found.name) == ((2, 0), ("q1", "q2"), "empty")
    write_run(found, folder / "again.trec")
    assert (folder / "again.trec").read_bytes() == b""


def test_two_spellings_of_an_id_are_one(folder):
    assert read_run(file(folder, "50% Q0 a 1 2 t\n50%25 Q0 b 2 1 t\n")).to_dict() == {"50%": {"a": 2, "b": 1}}
    assert read_qrels(file(folder, "q 0 50% 1\nq 0 50%25 1\n50% 0 a 1\n")).to_dict() == {
        "q": {"50%": 1},
        "50%": {"a": 1},
    }
    with pytest.raises(ValueError, match="a.trec:2: document '50%' is there twice .* first on line 1"):
        read_run(file(folder, "q Q0 50% 1 2 t\nq Q0 50%25 2 1 t\n"))
    with pytest.raises(ValueError, match="a.trec:2: document '50%' has grade 0 .* grade 1 on line 1"):
        read_qrels(file(folder, "q 0 50% 1\nq 0 50%25 0\n"))


def test_the_name_is_that_of_the_file_unless_given(folder):
    assert read_run(file(folder, LINES)).name == "bm25"
    assert read_run(file(folder, LINES), name="mine").name == "mine"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder):
    path = file(folder, LINES, "whole.trec")
    before = sorted(folder.iterdir())
    many = DocIds.of(["d", ""])
    broken = Run.ordered(["q1", "q2"], many, np.array([[0], [1]], np.int32), np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match="document id is empty"):
        write_run(broken, path)
    assert path.read_text() == LINES and sorted(folder.iterdir()) == before


def test_a_gzip_file_cut_short_is_not_taken_for_whole(folder):
    whole = gzip.compress(LINES.encode() * 50)
    for broken in (whole[:-12], whole[: len(whole) // 2], LINES.encode()):
        with pytest.raises(ValueError, match=r"cut\.trec\.gz is not a whole gzip file"):
            read_run(file(folder, broken, "cut.trec.gz"))


def test_a_parquet_run_is_refused_for_another_corpus_and_when_it_is_not_whole(folder):
    docs = DocIds.of(["d1", "d2"], "corpus-a")
    run = Run.ordered(["q"], docs, np.array([[0, 1]], np.int32), np.array([[1, 2]], np.float32))
    path = folder / "corpus.parquet"
    write_run(run, path)
    assert read_run(path, docs=docs).to_dict() == read_run(path).to_dict() == run.to_dict()
    with pytest.raises(ValueError, match="made on the corpus corpus-a and is read for corpus-b"):
        read_run(path, docs=DocIds.of(["d1", "d2"], "corpus-b"))
    with pytest.raises(ValueError, match=r"cut\.parquet is no Parquet run"):
        read_run(file(folder, path.read_bytes()[:-9], "cut.parquet"))


@pytest.mark.parametrize(
    ("order", "queries", "complaint"),
    [([1, 0], ["q"], "not ordered"), ([0, 0], ["q"], "twice"), ([0, 1], ["p"], "changed after write_run")],
)
def test_a_parquet_run_that_was_changed_is_refused(folder, order, queries, complaint):
    from pyarrow import parquet

    table = pa.table({"query": ["q", "q"], "document": ["a", "b"], "score": np.array([2, 1], np.float32)})
    table = table.take(order).cast(
        pa.schema({"query": pa.large_string(), "document": pa.large_string()} | {"score": pa.float32()})
    )
    about = {"query_ids": queries, "name": "run", "docs": "ids-0"}
    parquet.write_table(table.replace_schema_metadata({"run": json.dumps(about)}), folder / "changed.parquet")
    with pytest.raises(ValueError, match=f"changed.parquet.*{complaint}"):
        read_run(folder / "changed.parquet")


@pytest.mark.parametrize(
    ("score", "complaint"), [(None, "has gaps.* changed after write_run"), (np.nan, "query 'q': a score is NaN")]
)
def test_a_parquet_run_without_a_score_is_refused(folder, score, complaint):
    from pyarrow import parquet

    table = pa.table({"query": ["q", "q"], "document": ["a", "b"], "score": pa.array([2, score], pa.float32())})
    table = table.cast(pa.schema({"query": pa.large_string(), "document": pa.large_string(), "score": pa.float32()}))
    about = {"query_ids": ["q"], "name": "run", "docs": "ids-0"}
    parquet.write_table(table.replace_schema_metadata({"run": json.dumps(about)}), folder / "gap.parquet")
    with pytest.raises(ValueError, match=f"gap.parquet.*{complaint}"):
        read_run(folder / "gap.parquet")


@UNHURRIED
@given(run=runs())
def test_a_parquet_run_of_before_ranks_were_kept_is_read_as_well(folder, run):
    from pyarrow import parquet

    write_run(run, folder / "ranked.parquet")
    parquet.write_table(parquet.read_table(folder / "ranked.parquet").drop(["rank"]), folder / "before.parquet")
    before, ranked = read_run(folder / "before.parquet"), read_run(folder / "ranked.parquet")
    assert same(before, ranked) and sorted(before.docs.values.to_pylist()) == sorted(ranked.docs.values.to_pylist())


BEIR = 'query-id\tcorpus-id\tscore\r\nq 1\tOlinda Posso\t2\r\nq 1\t"d\t0\r\nq2\t50%20\t-1\r\n'
JUDGED = {"q 1": {"Olinda Posso": 2, '"d': 0}, "q2": {"50%20": -1}}


def test_beir_and_trec_judgements_are_told_apart(folder):
    found = read_qrels(file(folder, BEIR, "test.tsv"))
    assert found.to_dict() == JUDGED
    write_qrels(found, folder / "test.qrels.gz")
    assert gzip.open(folder / "test.qrels.gz").read() == b'q%201 0 Olinda%20Posso 2\nq%201 0 "d 0\nq2 0 50%2520 -1\n'
    assert read_qrels(folder / "test.qrels.gz").to_dict() == JUDGED
    assert read_qrels(file(folder, "q1\t0\td\t1\nq1 0  e 2\n", "tabs")).to_dict() == {"q1": {"d": 1, "e": 2}}


@UNHURRIED
@given(st.dictionaries(TEXT, st.dictionaries(TEXT, st.integers(-3, 5), min_size=1, max_size=4), min_size=1, max_size=4))
def test_judgements_come_back(folder, judged):
    write_qrels(Qrels.from_dict(judged), folder / "qrels")
    assert read_qrels(folder / "qrels").to_dict() == judged


def test_judgements_of_a_query_that_stand_apart_are_brought_together(folder):
    found = read_qrels(file(folder, "b 0 x 1\na 0 y 2\nb 0 z 3\n"))
    assert found.query_ids == ("b", "a") and found.query.tolist() == [0, 0, 1]
    assert found.to_dict() == {"b": {"x": 1, "z": 3}, "a": {"y": 2}}


def test_a_judgement_given_again_is_kept_once_with_a_warning(folder, caplog):
    with caplog.at_level(logging.WARNING):
        found = read_qrels(file(folder, "q 0 a 1\nq 0 b 0\nq 0 a 1\n"))
    assert found.to_dict() == {"q": {"a": 1, "b": 0}} and len(found) == 2
    assert "1 judgements are given again" in caplog.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("q 0 d%201 1\nq 0 d%201 1\nq 0 d%201 0\n", ":3: document 'd 1' has grade 0 .* and grade 1 on line 2: keep"),
        ("query-id\tcorpus-id\tscore\nq\ta b\t1\nq\ta b\t2\n", ":3: document 'a b' has grade 2 .* grade 1 on line 2"),
        ("query-id\tcorpus-id\tscore\nq\ta b\n", ":2: expected 3 columns .* separated by tabs, found 2"),
        ("query-id\tcorpus-id\tscore\nq\ta b\t1.5\n", ":2: score '1.5' is not a whole number"),
        ("query-id\tcorpus-id\tscore\nq\t\t1\n", ":2: corpus-id '' is empty"),
        ("q\ta b\t1\n", r":1: expected the header 'query-id\\tcorpus-id\\tscore'"),
        ("q 0 d\n", ":1: expected 4 columns .* found 3"),
        ("q 0 d 99999999999\n", ":1: grade '99999999999' is not a whole number"),
        ("query-id\tcorpus-id\tscore\n", " holds no judgements"),
    ],
)  # fmt: skip
def test_a_bad_judgement_is_named(folder, text, complaint):
    path = file(folder, text)
    with pytest.raises(ValueError, match=f"^{path}{complaint}"):
        read_qrels(path)


def test_a_query_without_judgements_cannot_be_written(folder):
    with pytest.raises(ValueError, match="1 of 2 queries have no judgement"):
        write_qrels(Qrels.from_dict({"q": {"d": 1}, "none": {}}), folder / "qrels")


def test_official_judgements_load_with_their_counts(data):
    found = read_qrels(data / "nfcorpus" / "qrels" / "test.tsv")
    assert (len(found.query_ids), len(found)) == (323, 12334)
    assert (found.query_ids[0], found.doc_ids[0].as_py(), found.grades[0]) == ("PLAIN-2", "MED-2427", 2)
    with_spaces = read_qrels(data / "limit-small" / "qrels" / "test.tsv")
    assert encode_id(with_spaces.doc_ids[0].as_py()) == "Geneva%20Durben"
