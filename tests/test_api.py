"""The API encoder against a server on this machine that answers, fails and errs as servers do."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from retrieval.encoders.api import Api
from retrieval.encoders.transformer import Transformer
from tests.conftest import TEXTS
from tests.serving import Server

KEY = "sk-secret-of-the-test"


def toy(text):
    return [float(len(text)), float(sum(map(ord, text)) % 97), 1.0]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = Server(lambda path, body: embeddings(found.vector, body))
    found.vector = toy
    yield found
    found.close()


def embeddings(vector, body):
    data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    return {"object": "list", "data": data[::-1], "model": body["model"], "usage": {"prompt_tokens": len(data)}}


def api(server, **settings):
    return Api(**{"url": server.url, "model": "toy", "dimensions": 3, "backoff": 0.001, **settings})


def expected(texts):
    return np.array([toy(text) for text in texts], np.float32)


def test_vectors_are_those_the_server_has_of_the_model(server, tiny_model):
    model = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    server.vector = lambda text: model.encode_docs([text]).vectors[0].tolist()
    found = api(server, dimensions=32, batch=3).encode_docs(TEXTS[:10])
    np.testing.assert_allclose(found.vectors, model.encode_docs(TEXTS[:10]).vectors, atol=1e-5)
    assert found.vectors.dtype == np.float32


def test_order_is_kept_over_batches_that_run_at_once(server):
    server.slow = 0.02
    found = api(server, batch=7, concurrency=4).encode_docs(TEXTS[:80])
    np.testing.assert_array_equal(found.vectors, expected(TEXTS[:80]))
    assert sorted(len(body["input"]) for _, _, body in server.requests) == [3, *[7] * 11]
    assert 1 < server.most_at_once <= 4


def test_a_request_is_what_the_api_says(server):
    api(server).encode_queries(["otter"])
    path, headers, body = server.requests[0]
    assert path == "/v1/embeddings" and headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "toy", "input": ["otter"], "encoding_format": "float"}


def test_shorter_vectors_are_asked_for_on_demand(server):
    api(server, shorten=True).encode_queries(["otter"])
    assert server.requests[0][2]["dimensions"] == 3


def test_prompts_come_first_and_each_side_has_its_own(server):
    encoder = api(server, query_prompt="ask: ", doc_prompt="read: ")
    encoder.encode_queries(["otter"])
    encoder.encode_docs(["otter"])
    assert [body["input"] for _, _, body in server.requests] == [["ask: otter"], ["read: otter"]]


def test_equal_texts_are_sent_once_and_empty_ones_not_at_all(server):
    found = api(server).encode_docs(["a", "", "bb", "a"])
    assert server.requests[0][2]["input"] == ["a", "bb"]
    np.testing.assert_array_equal(found.vectors, [toy("a"), [0, 0, 0], toy("bb"), toy("a")])


def test_no_texts_ask_nothing(server):
    assert api(server).encode_docs([]).vectors.shape == (0, 3) and not server.requests


def test_long_texts_are_cut_and_counted(server):
    found = api(server, max_chars=4).encode_docs(["otter", "comet", "sun"])
    assert found.truncated == 2 and server.requests[0][2]["input"] == ["otte", "come", "sun"]


def test_vectors_have_length_one_where_asked(server):
    found = api(server, normalize=True).encode_docs(["otter", ""]).vectors
    np.testing.assert_allclose(found[0], expected(["otter"])[0] / np.linalg.norm(toy("otter")), atol=1e-7)
    assert not found[1].any()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_asked_for_again(server, status):
    server.answers = [(status, {}, {"error": {"message": "busy"}})] * 3
    np.testing.assert_array_equal(api(server).encode_docs(["otter"]).vectors, expected(["otter"]))
    assert len(server.requests) == 4


def test_the_server_says_when_to_ask_again(server):
    server.answers = [(429, {"Retry-After": "1"}, b"")]
    api(server).encode_docs(["otter"])
    assert server.times[1] - server.times[0] >= 1


def test_waits_double(server):
    server.answers = [(500, {}, b"")] * 4
    api(server, backoff=0.02).encode_docs(["otter"])
    assert (np.diff(server.times) >= [0.02, 0.04, 0.08, 0.16]).all()


def test_a_server_too_slow_is_asked_again_and_then_given_up(server):
    server.slow = 0.5
    with pytest.raises(ConnectionError, match=r"/v1/embeddings does not answer, 2 times asked: .*[Rr]ead timed out"):
        api(server, timeout=0.05, retries=1).encode_docs(["otter"])
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_is_named(server):
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:1/embeddings does not answer, 1 times asked"):
        api(server, url="http://127.0.0.1:1", retries=0).encode_docs(["otter"])


def test_a_server_that_stays_busy_is_given_up_with_its_message(server):
    server.answers = [(429, {}, {"error": {"message": "rate limit"}})] * 3
    with pytest.raises(ConnectionError, match=r"refuses \(429 after 3 tries\): rate limit$"):
        api(server, retries=2).encode_docs(["otter"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": f"wrong\nkey {KEY}"}}, r"refuses \(400\): wrong key \*\*\*$"),
        ({"detail": "too long"}, r"refuses \(400\): too long$"),
        ({"object": "error", "message": "too long"}, r"refuses \(400\): too long$"),
        (b"plain", r"refuses \(400\): plain$"),
    ],
)
def test_what_the_server_refuses_is_said_in_one_line_without_the_key(server, body, message):
    server.answers = [(400, {}, body)]
    with pytest.raises(ConnectionError, match=message) as error:
        api(server).encode_docs(["otter"])
    assert KEY not in str(error.value) and "\n" not in str(error.value) and len(server.requests) == 1


def test_a_redirect_is_not_followed(server):
    server.answers = [(302, {"Location": "http://127.0.0.1:1/"}, b"")]
    with pytest.raises(ConnectionError, match=r"refuses \(302\)"):
        api(server).encode_docs(["otter"])


def test_after_a_failure_no_more_is_sent(server):
    server.answers = [(400, {}, {"error": "no"})] * 2
    with pytest.raises(ConnectionError, match="no$"):
        api(server, batch=1, concurrency=1).encode_docs(TEXTS[:100])
    assert len(server.requests) < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole["data"].pop(), "gives 1 vectors for 2 texts"),
        (
            lambda whole: whole["data"][0].update(embedding=[1.0]),
            "gives 1 dimensions for a vector, and dimensions is 3",
        ),
        (lambda whole: whole["data"][0].update(embedding="AAAA"), "gives a str for a vector"),
        (lambda whole: whole["data"][0].update(index=0), r"gives vectors of the texts \[0, 0\]"),
        (lambda whole: whole["data"][0].pop("index"), "gives vectors without `index` or `embedding`"),
        (lambda whole: whole["data"][0].update(embedding=[1.0, 2.0, float("nan")]), "gives NaN or infinity for 'bb'"),
        (lambda whole: whole.pop("data"), "gives no vectors for 2 texts"),
    ],
)
def test_vectors_that_cannot_be_those_asked_for_are_refused(server, change, message):
    def changed(whole):
        change(whole)
        return whole

    server.answers = [changed]
    with pytest.raises(ValueError, match=message):
        api(server).encode_docs(["a", "bb"])


@pytest.mark.parametrize("body", [b"<html>hello", b"[1]"])
def test_an_answer_that_is_no_json_object_is_refused(server, body):
    server.answers = [(200, {}, body)]
    with pytest.raises(ConnectionError, match="answers no JSON object but '"):
        api(server).encode_docs(["otter"])


def test_the_key_is_read_when_it_is_used_and_kept_nowhere(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv("OPENAI_API_KEY")
    encoder = api(server, key_variable="OTHER_KEY")
    server.answers = [(401, {}, {"error": "who are you?"})]
    with pytest.raises(ConnectionError, match=r"refuses \(401\): who are you\?; OTHER_KEY is not set: set it$"):
        encoder.encode_docs(["otter"])
    monkeypatch.setenv("OTHER_KEY", KEY)
    encoder.encode_docs(["otter"])
    assert server.requests[1][1]["Authorization"] == f"Bearer {KEY}"
    held = f"{vars(encoder)} {vars(encoder.http)} {vars(encoder.http._session)} {encoder.provenance()}"
    assert KEY not in held + caplog.text


def test_no_key_is_sent_where_none_is_named(server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api(server, key_variable=None).encode_docs(["otter"])
    assert "Authorization" not in server.requests[0][1]


def test_tokens_are_counted(server):
    encoder = api(server, batch=2)
    encoder.encode_docs(["a", "b", "c"])
    assert encoder.provenance()["tokens"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "api.openai.com/v1"}, "url is http://host/path or https://host/path"),
        ({"url": "https://me:secret@host/v1"}, "url of host holds a user or a query"),
        ({"url": "https://host/v1?key=secret"}, "url of host holds a user or a query"),
        ({"dimensions": 0}, "dimensions is 0: it is at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"max_chars": 0}, "max_chars is 0"),
        ({"timeout": 0}, "timeout 0 is above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        Api(**{"url": "https://host/v1", "model": "m", "dimensions": 3, **settings})
    assert "secret" not in str(error.value)


def test_the_contract_says_what_determines_the_vectors():
    def contract(**settings):
        return Api(**{"url": "https://host/v1/", "model": "m", "dimensions": 3, **settings}).contract()

    about = contract()
    assert json.loads(json.dumps(about)) == about and about["url"] == "https://host/v1"
    assert about == contract(batch=2, concurrency=1, retries=0, timeout=1, key_variable=None)
    changes = [
        {"url": "https://other/v1"},
        {"model": "n"},
        {"dimensions": 4},
        {"shorten": True},
        {"normalize": True},
        {"max_chars": 9},
        {"doc_prompt": "x"},
        {"query_prompt": "x"},
    ]
    assert len({json.dumps(contract(**change)) for change in [{}, *changes]}) == len(changes) + 1
    assert {**contract(query_prompt="x"), "queries": 0} == {**about, "queries": 0}
