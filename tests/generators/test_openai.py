"""The OpenAI generator against a real server behind faults, and against one that errs as servers do."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter

import pytest

from retrieval.asking import Asker
from retrieval.generators.openai import OpenAI
from retrieval.locate import cache_folder
from retrieval.sampling import Request, Sampling
from retrieval.types import Generation
from tests.conftest import TEXTS
from tests.serving import FAULTS, Proxy, Server, transformers_serve

KEY = "sk-secret-of-the-test"
SHORT = Sampling(max_tokens=6)


def chat(text):
    return [{"role": "user", "content": text}]


def completion(path, body):
    """The text asked for, backwards; each letter is a token, as likely as its place in the alphabet is late."""
    text = body["messages"][-1]["content"] if path.endswith("/chat/completions") else body["prompt"]
    usage = {"prompt_tokens": len(text), "completion_tokens": 3, "total_tokens": len(text) + 3}
    if path.endswith("/chat/completions"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text[::-1]}, "finish_reason": "stop"}
    else:
        choice = {"index": 0, "text": text[::-1], "finish_reason": "length"}
    return {"id": "1", "model": body["model"], "choices": [choice], "usage": usage}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = Server(completion)
    yield found
    found.close()


def openai(server, **settings):
    return OpenAI(**{"model": "toy", "url": server.url, "backoff": 0.001, **settings})


def ask(generator, *texts, sampling=SHORT):
    found = dict(generator.generate([Request(chat(text), None, sampling) for text in texts]))
    return [found[place] for place in range(len(texts))]


def keep(place, text):
    return text


@pytest.fixture(scope="module")
def real(tiny_chat, tmp_path_factory):
    pytest.importorskip("fastapi", reason="needs transformers[serving]: pip install -e '.[dev]'")
    with transformers_serve(tiny_chat, tmp_path_factory.mktemp("home")) as url:
        yield url


def test_200_prompts_16_in_flight_survive_faults_none_lost_none_doubled(real, tiny_chat, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    texts = [f"{number}: {TEXTS[number]}" for number in range(200)]
    proxy = Proxy(real, 0.05, seed=1)
    try:
        generator = OpenAI(str(tiny_chat), proxy.url, timeout=6, backoff=0.01)
        answers = Asker(generator, SHORT).ask([chat(text) for text in texts], keep, "")
    finally:
        proxy.close()

    assert len(proxy.delivered) == 200 and proxy.most_at_once == 16
    assert set(proxy.injected) == set(FAULTS)
    assert all(generator.http.repeated[status] == proxy.injected[status] for status in ("429", "500"))
    assert generator.http.repeated["no answer"] >= proxy.injected["time-out"]
    kept = sqlite3.connect(cache_folder() / "generations.sqlite").execute("select count(*) from generations")
    assert kept.fetchone() == (200,)

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_chat), AutoModelForCausalLM.from_pretrained(tiny_chat)
    for place in range(0, 200, 8):  # the model itself says the same of each, so that none has another's place
        ids = tokenizer.apply_chat_template(chat(texts[place]), add_generation_prompt=True, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert answers[place] == tokenizer.decode(made, skip_special_tokens=True).strip()


def test_prompts_are_completed_by_the_real_server(real, tiny_chat):
    generator = OpenAI(str(tiny_chat), real, key_variable=None)
    [(place, one)] = generator.generate([Request(None, "A small otter", SHORT)])
    assert place == 0 and one.failure is None and one.text and one.tokens_in and one.tokens_out == 6


def test_what_the_real_server_does_not_know_fails_with_its_words(real, tiny_chat):
    generator = OpenAI(str(tiny_chat), real, sends=("temperature", "top_p", "seed", "top_k"), retries=0)
    assert "Unexpected fields in the request: {'top_k'}" in ask(generator, "otter")[0].failure


def test_each_answer_has_the_place_of_its_request(server):
    server.slow = 0.01
    texts = TEXTS[:60]
    assert [one.text for one in ask(openai(server, concurrency=4), *texts)] == [text[::-1] for text in texts]
    assert 1 < server.most_at_once <= 4


def test_answers_come_one_by_one_and_who_stops_pays_for_no_more(server):
    answers = openai(server, concurrency=2).generate([Request(chat(text)) for text in TEXTS[:100]])
    next(answers)
    answers.close()
    assert len(server.requests) < 100


def test_nothing_asked_is_nothing_sent(server):
    assert list(openai(server).generate([])) == [] and not server.requests


def test_a_chat_is_sent_as_the_api_says(server):
    sampling = Sampling(9, 0.5, 0.9, stop=["\n"], seed=7, logprobs=True)
    ask(openai(server), "otter", sampling=sampling)
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    asked = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 9, "stop": ["\n"], "logprobs": True}
    assert body == {"model": "toy", "messages": chat("otter"), **asked}


def test_a_prompt_is_sent_as_the_api_says(server):
    [(_, one)] = openai(server).generate([Request(None, "otter", SHORT)])
    path, _, body = server.requests[0]
    assert path == "/v1/completions"
    assert body == {"model": "toy", "prompt": "otter", "temperature": 0, "top_p": 1, "seed": 0, "max_tokens": 6}
    assert one == Generation("retto", 5, 3, "length")


def test_models_that_think_get_their_own_name_of_the_limit(server):
    sends, sampling = ("seed",), Sampling(9, temperature=1)
    ask(openai(server, tokens_key="max_completion_tokens", sends=sends), "otter", sampling=sampling)
    asked = {"seed": 0, "max_completion_tokens": 9}
    assert server.requests[0][2] == {"model": "toy", "messages": chat("otter"), **asked}


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(top_k=5), "top_k 5 is not sent to .*: leave it at None, or name it under `sends`"),
        (Sampling(repetition_penalty=1.1), "repetition_penalty 1.1 is not sent to .*: leave it at 1,"),
    ],
)
def test_a_parameter_that_the_api_lacks_is_not_ignored(server, sampling, message):
    with pytest.raises(ValueError, match=message):
        ask(openai(server), "otter", sampling=sampling)
    assert not server.requests


def test_a_temperature_that_is_not_sent_is_not_ignored(server):
    with pytest.raises(ValueError, match=r"temperature 0\.0 is not sent to .*: leave it at 1,"):
        ask(openai(server, sends=["seed"]), "otter")


def test_a_seed_that_is_not_sent_is_not_ignored_but_samples_need_none(server):
    generator = openai(server, sends=["temperature"])
    with pytest.raises(ValueError, match=r"seed 3 is not sent to .*: leave it at 0, or name it under `sends`"):
        ask(generator, "otter", sampling=Sampling(seed=3))
    assert not server.requests
    assert len(list(generator.generate([Request(chat("otter"), sample=sample) for sample in range(3)]))) == 3
    assert not any("seed" in body for _, _, body in server.requests)


@pytest.mark.parametrize(("top_k", "sent"), [(5, 5), (None, -1)])
def test_servers_that_know_more_get_it_also_where_it_is_off(server, top_k, sent):
    sampling = Sampling(top_k=top_k, repetition_penalty=1.2)
    ask(openai(server, sends=["temperature", "top_k", "repetition_penalty"]), "otter", sampling=sampling)
    body = server.requests[0][2]
    assert (body["top_k"], body["repetition_penalty"]) == (sent, 1.2) and "seed" not in body


def test_samples_of_a_prompt_have_seeds_of_their_own_the_first_that_of_the_sampling(server):
    requests = [Request(chat("otter"), None, Sampling(seed=3), sample) for sample in range(4)]
    for generator in (openai(server, concurrency=1), openai(server, concurrency=1)):
        list(generator.generate(requests))
    seeds = [body["seed"] for _, _, body in server.requests]
    assert seeds[0] == 3 and len(set(seeds[:4])) == 4 and seeds[:4] == seeds[4:]
    assert seeds[1] == 3 + int("6b86b273", 16) - 2**31 * (int("6b86b273", 16) >= 2**31)  # sha256("1") begins so


def given(**change):
    return {"finish_reason": "stop", "message": {"content": "a"}, **change}


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (given(logprobs={"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}), [-0.5]),
        (given(message=None, text="a", logprobs={"tokens": ["a"], "token_logprobs": [-0.25]}), [-0.25]),
    ],
)
def test_log_probabilities_are_read_where_they_were_asked_for(server, choice, found):
    server.answers = [(200, {}, {"choices": [choice]})]
    one = ask(openai(server), "otter", sampling=Sampling(logprobs=True))[0]
    assert one == Generation("a", 0, 0, "stop", found)


def test_log_probabilities_asked_for_and_not_given_are_a_failure(server):
    one = ask(openai(server), "otter", sampling=Sampling(logprobs=True))[0]
    assert one.failure == "the server gives no log-probabilities: ask without logprobs, or another server"


def test_half_a_letter_is_kept_as_one_that_can_be_written(server):
    half, refused = {"content": "a\ud83d \U0001f9a6"}, {"refusal": "no \ud83d"}
    server.answers = [(200, {}, {"choices": [given(message=one)]}) for one in (half, refused)]
    asker = Asker(openai(server, concurrency=1), SHORT, fallback="keep")
    assert asker.ask([chat("otter"), chat("comet")], keep, "") == ["a\ufffd \U0001f9a6", None]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello", r"answers no JSON object but '<html>hello': is the url that of an API\?$"),
        (b'{"choices": [{"mess', "answers no JSON object"),
        (b"[1]", "answers no JSON object"),
        ({}, r"the answer is none of OpenAI's API \(choices: Field required\)$"),
        ({"choices": []}, r"is none of OpenAI's API \(choices: List should have at least 1 item"),
        ({"choices": [7]}, r"is none of OpenAI's API \(choices\.0: "),
        (
            {"choices": [given(message={"content": 7})]},
            r"\(choices\.0\.message\.content: Input should be a valid string",
        ),
        ({"error": {"message": "no such provider"}}, "and says {'message': 'no such provider'}$"),
        ({"choices": [given(message={"content": None, "refusal": "I will not"})]}, "the model refused: I will not$"),
        ({"choices": [given(finish_reason="content_filter")]}, r"broke the answer off \(content_filter\)$"),
        (
            {"choices": [given(message={"content": None}, finish_reason="length")]},
            r"has no content .*length\): thoughts",
        ),
    ],
)
def test_an_answer_that_is_none_is_a_failure_of_that_request_only(server, body, message):
    server.answers = [(200, {}, body)]
    first, second = ask(openai(server, concurrency=1), "otter", "comet")
    assert first.failure and second.text == "temoc"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(first.failure)


def test_tokens_of_a_refused_answer_are_counted_as_they_are_paid_for(server):
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    server.answers = [(200, {}, {"choices": [given(finish_reason="content_filter")], "usage": usage})]
    one = ask(openai(server), "otter")[0]
    assert (one.tokens_in, one.tokens_out, one.finish_reason) == (4, 2, "content_filter")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_asked_for_again(server, status):
    server.answers = [(status, {"Retry-After": "0"}, b"")] * 3
    generator = openai(server)
    assert ask(generator, "otter")[0].text == "retto" and generator.http.repeated == {str(status): 3}


def test_a_server_that_stays_busy_is_a_failure_with_its_message(server):
    server.answers = [(429, {}, {"error": {"message": "rate limit"}})] * 3
    assert ask(openai(server, retries=2), "otter")[0].failure.endswith("refuses (429 after 3 tries): rate limit")


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_request_that_is_refused_fails_alone_and_is_not_repeated(server, status):
    server.answers = [(status, {}, {"error": {"message": "too long"}})]
    first, second = ask(openai(server, concurrency=1), "otter", "comet")
    assert first.failure.endswith(f"refuses ({status}): too long") and second.failure is None
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"refuses \(401\): no; the key is that in OPENAI_API_KEY$"),
        (404, r"refuses \(404\): no; check url and the model 'toy'$"),
        (302, r"refuses \(302\): no; check url"),
    ],
)
def test_what_is_wrong_with_every_request_stops_all(server, status, message):
    server.answers = [(status, {"Location": "http://127.0.0.1:1/"}, {"error": "no"})] * 100
    with pytest.raises(ValueError, match=message):
        ask(openai(server, concurrency=2), *TEXTS[:100])
    assert len(server.requests) < 20


def test_a_missing_key_matters_only_to_a_server_that_asks_for_one(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    generator = openai(server)
    assert ask(generator, "otter")[0].text == "retto" and "Authorization" not in server.requests[0][1]
    server.answers = [(401, {}, {"error": {"message": "who are you?"}})]
    with pytest.raises(ValueError, match=r"refuses \(401\): who are you\?; OPENAI_API_KEY is not set: set it$"):
        ask(generator, "otter")


def test_the_key_is_kept_and_written_nowhere(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTHER_KEY", f"{KEY}\n")  # as read from a file
    generator = openai(server, key_variable="OTHER_KEY", retries=1, concurrency=1)
    server.answers = [(500, {}, {"error": f"bad key {KEY}"})] * 2 + [(200, {}, f"no JSON {KEY}".encode())]
    asker = Asker(generator, SHORT, fallback="keep")
    asker.ask([chat("comet"), chat("sun"), chat("otter")], keep, "")
    assert Counter(headers["Authorization"] for _, headers, _ in server.requests) == {f"Bearer {KEY}": 4}
    held = [vars(generator), vars(generator.http), vars(generator.http._session), generator.contract(), asker.about()]
    stored = b"".join(path.read_bytes() for path in cache_folder().glob("generations.sqlite*"))
    assert KEY not in f"{held} {caplog.text}" and KEY.encode() not in stored and b"bad key ***" in stored


def test_a_server_that_dies_in_the_middle_fails_the_rest_without_trying_each(server):
    left = [completion] * 5

    def dying(path, body):
        with server.lock:
            if left:
                return left.pop()(path, body)
            if server.http.socket.fileno() >= 0:
                server.close()
        return None  # nor does it answer what it has taken

    server.give = dying
    generator = openai(server, concurrency=4, retries=2)
    answers = ask(generator, *TEXTS)
    right = [one.text == text[::-1] for one, text in zip(answers, TEXTS, strict=True)]
    assert sum(right) == sum(one.failure is None for one in answers) == 5
    assert sum(generator.http.repeated.values()) < 40
    assert "does not answer, 3 times asked" in " ".join(one.failure or "" for one in answers)
    assert answers[-1].failure.endswith("/v1/chat/completions is not asked any more: it did not answer before")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_only_says_it_cannot_is_not_asked_for_each(server, status):
    server.answers = [(status, {}, b"")] * 999
    answers = ask(openai(server, concurrency=2, retries=2), *TEXTS[:40])
    assert all(one.failure for one in answers) and len(server.requests) <= 5 * 3
    assert any(f"refuses ({status} after 3 tries)" in one.failure for one in answers)
    assert answers[-1].failure.endswith("is not asked any more: it did not answer before")


def test_requests_that_are_refused_each_for_itself_do_not_stop_the_rest(server):
    server.answers = [(400, {}, b"too long")] * 9
    assert sum(one.failure is None for one in ask(openai(server, concurrency=1), *TEXTS[:12])) == 3


def test_after_a_server_died_only_what_it_left_is_asked_of_the_next(server, monkeypatch):
    chats = [chat(text) for text in TEXTS[:20]]
    server.answers = [lambda whole: whole] * 8 + [(200, {}, None)] * 99
    with pytest.raises(ValueError, match="OpenAI failed .*not answer.*; take another server$"):
        Asker(openai(server, concurrency=1, retries=0), SHORT).ask(chats, keep, "take another server")
    server.answers.clear()
    server.requests.clear()
    answers = Asker(openai(server), SHORT).ask(chats, keep, "")
    assert answers == [text[::-1].strip() for text in TEXTS[:20]] and len(server.requests) == 12


def test_a_second_run_asks_nothing_and_says_the_same(server):
    chats = [chat(text) for text in TEXTS[:50]]
    first = Asker(openai(server), SHORT).ask(chats, keep, "")
    again = Asker(openai(server, concurrency=1), SHORT)
    assert again.ask(chats, keep, "") == first and len(server.requests) == 50
    assert again.counts()["cache hits"] == 50 and again.counts()["model calls"] == 0


def test_the_contract_tells_answers_apart_and_nothing_else(server):
    def contract(**settings):
        return json.dumps(openai(server, **settings).contract())

    about = contract()
    assert about == contract(url=f"{server.url}/", concurrency=1, retries=0, timeout=1, key_variable=None)
    changes = [{}, {"url": "https://host/v1"}, {"model": "other"}, {"sends": ["temperature", "top_p"]}]
    assert len({contract(**change) for change in changes}) == len(changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "api.openai.com/v1"}, "url is http://host/path or https://host/path"),
        ({"url": "https://me:secret@host/v1"}, "url of host holds a user or a query"),
        ({"concurrency": 0}, "concurrency is 0 and requests_per_minute None: they are at least 1"),
        ({"requests_per_minute": 0}, "requests_per_minute 0"),
        ({"timeout": 0}, "timeout 0 is above 0"),
        ({"sends": ["min_p"]}, "sends has 'min_p'; it may have temperature, top_p, top_k, repetition_penalty, seed"),
        ({"tokens_key": "tokens"}, "tokens_key is max_tokens or max_completion_tokens, not 'tokens'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        OpenAI(**{"model": "m", "url": "https://host/v1", **settings})
    assert "secret" not in str(error.value)
