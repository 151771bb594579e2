"""Collections that are often measured on the wrong version, split or grade: traps by the names they are known under.

Figures and issues are of beir-cellar/beir (#11, #40, #74, #143); counts of ir_datasets 0.6.3 and of MTEB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from retrieval.examination import Finding, Patient

__all__ = ["TRAPS", "traps"]

PARTS = "android english gaming gis mathematica physics programmers stats tex unix webmasters wordpress".split()
MERGED = 457_199  # documents of all parts of CQADupStack together
TOUCHE_DOCUMENTS = 382_545  # of v1 and v2
TOUCHE = {
    2_962: "v1, BEIR's first (grades -2 to 5)",
    2_214: "v2, that of BEIR's tables",
    2_298: "v2 of June 2021",
}
TOUCHE_V3 = 303_732  # documents, of MTEB's task Touche2020Retrieval.v3


def traps(patient: Patient) -> Iterator[Finding]:
    """What is known to go wrong with the collection of this name."""
    if patient.known and patient.known.remark:
        yield Finding("note", patient.known.remark, "say so wherever a figure is shown")
    name = f"{patient.collection.folder.resolve().parent.name}/{patient.collection.name}".casefold()
    for word, trap in TRAPS.items():
        if word in name:
            yield from trap(patient)


def touche(patient: Patient) -> Iterator[Finding]:
    """Versions under one name: documents tell v3, judgements v1 from v2."""
    documents, judged = len(patient.collection.corpus), len(patient.qrels.get("test", ()))
    version = TOUCHE.get(judged) if documents == TOUCHE_DOCUMENTS else None
    version = "v3, without short arguments and judged anew (Thakur et al. 2024)" if documents == TOUCHE_V3 else version
    if version is None:
        what = f"Touche-2020 with {documents:,} documents and {judged:,} judgements is none of v1, v2, v3"
        yield Finding("warning", what, "compare with no published figure before you know which it is")
        return
    advice = "name the version with every figure: BM25 has nDCG@10 of some 0.60 on v1 and 0.35 on v2 (BEIR's settings)"
    yield Finding("warning" if version.startswith("v1") else "note", f"Touche-2020 is {version}", advice)


def msmarco(patient: Patient) -> Iterator[Finding]:
    """BEIR's test split of MS MARCO is TREC DL 2019, and its tables report dev."""
    qrels = patient.qrels.get("test")
    if qrels is not None and len(qrels.query_ids) == 43:
        what = "test is TREC DL 2019 (43 queries of graded judgements), not MS MARCO's own"
        advice = "BEIR's tables report split dev (6,980 queries): BM25 has nDCG@10 0.23 there and 0.48 on test"
        yield Finding("warning", what, advice, 43)


def graded(patient: Patient) -> Iterator[Finding]:
    """TREC DL's grade 1 counts as not relevant in binary measures."""
    ones = max((int((one.grades == 1).sum()) for one in patient.qrels.values() if 3 in one.grades), default=0)
    if ones:
        advice = "its binary measures count grades 2 and 3: write AP(rel=2), R(rel=2)@100, RR(rel=2)"
        yield Finding("note", "judgements of TREC DL's grade 1, related but not relevant", advice, ones)


def own_queries(patient: Patient) -> Iterator[Finding]:
    """Published figures leave out the document that is the query."""
    if not patient.collection.excludes_self:
        advice = "set excludes_self: true; with self-hits all of its figures are other ones"
        yield Finding(
            "error", "ArguAna's and Quora's queries are documents, and published figures leave these out", advice
        )


def cqadupstack(patient: Patient) -> Iterator[Finding]:
    """Twelve collections whose figures are averaged, not one."""
    name = patient.collection.name.rpartition("/")[2].rpartition("-")[2]
    if name in PARTS:
        what, advice = f"{name} is one of CQADupStack's 12 parts", "published figures are the mean of all 12 figures"
        yield Finding("note", what, advice)
    elif len(patient.collection.corpus) == MERGED:
        what = "all 12 parts of CQADupStack in one corpus"
        yield Finding("error", what, "published figures search each part alone, and average the 12 figures")


def nfcorpus(patient: Patient) -> Iterator[Finding]:
    """Training has one grade and covers the test documents, test has two grades."""
    grades = {split: sorted(set(qrels.grades.tolist())) for split, qrels in patient.qrels.items()}
    if grades.get("train") == [1] and grades.get("test") == [1, 2]:
        what = "NFCorpus grades 1 alone in train, 1 and 2 in dev and test, all over the same documents"
        advice = "train teaches no grades, and nearly every test document is a training document of other queries"
        yield Finding("note", what, advice)


def covid(patient: Patient) -> Iterator[Finding]:
    """Some 490 relevant documents a query."""
    qrels = patient.qrels.get("test")
    if qrels is not None and len(qrels):
        most = int(np.bincount(qrels.query[qrels.grades > 0]).max(initial=0))
        what = f"queries have up to {most:,} relevant documents, so R@100 cannot reach 1"
        yield Finding("note", what, "BEIR's paper caps recall: found over min(100, relevant); name which is shown")


TRAPS: dict[str, Callable[[Patient], Iterator[Finding]]] = {
    "touche": touche,
    "msmarco": msmarco,
    "msmarco-passage": graded,
    "trec-dl": graded,
    "arguana": own_queries,
    "quora": own_queries,
    "cqadupstack": cqadupstack,
    "nfcorpus": nfcorpus,
    "trec-covid": covid,
}
