import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from math import comb
from typing import Any

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.limit import PATTERNS, LimitData, LimitSplit, _words, density, generate, strength

LISTS = {"attributes": 3179, "adjectives": 106, "nouns": 128, "first_names": 385, "last_names": 355}
SMALL: dict[str, Any] = {
    "documents": 5,
    "queries": 10,
    "distractors": 3,
    "items": 6,
    "train_queries": 24,
    "dev_queries": 3,
}
SMALL_SHA256 = "d18727c3244754b4fbed67eaacda1be7de9f883e3518283bfb6a17a12c76271c"


@pytest.fixture(scope="module")
def limit_small() -> LimitData:
    """46 people for each of test and train, 15 for dev, no distractors."""
    return generate(distractors=0)


def digest(made: LimitData) -> str:
    return hashlib.sha256(repr(made).encode()).hexdigest()


def attribute(text: str) -> str:
    return text.removeprefix("Who likes ").removesuffix("?")


def items(name: str, text: str) -> list[str]:
    return re.split(", | and ", text.removeprefix(f"{name} likes ").removesuffix("."))


def people(split: LimitSplit) -> set[str]:
    return {person for judged in split.qrels.values() for person in judged}


def check_only_the_relevant_documents_hold_the_attribute(made: LimitData, k: int) -> None:
    for split in made.splits.values():
        assert [i for i, _ in split.queries] == list(split.qrels)
        for query, text in split.queries:
            found = {name for name, _, document in made.documents if attribute(text) in document}
            assert found == set(split.qrels[query]) and len(found) == k
            assert set(split.qrels[query].values()) == {1}


def check_documents(made: LimitData, size: int) -> None:
    names = [name for name, _, _ in made.documents]
    assert len(set(names)) == len(names)
    for name, title, text in made.documents:
        liked = items(name, text)
        assert title == "" and len(liked) == len(set(liked)) == size


def check_splits_share_nothing(made: LimitData) -> None:
    asked = [attribute(text) for split in made.splits.values() for _, text in split.queries]
    assert len(set(asked)) == len(asked)
    ids = [query for split in made.splits.values() for query in split.qrels]
    assert len(set(ids)) == len(ids)
    for one, other in combinations(made.splits.values(), 2):
        assert not people(one) & people(other)


def by_definition(qrels: dict[str, dict[str, int]]) -> tuple[float, float]:
    """Density and strength, pair by pair."""
    relevant = [{doc for doc, grade in judged.items() if grade > 0} for judged in qrels.values()]
    shared = [(len(a & b), len(a | b)) for a, b in combinations(relevant, 2)]
    edges = sum(both > 0 for both, _ in shared)
    overlap = sum(both / either for both, either in shared if both)
    return 2 * edges / (len(qrels) * (len(qrels) - 1)), 2 * overlap / len(qrels)


def test_the_defaults_have_the_degrees_density_and_strength_of_limit(limit_small):
    qrels = limit_small.splits["test"].qrels
    degrees = Counter(person for judged in qrels.values() for person in judged)
    assert Counter(degrees.values()) == {45: 37, 38: 2, 37: 7}
    assert len(qrels) == 1000
    assert density(qrels) == pytest.approx(0.08548148, abs=5e-9)
    assert strength(qrels) == pytest.approx(28.46533, abs=5e-6)


