"""Tries at a server: when they are made, again and no more. The API encoder's tests and OpenAI's have the rest."""

from __future__ import annotations

import pickle

import pytest

from retrieval.http_api import ApiError, HttpApi
from tests.serving import Server


@pytest.fixture
def server():
    found = Server(lambda path, body: {"path": path})
    yield found
    found.close()


def api(server, **settings):
    return HttpApi(**{"url": server.url, "key_variable": None, "backoff": 0.001, **settings})


def test_a_connection_that_breaks_is_made_again(server):
    server.answers = [(200, {}, None), (200, {"Content-Length": "999"}, b"{")]
    http = api(server)
    assert http.post("some", {}) == {"path": "/v1/some"} and http.repeated == {"no answer": 2}


def test_a_wait_of_hours_is_not_waited_for(server):
    server.answers = [(429, {"Retry-After": "86400"}, b"quota")]
    with pytest.raises(ApiError, match=r"refuses \(429 after 1 tries\): quota$"):
        api(server).post("some", {})


@pytest.mark.parametrize("when", ["Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_a_wait_until_a_date_or_one_that_cannot_be_read_is_no_error(server, when):
    server.answers = [(503, {"Retry-After": when}, b"")]
    assert api(server).post("some", {}) and len(server.requests) == 2


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret\nsk-secret")
    with pytest.raises(ValueError, match="the key in SOME_KEY holds what no key does") as error:
        api(server, key_variable="SOME_KEY").post("some", {})
    assert "secret" not in str(error.value) and not server.requests


@pytest.mark.parametrize("status", [520, 524, 529])
def test_what_a_proxy_says_of_the_server_behind_it_may_change(server, status):
    server.answers = [(status, {}, b"")] * 2
    http = api(server)
    assert http.post("some", {}) and http.repeated == {str(status): 2}


def test_a_server_that_says_to_ask_at_once_is_asked_less_and_less_often(server):
    server.answers = [(429, {"Retry-After": "0"}, b"")] * 3
    api(server, backoff=0.02).post("some", {})
    waits = [late - early for early, late in zip(server.times, server.times[1:], strict=False)]
    assert all(wait >= least for wait, least in zip(waits, [0.02, 0.04, 0.08], strict=True))


def test_tries_keep_the_pace_also_those_after_a_failure(server, monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock, sent = Clock(), []

    def wait(_self, seconds, stop, where):
        clock.now += seconds

    def give(path, body):
        sent.append(clock.now)
        return {}

    monkeypatch.setattr("retrieval.http_api.time", clock)
    monkeypatch.setattr(HttpApi, "_wait", wait)
    server.give = give
    server.answers = [lambda whole: whole, (500, {"Retry-After": "0"}, b"")] * 2
    http = api(server, requests_per_minute=30, backoff=0)
    for _ in range(4):
        http.post("some", {})
    assert sent == [100, 104, 108, 110]  # 2 s apart, two of the turns taken by what failed


def test_it_can_be_sent_to_another_process(server):
    http = api(server)
    http.post("some", {})
    assert pickle.loads(pickle.dumps(http)).post("some", {}) == {"path": "/v1/some"}
