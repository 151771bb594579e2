"""PromptReps: the formula computed text by text, words and their ids, prompts, what is remembered."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieval.chat_prompt import ChatPrompt
from retrieval.content_words import content_words, function_words
from retrieval.corpus import Corpus, Document
from retrieval.encoders import promptreps
from retrieval.encoders.promptreps import PromptReps
from retrieval.indexes.flat import Flat
from retrieval.indexes.inverted import Inverted
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.sparse import SparseRetriever
from retrieval.retrievers.weighted_sum import WeightedSum
from retrieval.types import Queries
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:5], "otter", "the otter " * 30, "", "It is what it was!", "Zürich's 東京 x", TEXTS[0]]
PROMPT = "# mine 3\n[user]\nSay one word for: {text}\n[assistant]\nIt is '\n"


def encoder(folder, **settings):
    return PromptReps(str(folder), dtype="float32", **settings)


tokenizer_of = cache(AutoTokenizer.from_pretrained)


@cache
def by_formula(folder, label="passage", limit=512):
    """States and logits of SAMPLE at the last token in float64, each text on its own, with all logits made."""
    tokenizer = tokenizer_of(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    turns = files("retrieval.encoders").joinpath("prompts", f"promptreps-{label}.txt").read_text().split("[")[1:]
    parts = [turn.partition("]\n")[2].strip() for turn in turns]
    before, after = f"<s><|system|>{parts[0]}</s><|user|>{parts[1]}</s><|assistant|>{parts[2]}".split("{text}")
    states, logits = [], []
    with torch.inference_mode():
        for text in SAMPLE:
            ids = [tokenizer(part, add_special_tokens=False).input_ids for part in (before, text, after)]
            found = model(torch.tensor([ids[0] + ids[1][:limit] + ids[2]]), output_hidden_states=True)
            states.append(found.hidden_states[-1][0, -1].numpy())
            logits.append(found.logits[0, -1].numpy())
    return np.array(states), np.array(logits)


def word_ids(folder, text):
    tokenizer = tokenizer_of(folder)
    return {i for word in content_words([text])[0] for i in tokenizer(word, add_special_tokens=False).input_ids}


@pytest.mark.parametrize("batch_tokens", [None, 1, 600])
def test_vectors_are_the_states_at_the_last_token_in_any_batch(tiny_chat, batch_tokens):
    found = encoder(tiny_chat, batch_tokens=batch_tokens).encode_docs(SAMPLE).dense.vectors
    states, _ = by_formula(tiny_chat)
    np.testing.assert_allclose(found, states / np.linalg.norm(states, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found.dtype == np.float32 and (found[0] == found[-1]).all()


def test_vectors_keep_their_length_where_asked(tiny_chat):
    found = encoder(tiny_chat, normalize=False).encode_queries(SAMPLE).dense.vectors
    np.testing.assert_allclose(found, by_formula(tiny_chat, "query")[0], atol=1e-4)


def test_weights_are_those_of_the_ids_of_the_texts_words(tiny_chat):
    found = encoder(tiny_chat).encode_docs(SAMPLE).sparse.matrix
    _, logits = by_formula(tiny_chat)
    for row, (text, z) in enumerate(zip(SAMPLE, logits, strict=True)):
        ids = word_ids(tiny_chat, text) or set(np.argsort(-z)[:10])
        expected = {i: np.rint(100 * np.log1p(max(z[i], 0))) for i in ids}
        one = found[[row]]
        assert dict(zip(one.indices, one.data, strict=True)) == {i: w for i, w in expected.items() if w}
    assert found.dtype == np.float32 and found.has_sorted_indices and (found.data == found.data.round()).all()
    assert 0 < found.data.min() and found.nnz < sum(len(word_ids(tiny_chat, text)) for text in SAMPLE) + 20


def test_a_text_without_content_words_has_ten_entries_of_the_whole_vocabulary(tiny_chat):
    found = encoder(tiny_chat, sparse_terms=3).encode_docs(["", "It is what it was!", "?", "otter volcano teapot"])
    assert np.diff(found.sparse.matrix.indptr).tolist()[:3] == [10, 10, 10]


def test_the_order_of_words_does_not_change_which_ids_may_weigh(tiny_chat):
    one, other = "violin teapot volcano comet", "comet volcano teapot violin"
    found = encoder(tiny_chat).encode_docs([one, other]).sparse.matrix
    assert word_ids(tiny_chat, one) == word_ids(tiny_chat, other) >= {*found.indices}


@pytest.mark.parametrize(("logit", "weight"), [(22.3, 315), (1.0, 69), (np.e - 1, 100), (0.0, 0), (-4.0, 0)])
def test_a_logit_weighs_what_the_method_says(logit, weight):
    assert promptreps._weights(np.array([logit], np.float32)) == weight


@given(st.lists(st.integers(-2, 4), min_size=1, max_size=12), st.integers(1, 8))
def test_the_largest_are_kept_and_of_equal_ones_the_lower_id(logits, terms):
    ids = np.arange(len(logits), dtype=np.int32) * 3
    found, weights = promptreps._best(ids, np.array(logits, np.float32), terms)
    best = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:terms]
    assert found.tolist() == sorted(3 * i for i in best if logits[i] > 0)
    assert (weights > 0).all()


def test_logits_are_made_at_the_last_token_only(tiny_chat):
    chat, shapes = encoder(tiny_chat), []
    load = promptreps.load_whole

    def watched(*arguments):
        model = load(*arguments)
        model.lm_head.register_forward_hook(lambda _, inputs, logits: shapes.append(tuple(logits.shape)))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promptreps, "load_whole", watched)
        chat.encode_docs(TEXTS[:4])
    assert shapes == [(4, 1, len(chat.vocabulary()))]


def test_queries_have_a_prompt_of_their_own(tiny_chat):
    chat = encoder(tiny_chat)
    assert (chat.encode_queries(["otter"]).dense.vectors != chat.encode_docs(["otter"]).dense.vectors).any()
    assert "Query: " in chat.contract()["queries"]["before"] and "Passage: " in chat.contract()["before"]


def test_the_text_alone_is_cut_and_what_is_cut_is_counted(tiny_chat):
    chat = encoder(tiny_chat, max_length=6)
    found = chat.encode_docs(SAMPLE)
    states, _ = by_formula(tiny_chat, limit=6)
    expected = states / np.linalg.norm(states, axis=1, keepdims=True)
    np.testing.assert_allclose(found.dense.vectors, expected, atol=1e-5)
    tokenizer = tokenizer_of(tiny_chat)
    assert found.truncated == sum(len(tokenizer(text, add_special_tokens=False).input_ids) > 6 for text in SAMPLE) > 0
    assert found.sparse.truncated == found.truncated


def test_texts_that_differ_beyond_the_cut_keep_their_own_words(tiny_chat):
    found = encoder(tiny_chat, max_length=2).encode_docs(["otter otter otter teapot", "otter otter otter volcano"])
    np.testing.assert_allclose(found.dense.vectors[0], found.dense.vectors[1], atol=1e-6)
    assert (found.sparse.matrix[[0]] != found.sparse.matrix[[1]]).nnz


def test_control_tokens_in_a_text_are_plain_text(tiny_chat):
    chat = encoder(tiny_chat)
    tokens, _ = chat._tokenize(["end </s><|user|> more"], chat._doc)
    plain, _ = chat._tokenize([""], chat._doc)
    assert sum(i in (0, 1, 2, 3, 4) for i in tokens[0]) == sum(i in (0, 1, 2, 3, 4) for i in plain[0])


def test_the_same_texts_are_encoded_once(tiny_chat):
    chat = encoder(tiny_chat)
    first = chat.encode_queries(TEXTS[:3])
    assert chat.encode_queries(list(TEXTS[:3])) is first
    assert chat.encode_docs(TEXTS[:3]) is not first
    assert len(chat.encode_queries(TEXTS[:2])) == 2


def test_no_texts_give_no_rows(tiny_chat):
    found = encoder(tiny_chat).encode_docs([])
    assert found.dense.vectors.shape == (0, 32) and found.sparse.matrix.shape[0] == len(found) == 0


def test_words_are_lower_case_without_function_words_and_punctuation():
    assert content_words(
        ["The dog's bark isn't LOUD, it\N{RIGHT SINGLE QUOTATION MARK}s _a_ state-of-the-art bark!", ""]
    ) == [
        ["dog", "bark", "loud", "state", "art"],
        [],
    ]
    assert len(function_words()) > 200 and all(word == word.lower() for word in function_words())


def test_the_vocabulary_names_the_columns(tiny_chat):
    names, tokenizer = encoder(tiny_chat).vocabulary(), tokenizer_of(tiny_chat)
    assert all(names[i] == token for token, i in tokenizer.get_vocab().items())


def test_a_prompt_file_of_ones_own_is_used(tiny_chat, tmp_path):
    (tmp_path / "mine.txt").write_text(PROMPT)
    chat = encoder(tiny_chat, query_prompt=tmp_path / "mine.txt")
    assert chat.contract()["queries"] == {
        "prompt": "mine 3",
        "before": "<s><|user|>Say one word for: ",
        "after": "</s><|assistant|>It is '",
    }
    assert chat.contract()["prompt"] == "promptreps-passage 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PROMPT.removeprefix("# mine 3\n"), r"begins with '\[user\]': the first line is `# id version`"),
        (PROMPT.replace("{text}", ""), r"needs \{text\} once"),
        (PROMPT + "{text}", r"needs \{text\} once"),
        (PROMPT.partition("[assistant]")[0], r"last \[assistant\], which the model goes on with"),
        ("# mine 3\n", r"is turns under \[system\]"),
        ("# mine 3\nhello\n[assistant]\n{text}", r"is turns under \[system\]"),
    ],
)
def test_a_prompt_file_that_lacks_something_is_refused(tmp_path, text, message):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        ChatPrompt.read(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ raise_exception('no system turn') }}{{ messages[-1].content }}",
            r"refuses .*promptreps-passage.txt \(no system turn\): name a prompt",
        ),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
            r"leaves out or repeats .*\(system\)",
        ),
        (None, "has no chat template: take a chat model"),
    ],
)
def test_a_chat_template_that_does_not_take_the_turns_is_refused(tiny_chat, tmp_path, template, message):
    shutil.copytree(tiny_chat, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    if template:
        (tmp_path / "model" / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=message):
        encoder(tmp_path / "model").encode_docs(["otter"])


def test_a_template_that_puts_the_date_in_gives_the_same_prompt_every_day(tiny_chat, tmp_path):
    shutil.copytree(tiny_chat, tmp_path / "model")
    path = tmp_path / "model" / "chat_template.jinja"
    path.write_text("{{ date_string or strftime_now('%d %b %Y') }}" + path.read_text())
    assert encoder(tmp_path / "model").contract()["before"].startswith("26 Jul 2024<s>")


def test_more_tokens_than_the_model_takes_are_refused(tiny_chat):
    with pytest.raises(
        ValueError, match=r"max_length 1000 and \d+ tokens of promptreps-passage 1 are more than the 1024"
    ):
        encoder(tiny_chat, max_length=1000).encode_docs(["otter"])


def test_limits_below_one_are_refused(tiny_chat):
    with pytest.raises(ValueError, match="sparse_terms is 0"):
        encoder(tiny_chat, sparse_terms=0)


def test_a_model_that_gives_nan_is_refused_with_the_text(tiny_chat, tmp_path):
    shutil.copytree(tiny_chat, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny_chat)
    token = tokenizer_of(tiny_chat)("violin", add_special_tokens=False).input_ids[-1]
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="gives NaN or infinity for 'violin'"):
        encoder(tmp_path / "model").encode_docs(["comet", "violin"])


def test_pickled_weights_and_another_hash_are_refused(tiny_chat, tmp_path):
    with pytest.raises(ValueError, match=r"model.safetensors has SHA-256 [0-9a-f]{64}, expected 00"):
        encoder(tiny_chat, sha256="00" * 32).encode_docs(["otter"])
    shutil.copytree(tiny_chat, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="a pickle, which is never loaded"):
        encoder(tmp_path / "model").encode_docs(["otter"])


def test_a_bfloat16_batch_is_close_to_one_text_at_a_time(tiny_chat):
    whole = PromptReps(str(tiny_chat), dtype="bfloat16").encode_docs(SAMPLE).dense.vectors
    alone = PromptReps(str(tiny_chat), dtype="bfloat16", batch_tokens=1).encode_docs(SAMPLE).dense.vectors
    assert (whole * alone).sum(1).min() > 0.999


def test_the_contract_says_all_that_determines_the_output(tiny_chat, tmp_path):
    (tmp_path / "mine.txt").write_text(PROMPT)
    chat = encoder(tiny_chat)
    about = chat.contract()
    assert json.loads(json.dumps(about)) == about and about["dimensions"] == 32
    assert about["vocabulary"] == len(chat.vocabulary())
    chat.encode_docs(["otter"])
    assert chat.contract() == about
    others = [
        encoder(tiny_chat, max_length=9),
        encoder(tiny_chat, sparse_terms=9),
        encoder(tiny_chat, normalize=False),
        encoder(tiny_chat, query_prompt=tmp_path / "mine.txt"),
        encoder(tiny_chat, doc_prompt=tmp_path / "mine.txt"),
        PromptReps(str(tiny_chat), dtype="bfloat16"),
    ]
    contracts = [json.dumps(one.contract()) for one in [chat, *others]]
    assert len(set(contracts)) == len(contracts)


def test_a_hybrid_retriever_encodes_corpus_and_queries_once(tiny_chat, tmp_path):
    corpus = Corpus.build([Document(f"d{i}", "", text) for i, text in enumerate(TEXTS[:40])], tmp_path / "corpus")
    chat, seen = encoder(tiny_chat), []
    read = chat._read
    chat.__dict__["_read"] = lambda tokens: seen.append(len(tokens)) or read(tokens)
    parts = [DenseRetriever(chat, Flat()), SparseRetriever(chat, Inverted())]
    hybrid = WeightedSum(parts, [0.5, 0.5])
    hybrid.open(corpus, tmp_path / "work")
    run = hybrid.retrieve(Queries(["q1", "q2"], TEXTS[3:60:40]), 40)
    probed = 32  # documents that encode_corpus looks at first
    assert sum(seen) == probed + 40 + 2
    expected = by_hand(chat, TEXTS[:40], TEXTS[3:60:40])
    for rows, scores, row in zip(run.rows, run.scores, expected, strict=True):
        np.testing.assert_allclose(scores, row[rows], atol=1e-5)


def by_hand(chat, docs, queries):
    """0.5 min-max(cosine) + 0.5 min-max(product of weights over what shares an entry), float64 [queries, docs]."""
    asked, read = chat.encode_queries(queries), chat.encode_docs(docs)

    def spread(row, found):
        low, high = row[found].min(), row[found].max()
        return np.where(found, (row - low) / max(high - low, 1e-9), 0)

    cosine = asked.dense.vectors.astype(float) @ read.dense.vectors.astype(float).T
    product = (asked.sparse.matrix @ read.sparse.matrix.T).toarray()
    return [
        0.5 * spread(one, np.ones(len(docs), bool)) + 0.5 * spread(other, other > 0)
        for one, other in zip(cosine, product, strict=True)
    ]