def test_the_released_judgements_have_the_same_density_and_strength(limit_small, data):
    released: dict[str, dict[str, int]] = {}
    for line in (data / "limit-small" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, person, grade = line.split("\t")
        released.setdefault(query, {})[person] = int(grade)
    made = limit_small.splits["test"].qrels
    assert (density(made), strength(made)) == pytest.approx((density(released), strength(released)))


def test_the_defaults_have_the_size_of_limit():
    made = generate()
    assert len(made.documents) == 50_000 + 46 + 15
    assert {split: len(each.queries) for split, each in made.splits.items()} == {
        "train": 1000,
        "dev": 100,
        "test": 1000,
    }
    check_documents(made, 45)


def test_training_asks_in_the_pattern_of_the_test(limit_small):
    train, test = (limit_small.splits[split].qrels for split in ("train", "test"))
    assert density(train) == density(test) and strength(train) == pytest.approx(strength(test))


def test_only_the_relevant_documents_hold_the_attribute(limit_small):
    check_only_the_relevant_documents_hold_the_attribute(limit_small, k=2)


def test_every_document_has_the_same_number_of_different_items(limit_small):
    check_documents(limit_small, 45)


def test_splits_share_no_attribute_no_person_and_no_query_id(limit_small):
    check_splits_share_nothing(limit_small)


@pytest.mark.parametrize("language", ["english", "porter", None])
def test_word_matching_finds_every_relevant_document(limit_small, language):
    stemmer = Stemmer.Stemmer(language) if language else None
    index = bm25s.BM25()
    corpus = bm25s.tokenize([text for _, _, text in limit_small.documents], stemmer=stemmer, show_progress=False)
    index.index(corpus, show_progress=False)
    queries, qrels = limit_small.splits["test"].queries, limit_small.splits["test"].qrels
    asked = bm25s.tokenize([text for _, text in queries], stemmer=stemmer, show_progress=False)
    found, _ = index.retrieve(asked, k=2, show_progress=False)
    names = np.array([name for name, _, _ in limit_small.documents])
    assert [set(row) for row in names[found].tolist()] == [set(qrels[query]) for query, _ in queries]


def test_relevant_people_are_not_first_in_the_corpus():
    made = generate(**SMALL | {"distractors": 200})
    relevant = set().union(*map(people, made.splits.values()))
    assert {name for name, _, _ in made.documents[: len(relevant)]} != relevant


def test_a_seed_gives_these_bytes():
    assert digest(generate(**SMALL)) == SMALL_SHA256


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_seed_gives_the_same_bytes_twice_and_in_another_process(pattern):
    chosen = SMALL | {"pattern": pattern, "documents": 20, "items": 12}
    here = digest(generate(**chosen))
    assert here == digest(generate(**chosen))
    code = f"from retrieval.limit import generate; print(repr(generate(**{chosen!r})))"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        there = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert hashlib.sha256(there.stdout.strip().encode()).hexdigest() == here


def test_another_seed_gives_another_collection():
    assert digest(generate(**SMALL, seed=1)) != digest(generate(**SMALL, seed=0))


def test_patterns_are_as_defined():
    rng = np.random.default_rng(0)
    assert PATTERNS["dense"](2, 4, 4, rng).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2]]
    assert PATTERNS["cycle"](2, 3, 4, rng).tolist() == [[0, 1], [1, 2], [2, 0], [0, 1]]
    assert PATTERNS["disjoint"](2, 5, 2, rng).tolist() == [[0, 1], [2, 3]]
    assert sorted(PATTERNS["random"](2, 4, 6, rng).tolist()) == [list(pair) for pair in combinations(range(4), 2)]


def test_disjoint_queries_share_nothing_and_a_cycle_shares_with_its_neighbours():
    apart = generate("disjoint", documents=10, queries=5, distractors=0, train_queries=0, dev_queries=0)
    assert density(apart.splits["test"].qrels) == strength(apart.splits["test"].qrels) == 0
    ring = generate("cycle", documents=6, queries=6, distractors=0, train_queries=0, dev_queries=0)
    assert density(ring.splits["test"].qrels) == pytest.approx(6 / 15)
    assert strength(ring.splits["test"].qrels) == pytest.approx(2 / 3)


def test_more_training_queries_are_copies_of_the_pattern_over_more_people():
    made = generate(**SMALL)  # 24 queries: two copies of 10 over 5 people, and 4 over 4 of them
    degrees = Counter(person for judged in made.splits["train"].qrels.values() for person in judged)
    assert sorted(degrees.values()) == [1, 2, 2, 3, *[4] * 10]
    assert len(people(made.splits["dev"])) == 3


def test_a_split_without_queries_is_empty():
    made = generate(**SMALL | {"dev_queries": 0})
    assert list(made.splits) == ["train", "dev", "test"] and made.splits["dev"] == LimitSplit([], {})


@pytest.mark.parametrize(
    ("size", "ending"), [(1, r" likes \w+\."), (2, r" likes \w+ and \w+\."), (3, r", \w+ and \w+\.")]
)
def test_a_document_is_a_sentence(size, ending):
    made = generate("disjoint", 1, 3, 3, distractors=0, items=size, train_queries=0, dev_queries=0)
    assert all(re.search(ending + "$", text) and text.startswith(name) for name, _, text in made.documents)


def test_single_words_suffice_for_2329_queries():
    made = generate("disjoint", 1, 2329, 2329, distractors=0, train_queries=0, dev_queries=0)
    assert all(len(item.split()) == 1 for name, _, text in made.documents for item in items(name, text))


def test_pairs_of_words_are_used_when_the_single_words_run_out():
    made = generate("disjoint", 1, 4000, 4000, distractors=0, items=2, train_queries=0, dev_queries=0)
    asked = [attribute(text) for _, text in made.splits["test"].queries]
    single = set(_words("attributes"))
    assert 0 < sum(text not in single for text in asked) < len(asked)
    assert all(len(text.split()) == 2 for text in asked if text not in single)
    check_only_the_relevant_documents_hold_the_attribute(made, k=1)


