"""What nearly repeats within a collection: documents alike, and queries and judged documents of training and test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from retrieval.examination import Finding, Patient, examples, is_training
from retrieval.types import Queries
from training.contamination import QUERY_WORDS, contamination
from training.near_duplicates import NearTexts, shingles
from training.sources.judged import lists_of

__all__ = ["near_documents", "training_and_test"]


def near_documents(patient: Patient, threshold: float) -> Iterator[Finding]:
    """Documents whose runs of three words are nearly those of another, without the same words in the same order."""
    corpus = patient.collection.corpus
    sets = shingles(corpus.texts(np.arange(len(corpus))))
    left, right, _ = NearTexts(sets, threshold).find(sets)
    near = (left < right) & (sets.whole[left] != sets.whole[right])
    if not near.any():
        return
    ids = corpus.ids.take(np.unique(right[near]))
    pairs = zip(corpus.ids.take(left[near][:3]), corpus.ids.take(right[near][:3]), strict=True)
    what = f"documents nearly repeat another (similarity {threshold:g} and more)"
    advice = "one of them may be judged and the other not: look at the unjudged in the top 10"
    yield Finding("note", what, advice, len(ids), [f"{one} ~ {other}" for one, other in pairs])


def training_and_test(patient: Patient, threshold: float) -> Iterator[Finding]:
    """Queries and judged documents that a training split shares with another, the same or nearly."""
    splits = list(patient.qrels)
    pairs = product([one for one in splits if is_training(one)], [one for one in splits if not is_training(one)])
    for train, test in pairs:
        yield from _shared(patient, train, test, threshold)


def _shared(patient: Patient, train: str, test: str, threshold: float) -> Iterator[Finding]:
    corpus, qrels = patient.collection.corpus, patient.qrels[test]
    judged = np.unique(corpus.ids.rows(qrels.doc_ids))
    trained, asked = _queries(patient, train), _queries(patient, test)
    try:
        lists = lists_of(corpus, trained, patient.qrels[train])
    except ValueError as error:
        yield Finding("error", f"{train} cannot be trained on: {error}", f"and is not compared with {test}")
        return
    found = contamination(lists, asked, corpus.texts(judged[judged >= 0]), threshold)
    same, near = _pairs(trained, asked, threshold)
    if found["test queries trained on"]:
        advice = f"figures of a model trained on {train} flatter: leave these out of the training"
        what = f"{test} queries are {train} queries in the same words"
        yield Finding("warning", what, advice, found["test queries trained on"], examples(same))
    if found["test queries close to one trained on"]:
        what = f"{test} queries are nearly {train} queries (similarity {threshold:g} and more of words)"
        advice = "look at them: a model trained on the one may know the other, or its contrary"
        yield Finding("note", what, advice, found["test queries close to one trained on"], examples(near))
    documents, close = found["judged documents trained on"], found["judged documents close to one trained on"]
    if documents or close:
        nearly = f", {close:,} nearly" if close else ""
        what = f"of {found['judged documents']:,} documents judged in {test}, judged in {train} too{nearly}"
        advice = "usual where splits share a corpus; a gain from training is partly of knowing these documents"
        yield Finding("note", what, advice, documents)


def _pairs(trained: Queries, asked: Queries, threshold: float) -> tuple[list[str], list[str]]:
    """Test and training queries that are the same, and that are nearly so and no same, with the words of these."""
    here, there = (shingles(queries.texts, QUERY_WORDS) for queries in (asked, trained))
    left, right, _ = NearTexts(there, threshold).find(here)
    equal = here.whole[left] == there.whole[right]
    same = [f"{asked.ids[one]} = {trained.ids[other]}" for one, other in zip(left[equal], right[equal], strict=True)]
    near = [
        f"{asked.ids[one]} ~ {trained.ids[other]} ({asked.texts[one]} ~ {trained.texts[other]})"
        for one, other in zip(left[~equal], right[~equal], strict=True)
        if one not in left[equal]
    ]
    return same, near


def _queries(patient: Patient, split: str) -> Queries:
    """The judged queries of a split that have a text."""
    names = [name for name in patient.qrels[split].query_ids if patient.queries.get(name, "").strip()]
    return Queries(names, [patient.queries[name] for name in names])
