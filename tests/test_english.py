"""English against tokens and stems that Lucene gave, kept beside this file, and what it does with odd input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrieval.analyzers.english import CHUNK, LUCENE, English
from retrieval.porter import stem

HERE = Path(__file__).parent
ORACLE = [json.loads(line) for line in (HERE / "lucene_tokens.jsonl").read_text(encoding="utf-8").splitlines()]
STEMS = [line.split("\t") for line in (HERE / "porter.tsv").read_text(encoding="utf-8").splitlines()]


def terms(texts, **how):
    return English(**how).analyze(pa.array(texts, pa.large_string())).lists()


def lowered(token):
    """Lucene's two filters after its tokenizer: the possessive, then each character on its own, as Java lowers it."""
    if len(token) > 1 and token[-1] in "sS" and token[-2] in "'\u2019\uff07":
        token = token[:-2]
    return "".join("i" if character == "\u0130" else character.lower() for character in token)


def stemmed(word):
    units = np.frombuffer(word.encode("utf-16-le"), np.uint16).astype(np.uint32)
    held = np.concatenate([units, np.zeros(2, np.uint32)])
    return held[: stem(held, len(units))].astype(np.uint16).tobytes().decode("utf-16-le")


def test_the_terms_are_those_of_lucenes_english_analyzer():
    found = terms([one["text"] for one in ORACLE])
    assert [own for own, one in zip(found, ORACLE, strict=True) if own != one["english"]] == []


def test_without_stems_and_stop_words_they_are_those_of_its_tokenizer_lowered():
    found = terms([one["text"] for one in ORACLE], stemmer=None, stopwords=[])
    wanted = [[lowered(token) for token in one["standard"]] for one in ORACLE]
    assert [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]] == []


def test_the_oracle_has_long_tokens_emoji_possessives_and_letters_beyond_the_first_plane():
    tokens = [token for one in ORACLE for token in one["standard"]]
    units = [len(token.encode("utf-16-le")) // 2 for token in tokens]
    assert len(ORACLE) == 400 and {254, 255} <= {*units} and max(units) == 255
    assert any("\u200d" in token and "\U0001f300" <= token[0] for token in tokens)
    assert any(token.endswith(("'s", "\u2019S")) for token in tokens)
    assert any(character.isalpha() and character > "\uffff" for token in tokens for character in token)


def test_stems_are_those_of_lucenes_porter_stemmer():
    assert [(word, stemmed(word), wanted) for word, wanted in STEMS if stemmed(word) != wanted] == []
    assert len(STEMS) > 2000


@pytest.mark.parametrize("text", ["", " \n", "!?", "the of AND", "\u0301"])
def test_a_text_without_terms_has_none(text):
    assert terms([text, "foxes", text]) == [[], ["fox"], []]


def test_no_texts_give_no_terms():
    found = English().analyze(pa.array([], pa.large_string()))
    assert len(found) == 0 and len(found.terms) == 0 and found.offsets.tolist() == [0]


def test_a_missing_text_is_an_empty_one():
    assert terms(["a fox", None, "", "dogs"]) == [["fox"], [], [], ["dog"]]
    assert terms([None]) == [[]]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_of_arrays_are_the_texts_they_show(kind):
    texts = ["never read", "foxes \u00e9t\u00e9", None, "two dogs", "never read"]
    part = pa.array(texts, kind).slice(1, 3)
    assert English().analyze(part).lists() == [["fox", "\u00e9t\u00e9"], [], ["two", "dog"]]
    assert English().analyze(part.slice(2)).lists() == [["two", "dog"]]


def test_many_texts_at_once_are_each_text_alone():
    several = [one["text"] for one in ORACLE if len(one["text"]) < 300]
    texts = (several * (1 + 2 * CHUNK // len(several)))[: 2 * CHUNK + 17]
    analyzer = English()
    found = analyzer.analyze(pa.array(texts, pa.large_string()))
    alone = {text: terms([text])[0] for text in several}
    assert found.lists() == [alone[text] for text in texts]
    assert found.terms.to_pylist() == list(dict.fromkeys(term for text in texts for term in alone[text]))
    assert found.ids.dtype == np.int32 and found.offsets.dtype == np.int64


def test_stop_words_are_left_out_before_stems_are_taken():
    assert terms(["The Runs run, running NOT"], stopwords=["runs", "the"]) == [["run", "run", "not"]]
    assert terms(["The not"], stopwords=[]) == [["the", "not"]]
    assert len(LUCENE) == 33 and terms([" ".join(LUCENE).upper()]) == [[]]


def test_the_stemmer_can_be_left_out():
    assert terms(["The otter's rivers"], stemmer=None) == [["otter", "rivers"]]


def test_a_stop_word_in_upper_case_is_refused():
    with pytest.raises(ValueError, match="stop words are compared in lower case, and 'The' is not"):
        English(stopwords=["of", "The"])


def test_the_contract_is_all_that_determines_the_terms():
    assert English().contract() == {"analyzer": "english", "stemmer": "porter", "stopwords": LUCENE}
    assert English(None, ["b", "a", "b"]).contract() == {
        "analyzer": "english",
        "stemmer": None,
        "stopwords": ["a", "b"],
    }
    assert English(stopwords=sorted(LUCENE)).contract() == English().contract()