@st.composite
def small_settings(draw) -> dict:
    pattern, k = draw(st.sampled_from(sorted(PATTERNS))), draw(st.integers(1, 3))
    documents = draw(st.integers(k, 9))
    most = {"disjoint": documents // k, "cycle": 12}.get(pattern, min(20, comb(documents, k)))
    size = {"distractors": st.integers(0, 4), "train_queries": st.integers(0, 30), "dev_queries": st.integers(0, 5)}
    return {
        **{name: draw(values) for name, values in size.items()},
        **{"pattern": pattern, "k": k, "documents": documents, "queries": draw(st.integers(1, most))},
        **{"items": draw(st.integers(20, 30)), "seed": draw(st.integers(0, 9))},
    }


@settings(max_examples=60, deadline=None)
@given(small_settings())
def test_any_settings_give_a_collection_that_holds_together(chosen):
    made = generate(**chosen)
    check_documents(made, chosen["items"])
    check_only_the_relevant_documents_hold_the_attribute(made, chosen["k"])
    check_splits_share_nothing(made)
    for split, wanted in {"test": "queries", "dev": "dev_queries", "train": "train_queries"}.items():
        qrels = made.splits[split].qrels
        assert len(qrels) == chosen[wanted]
        if len(qrels) > 1:
            assert (density(qrels), strength(qrels)) == pytest.approx(by_definition(qrels))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_density_and_strength_are_those_of_the_definition(pattern):
    made = generate(pattern, 3, 200, 60, 0, train_queries=0, dev_queries=0, items=60, seed=3)
    qrels = made.splits["test"].qrels
    assert (density(qrels), strength(qrels)) == pytest.approx(by_definition(qrels))


def test_density_and_strength_by_hand():
    qrels = {"q1": {"a": 1, "b": 2}, "q2": {"b": 1, "a": 0}, "q3": {"c": 1, "a": 0}, "q4": {}}
    assert density(qrels) == pytest.approx(1 / 6)
    assert strength(qrels) == pytest.approx(2 * 0.5 / 4)


def test_too_few_queries_have_no_statistics():
    with pytest.raises(ValueError, match="1 queries have no density.*give two or more"):
        density({"q": {"a": 1}})
    with pytest.raises(ValueError, match="give one or more"):
        strength({})
    assert strength({"q": {"a": 1}}) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pattern": "sparse"}, "'sparse' is none of dense, random, cycle, disjoint"),
        ({"k": 0}, "k=0; it must be 1 or more"),
        ({"queries": 0}, "queries=0; it must be 1 or more"),
        ({"dev_queries": -1}, "dev_queries=-1; it must be 0 or more"),
        ({"seed": -1}, "seed=-1; it must be 0 or more"),
        ({"k": 47}, "k=47 relevant documents per query need documents=47, not 46"),
        ({"queries": 1036}, "46 documents have 1035 combinations of 2, for queries=1036; documents=47 would be enough"),
        ({"pattern": "random", "documents": 5}, "5 documents have 10 combinations of 2.*documents=46 would be enough"),
        ({"pattern": "disjoint"}, "queries=1000 and k=2 needs documents=2000, not 46"),
        ({"items": 44}, "has 45 attributes that are asked for, more than items=44; items=45 would be enough"),
        ({"distractors": 10**6}, "more than the 385 x 355 names; ask for 863432 fewer"),
        ({"train_queries": 20_000}, "attributes, and there are 16747; ask for 4387 fewer"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_would_be_right(wrong, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"distractors": 0} | wrong)


@pytest.mark.parametrize(("name", "size"), LISTS.items())
def test_a_word_list_is_sorted_and_holds_capitalised_words(name, size):
    words = _words(name)
    assert len(words) == size and list(words) == sorted(set(words))
    assert all(re.fullmatch("[A-Z][a-z]{2,}", word) for word in words)


@pytest.mark.parametrize("language", ["english", "porter"])
def test_no_two_words_of_any_lists_have_the_same_stem(language):
    words = [word.lower() for name in LISTS for word in _words(name)]
    assert len(set(words)) == len(words)
    stems = Counter(Stemmer.Stemmer(language).stemWords([*words, "who", "likes", "and"]))
    assert stems.most_common(1)[0][1] == 1


def test_no_word_of_any_list_begins_with_an_attribute():
    everything = sorted(word for name in LISTS for word in _words(name))
    attributes = {word for name in ("attributes", "nouns") for word in _words(name)}
    begins = [(word[:end], word) for word in everything for end in range(3, len(word)) if word[:end] in attributes]
    assert begins == []


def test_there_are_enough_attributes_and_people():
    assert LISTS["attributes"] + LISTS["adjectives"] * LISTS["nouns"] >= 8000
    assert LISTS["first_names"] * LISTS["last_names"] >= 60_000
