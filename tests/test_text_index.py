"""The index of terms: against counting by hand, in blocks of any size, and what is refused."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.analyzers.english import English
from retrieval.analyzers.wordpiece import WordPiece
from retrieval.corpus import Corpus, Document
from retrieval.retrievers.bm25 import BM25
from retrieval.text_index import TextIndex
from retrieval.types import Queries
from retrieval.vocabulary import Vocabulary

WORDS = English(stemmer=None, stopwords=[])


def corpus_of(texts, folder):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(texts)), folder)


def random_texts(seed, documents):
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(300)])
    return [" ".join(words[np.minimum(rng.zipf(1.4, rng.integers(0, 40)) - 1, 299)]) for _ in range(documents)]


def by_term(index):
    """Term -> row -> count, read from the postings."""
    words = index.vocabulary.terms.to_pylist()
    spans = zip(words, index.offsets[:-1], index.offsets[1:], strict=True)
    return {
        word: dict(zip(index.docs[a:b].tolist(), index.frequencies[a:b].tolist(), strict=True)) for word, a, b in spans
    }


@pytest.mark.parametrize("block", [1, 50, 700, 1 << 20])
def test_postings_and_documents_are_what_counting_gives(block, tmp_path):
    """In one block or in thousands, merged a few terms at a time or all at once."""
    texts = random_texts(0, 150)
    index = TextIndex.make(corpus_of(texts, tmp_path / "corpus"), WORDS, tmp_path / "index", block=block)
    counted = [Counter(text.split()) for text in texts]
    expected = {}
    for row, counts in enumerate(counted):
        for word, count in counts.items():
            expected.setdefault(word, {})[row] = count
    assert by_term(index) == expected
    assert list(index.document_terms(np.arange(150))) == counted
    assert list(index.document_terms(np.array([7, 7, 3]))) == [counted[7], counted[7], counted[3]]
    np.testing.assert_array_equal(index.lengths[0], [sum(counts.values()) for counts in counted])
    assert index.holding() == sum(map(bool, counted)) and index.frequencies.dtype == np.uint8


def test_a_count_above_255_is_kept(tmp_path):
    index = TextIndex.make(corpus_of(["x " * 70_000, "x y"], tmp_path / "corpus"), WORDS, tmp_path / "index")
    assert by_term(index) == {"x": {0: 70_000, 1: 1}, "y": {1: 1}}


def test_many_documents_are_analysed_on_all_cores_and_stay_in_order(tmp_path):
    texts = [f"doc{i} shared" for i in range(10_000)]
    index = TextIndex.make(corpus_of(texts, tmp_path / "corpus"), WORDS, tmp_path / "index")
    numbers = index.numbers(pa.array(["doc0", "doc4095", "doc4096", "doc9999", "none"], pa.large_string()))
    assert [index.docs[index.offsets[n]] for n in numbers[:4]] == [0, 4095, 4096, 9999] and numbers[4] == -1


def test_the_bytes_do_not_depend_on_the_run(tmp_path):
    corpus = corpus_of(random_texts(1, 9000), tmp_path / "corpus")
    first, again = (TextIndex.make(corpus, WORDS, tmp_path / name) for name in ("one", "two"))
    assert first.files.digests() == again.files.digests()


@pytest.mark.parametrize("name", ["docs", "values", "offsets", "forward_terms", "term_bytes", "lengths"])
def test_an_index_cut_short_is_an_error(name, tmp_path):
    corpus = corpus_of(random_texts(2, 50), tmp_path / "corpus")
    folder = TextIndex.make(corpus, WORDS, tmp_path / "index").folder
    size = (folder / name).stat().st_size
    with open(folder / name, "r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(ValueError, match=rf"{name} has {size - 1} bytes and should have {size}: delete .* built again"):
        TextIndex.make(corpus, WORDS, tmp_path / "index")
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing: delete"):
        TextIndex.make(corpus, WORDS, tmp_path / "index")


def test_impacts_cut_short_are_an_error(tmp_path):
    corpus = corpus_of(random_texts(3, 50), tmp_path / "corpus")
    BM25(analyzer=WORDS).open(corpus, tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("impacts")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"impacts has \d+ bytes and should have"):
        BM25(analyzer=WORDS).open(corpus, tmp_path / "cache")


def test_an_index_of_another_corpus_or_analysis_is_refused_with_both_named(tmp_path):
    corpus = corpus_of(["otters swim"], tmp_path / "corpus")
    other = corpus_of(["rivers run"], tmp_path / "other")
    folder = TextIndex.make(corpus, English(), tmp_path / "index").folder
    with pytest.raises(ValueError, match=r"stemmer: 'porter' there, None here"):
        TextIndex(folder, corpus, English(stemmer=None))
    with pytest.raises(ValueError, match=f"corpus: '{corpus.fingerprint}' there, '{other.fingerprint}' here"):
        TextIndex(folder, other, English())
    with pytest.raises(ValueError, match=r"analyzer: 'english' there, 'wordpiece' here"):
        TextIndex(folder, corpus, WordPiece())


def test_a_folder_that_is_no_index_is_refused(tmp_path):
    corpus = corpus_of(["otters swim"], tmp_path / "corpus")
    folder = TextIndex.make(corpus, English(), tmp_path / "index").folder
    (folder / "about.json").write_text(json.dumps({"corpus": 1})[:-2])
    with pytest.raises(ValueError, match=r"is no index: about.json cannot be read"):
        TextIndex.make(corpus, English(), tmp_path / "index")


def test_wordpiece_terms_are_the_models_tokens(tmp_path):
    from transformers import AutoTokenizer

    from retrieval.model_files import find_model

    texts = ["Electroencephalography of otters", "", "naïve 文"]
    found = WordPiece().analyze(pa.array(texts, pa.large_string()))
    tokenizer = AutoTokenizer.from_pretrained(find_model("all-MiniLM-L6-v2"))
    assert found.lists() == [tokenizer.tokenize(text) for text in texts]
    retriever = BM25(analyzer=WordPiece())
    retriever.open(corpus_of(texts, tmp_path / "corpus"), tmp_path / "cache")
    assert retriever.retrieve(Queries(["q"], ["encephalo"]), 3).rows[0, 0] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(max_size=5), max_size=30), max_size=6))
def test_a_vocabulary_numbers_strings_as_they_come(lots):
    """As a dictionary does, over several additions, for any string."""
    vocabulary, expected = Vocabulary(), {}
    for lot in lots:
        lot = [text for text in lot if not any("\ud800" <= c <= "\udfff" for c in text)]
        ids = vocabulary.add(pa.array(lot, pa.large_string()))
        assert ids.tolist() == [expected.setdefault(text, len(expected)) for text in lot]
    assert vocabulary.terms.to_pylist() == list(expected)
    assert vocabulary.find([*expected, "not there"]).tolist() == [*range(len(expected)), -1]
    assert vocabulary.take(np.arange(len(expected))).to_pylist() == list(expected)


def test_a_vocabulary_grows_past_its_first_room():
    words = [f"{i:x}" for i in range(200_000)]
    vocabulary = Vocabulary()
    for start in range(0, len(words), 30_000):
        vocabulary.add(pa.array(words[start : start + 30_000], pa.large_string()))
    assert len(vocabulary) == 200_000
    assert vocabulary.find(words[::997]).tolist() == list(range(0, 200_000, 997))
