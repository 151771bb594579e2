"""The store of generations: what is kept is found again, by several processes, through kills and broken files."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.sampling import Request, Sampling
from retrieval.store import GenerationStore, key, plain
from retrieval.types import Generation

MODEL = plain({"model": "m", "revision": "1"})
CHAT = [{"role": "user", "content": "What do otters eat? 水獺"}]
ANSWER = Generation("Fish.\n\x00 🦦 “crabs”", 12, 5, "stop", (-0.1, -1e-17, float("-inf")))

SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.integers(1, 9),
    temperature=st.sampled_from([0, 0.0, -0.0, 0.5, 1, 1.0]),
    top_p=st.sampled_from([1, 1.0, 0.5]),
    top_k=st.none() | st.integers(1, 3),
    repetition_penalty=st.sampled_from([1, 1.0, 1.5]),
    stop=st.lists(st.text(min_size=1, max_size=2), max_size=2),
    seed=st.integers(0, 3),
    logprobs=st.booleans(),
)
TURNS = st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": st.text(max_size=4)})
REQUESTS = st.builds(
    Request, messages=st.lists(TURNS, max_size=2), sampling=SAMPLINGS, sample=st.integers(0, 2)
) | st.builds(Request, prompt=st.text(max_size=4), sampling=SAMPLINGS, sample=st.integers(0, 2))


@pytest.fixture
def store(tmp_path):
    one = GenerationStore(tmp_path / "store" / "generations.sqlite")
    yield one
    one.close()


def asked(number=0, **sampling):
    return Request([*CHAT, {"role": "user", "content": str(number)}], None, Sampling(**sampling))


def failing(why="the server is gone"):
    return Generation("", failure=why)


def test_an_answer_comes_back_as_it_was(store):
    store.keep(MODEL, asked(), ANSWER, 1.5)
    found, seconds = store.find([key(MODEL, asked())])[key(MODEL, asked())]
    assert replace(found, logprobs=tuple(found.logprobs)) == ANSWER and seconds == 1.5
    other = GenerationStore(store.path)
    assert other.find([key(MODEL, asked())]) == {key(MODEL, asked()): (found, 1.5)}
    other.close()


def test_what_was_not_asked_is_not_found(store):
    store.keep(MODEL, asked(), ANSWER, 1.0)
    assert store.find([key(MODEL, asked(1)), key(plain({"model": "m", "revision": "2"}), asked())]) == {}
    assert store.find([]) == {}


def test_many_answers_are_found_by_their_own_keys(store):
    for number in range(1203):
        store.keep(MODEL, asked(number), Generation(f"answer {number}"), 0.0)
    keys = [key(MODEL, asked(number)) for number in range(0, 2406, 2)]
    found = store.find(keys)
    assert [found[name][0].text for name in keys[:602]] == [f"answer {number}" for number in range(0, 1203, 2)]
    assert len(found) == 602


@given(REQUESTS, REQUESTS)
@settings(deadline=None)
def test_two_requests_share_a_key_exactly_where_they_are_equal(one, other):
    same = (one.messages, one.prompt, one.sampling, one.sample) == (
        other.messages,
        other.prompt,
        other.sampling,
        other.sample,
    )
    assert (key(MODEL, one) == key(MODEL, other)) == same


OTHERS = {
    "max_tokens": 77,
    "temperature": 0.1,
    "top_p": 0.9,
    "top_k": 77,
    "repetition_penalty": 1.1,
    "stop": ["long"],
    "seed": 77,
    "logprobs": None,  # the other one
}


@given(REQUESTS)
@settings(deadline=None, max_examples=25)
def test_requests_that_differ_in_one_sampling_parameter_share_no_key(request):
    assert set(OTHERS) == {field.name for field in fields(Sampling)}  # a new parameter needs a line above
    others = OTHERS | {"logprobs": not request.sampling.logprobs}
    neighbours = [replace(request, sampling=replace(request.sampling, **{name: to})) for name, to in others.items()]
    neighbours.append(replace(request, sample=9))
    assert len({key(MODEL, one) for one in neighbours}) == len(neighbours)
    assert key(MODEL, request) not in {key(MODEL, one) for one in neighbours}


def test_a_chat_and_a_prompt_of_the_same_words_share_no_key():
    assert key(MODEL, Request([{"role": "user", "content": "a"}])) != key(MODEL, Request(None, "a"))


def test_an_int_for_a_float_asks_the_same():
    assert key(MODEL, asked(temperature=1, top_p=1)) == key(MODEL, asked(temperature=1.0))


@given(REQUESTS)
@settings(deadline=None)
def test_a_request_is_made_again_of_what_it_tells_of_itself(request):
    again = Request.of(json.loads(plain(request.about())))
    assert plain(again.about()) == plain(request.about())


def test_the_first_answer_stays_and_is_what_a_second_process_goes_on_with(store):
    assert store.keep(MODEL, asked(), Generation("first", 1, 1), 1.0).text == "first"
    assert store.keep(MODEL, asked(), Generation("second", 1, 1), 1.0).text == "first"
    assert store.statistics()[0]["answers"] == 1


def test_half_a_character_is_replaced_in_the_run_that_asked_as_in_the_next(store):
    now = store.keep(MODEL, asked(), Generation("an otter \ud83e", 1, 1), 1.0)
    assert now.text == "an otter \ufffd"
    assert store.find([key(MODEL, asked())])[key(MODEL, asked())][0].text == now.text
    assert store.keep(MODEL, asked(1), Generation("\ud83e\udda6"), 1.0).text == "🦦"


def test_numbers_of_numpy_are_kept(store):
    kept = Generation("a", np.int64(3), np.int64(2), "stop", [np.float32(-0.5)])
    assert store.keep(MODEL, asked(), kept, np.float64(0.5)) == Generation("a", 3, 2, "stop", [-0.5])


def test_a_failure_is_recorded_and_asked_again_until_there_is_an_answer(store):
    store.keep(MODEL, asked(), failing(), 0.25)
    store.keep(MODEL, asked(), failing("it says \ud800"), 0.25)
    assert store.find([key(MODEL, asked())]) == {}
    store.keep(MODEL, asked(), ANSWER, 1.0)
    assert store.find([key(MODEL, asked())])
    (about,) = store.statistics()
    assert (about["answers"], about["failures"], about["seconds"]) == (1, 2, 1.5)
    with sqlite3.connect(store.path) as raw:
        assert [why for (why,) in raw.execute("select failure from failures")] == [
            "the server is gone",
            "it says \ufffd",
        ]


def test_statistics_are_of_each_model(store):
    other = plain({"model": "a", "revision": "1"})
    for number in range(3):
        store.keep(MODEL, asked(number), Generation("x", 10, 2), 0.5)
    store.keep(other, asked(), Generation("y", 7, 1), 0.25)
    store.note(other, 4), store.note(other, 2)
    assert store.statistics() == [
        {"model": json.loads(other), "answers": 1, "failures": 0, "hits": 6}
        | {"tokens in": 7, "tokens out": 1, "seconds": 0.25},
        {"model": json.loads(MODEL), "answers": 3, "failures": 0, "hits": 0}
        | {"tokens in": 30, "tokens out": 6, "seconds": 1.5},
    ]


def test_an_empty_store_says_so(store, tmp_path):
    assert store.statistics() == [] and store.export(tmp_path / "none.jsonl") == 0
    assert store.load(tmp_path / "none.jsonl") == 0


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_what_is_exported_loaded_and_exported_again_is_the_same_bytes(store, tmp_path, name):
    for number, answer in enumerate([ANSWER, Generation("", 0, 0), Generation("ünï", 1, 2, "length", [])]):
        store.keep(MODEL, asked(number, temperature=0.7, stop=["\n"]), answer, number / 3)
    store.keep(plain({"model": "n"}), Request(None, "Once", Sampling(seed=3), 4), ANSWER, 0.1)
    store.keep(MODEL, asked(9), failing(), 0.0)
    assert store.export(tmp_path / name) == 4
    other = GenerationStore(tmp_path / "other.sqlite")
    assert other.load(tmp_path / name) == 4 and other.load(tmp_path / name) == 0
    other.export(tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()
    assert key(plain({"model": "n"}), Request(None, "Once", Sampling(seed=3), 4)) in other.find(
        [key(plain({"model": "n"}), Request(None, "Once", Sampling(seed=3), 4))]
    )
    other.close()
    text = gzip.open(tmp_path / name).read() if name.endswith(".gz") else (tmp_path / name).read_bytes()
    assert len(text.splitlines()) == 4 and "水獺".encode() in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:-5], "not JSON"),
        (lambda line: b"[1]", "it has no keys, not model, request, text"),
        (lambda line: line.replace(b'"text":', b'"texts":'), "it has .*texts"),
        (lambda line: line.replace(b'"tokens_in":12', b'"tokens_in":"12"'), "tokens_in is '12'"),
        (lambda line: line.replace(b'"tokens_in":12', b'"tokens_in":-1'), "tokens_in is '-1'"),
        (lambda line: line.replace(b'"tokens_in":12', b'"tokens_in":' + b"9" * 30), "tokens_in is '999"),
        (lambda line: line.replace(b'"finish_reason":"stop"', b'"finish_reason":3'), "finish_reason is '3'"),
        (lambda line: line.replace(b"Fish", b"\\ud800"), "not JSON"),
        (lambda line: line.replace(b"Fish", b"\xff"), "not JSON"),
        (lambda line: json.dumps(json.loads(line) | {"logprobs": ["a"]}).encode(), "logprobs is"),
        (lambda line: json.dumps(json.loads(line) | {"text": None}).encode(), "text is 'None'"),
        (lambda line: json.dumps(json.loads(line) | {"model": "m"}).encode(), "model is 'm'"),
    ],
)
def test_a_line_that_is_no_generation_is_named_and_nothing_is_taken(store, tmp_path, change, message):
    for number in range(3):
        store.keep(MODEL, asked(number), ANSWER, 0.0)
    path = tmp_path / "all.jsonl"
    store.export(path)
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, b"", change(second), third]))
    other = GenerationStore(tmp_path / "other.sqlite")
    with pytest.raises(ValueError, match=f"all.jsonl:3: .*{message}.*nothing was loaded"):
        other.load(path)
    assert other.statistics() == []
    other.close()


GONE = object()


def edited(path, **change):
    """Write a file of one answer anew, its request changed; GONE takes a field away."""
    record = json.loads(path.read_text())
    asked = record["request"] | change
    record["request"] = {name: value for name, value in asked.items() if value is not GONE}
    path.write_text(json.dumps(record))


def test_a_request_is_found_however_the_numbers_of_its_export_are_written(store, tmp_path):
    store.keep(MODEL, asked(temperature=1.0, max_tokens=64), ANSWER, 0.0)
    store.export(tmp_path / "all.jsonl")
    edited(tmp_path / "all.jsonl", temperature=1, top_p=1, max_tokens=64.0, sample=0.0)
    other = GenerationStore(tmp_path / "other.sqlite")
    assert other.load(tmp_path / "all.jsonl") == 1
    assert len(other.find([key(MODEL, asked(temperature=1.0, max_tokens=64))])) == 1
    other.close()
    assert store.load(tmp_path / "all.jsonl") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": GONE}, "it has .*, not .*seed"),
        ({"min_p": 0.5}, "it has .*min_p.*, not "),
        ({"prompt": "a"}, "it has .*, not logprobs, max_tokens, prompt"),
        ({"messages": "otter"}, "messages is 'otter'"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages is .*7"),
        ({"max_tokens": 6.5}, "max_tokens is a whole number, not 6.5"),
        ({"temperature": "hot"}, "a value is of another kind: "),
        ({"sample": "first"}, "sample is a whole number, not 'first'"),
    ],
)
def test_a_request_with_other_fields_or_values_is_named_by_its_line(store, tmp_path, change, message):
    store.keep(MODEL, asked(), ANSWER, 0.0)
    store.export(tmp_path / "all.jsonl")
    edited(tmp_path / "all.jsonl", **change)
    with pytest.raises(ValueError, match=f"all.jsonl:1: no exported generation .request: {message}"):
        store.load(tmp_path / "all.jsonl")


def test_a_file_that_is_not_there_or_cut_short_is_named(store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        store.load(tmp_path / "none.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz is not a whole gzip file"):
        store.load(tmp_path / "cut.jsonl.gz")


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "generations.sqlite"
    path.write_text("my notes, which are longer than a header of SQLite, for they are a hundred bytes and more. " * 3)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"generations\.sqlite is no store of generations; move it away, or let RETR"):
        GenerationStore(path).find([b"x"])
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", ["pragma user_version=2", "create table mine (a)"])
def test_another_database_or_version_is_refused_in_a_line_and_left_alone(store, make):
    store.keep(MODEL, asked(), ANSWER, 0.0)
    store.close()
    with sqlite3.connect(store.path) as raw:
        raw.execute(make)
    raw.close()
    with pytest.raises(ValueError, match="another database, or a store of generations of another version .., and 1 is"):
        store.find([key(MODEL, asked())])


def test_a_database_of_something_else_gets_no_tables(tmp_path):
    with sqlite3.connect(tmp_path / "x.sqlite") as raw:
        raw.execute("create table mine (a)")
    with pytest.raises(ValueError, match=r"x\.sqlite is another database"):
        GenerationStore(tmp_path / "x.sqlite").keep(MODEL, asked(), ANSWER, 0.0)
    assert raw.execute("select name from sqlite_master").fetchall() == [("mine",)]
    raw.close()


def test_a_folder_that_cannot_be_is_an_error_of_the_file_system(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        GenerationStore(tmp_path / "file" / "generations.sqlite").find([b"x"])
    with pytest.raises(OSError, match="cannot be read and written as a store of generations .unable to open"):
        (tmp_path / "folder.sqlite").mkdir()
        GenerationStore(tmp_path / "folder.sqlite").find([b"x"])


def test_a_folder_that_cannot_be_written_is_said_in_a_line():
    with tempfile.TemporaryDirectory() as name:
        folder, mine = Path(name), os.geteuid()
        store = GenerationStore(folder / "generations.sqlite")
        store.keep(MODEL, asked(), ANSWER, 0.0)
        store.close()
        store.path.chmod(0o444), folder.chmod(0o555)
        try:
            if mine == 0:
                os.seteuid(65534)  # root may write anywhere
            with pytest.raises(
                OSError, match="cannot be read and written as a store .*let RETRIEVAL_CACHE name anothe"
            ):
                store.find([key(MODEL, asked())])
        finally:
            os.seteuid(mine)
            folder.chmod(0o755)


WRITER = """
import sys
from pathlib import Path
from retrieval.sampling import Request
from retrieval.store import GenerationStore, plain
from retrieval.types import Generation
store = GenerationStore(Path(sys.argv[1]))
for number in range(60):
    mine = Request(None, f"{sys.argv[2]} {number}")
    store.keep(plain({"model": "m"}), mine, Generation(f"of {sys.argv[2]}", 1, 1), 0.0)
    store.keep(plain({"model": "m"}), Request(None, f"shared {number}"), Generation(f"of {sys.argv[2]}"), 0.0)
    store.note(plain({"model": "m"}), 1)
"""


def test_four_processes_write_at_once_and_no_answer_is_lost(tmp_path):
    path = tmp_path / "new" / "generations.sqlite"  # each of them finds no file
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 4
    store = GenerationStore(path)
    keys = [key(plain({"model": "m"}), Request(None, f"{n} {number}")) for n in range(4) for number in range(60)]
    assert len(store.find(keys)) == 240
    (about,) = store.statistics()
    assert (about["answers"], about["hits"]) == (300, 240)
    store.close()


def test_a_store_whose_making_was_cut_short_is_made(tmp_path):
    path = tmp_path / "generations.sqlite"
    path.write_bytes(b"")  # what a process leaves that was killed before its first write
    store = GenerationStore(path)
    store.keep(MODEL, asked(), ANSWER, 0.0)
    assert len(store.find([key(MODEL, asked())])) == 1
    store.close()


def test_the_store_is_in_the_cache_folder_and_not_made_before_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    store = GenerationStore()
    assert store.path == tmp_path / "cache" / "generations.sqlite" and not store.path.parent.exists()
