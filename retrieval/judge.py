"""Let a language model judge relevance, and see how far it agrees with people: `python -m retrieval.judge x.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval import evaluate
from eval.agreement import agreement, kendall_tau
from eval.agreement_report import print_agreement
from eval.report import figures, print_report
from retrieval.asking import Asker, cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.judgements import Judgement, Judgements, judged_by, write_judgements
from retrieval.looks import look, told
from retrieval.order import PAD
from retrieval.protocols import Dataset, Generator
from retrieval.run_file import find_run, read_run
from retrieval.sampling import Sampling
from retrieval.search import MEASURES, check
from retrieval.types import Qrels, Run

__all__ = ["judge"]

# A grade and nothing else: what a model adds to it may say something else.
GRADE = re.compile(r"(?:(?:final\s+)?(?:grade|score)\s*[:=]?\s*)?\**([0-3])\**\.?", re.IGNORECASE)
FIX = "take another model or prompt; or fallback: unjudged leaves such a pair without a grade, and counts it"
Pairs = Sequence[tuple[str, str]]  # ids of query and document


def judge(
    dataset: Dataset,
    generator: Generator,
    runs: dict[str, Path] | None = None,
    split: str = "test",
    pairs: Literal["top", "judged"] = "top",
    depth: int = 10,
    prompt: Path | None = None,
    words: int | None = 300,
    sampling: Sampling = Sampling(max_tokens=16),
    retries: int = 0,
    fallback: Literal["unjudged"] | None = None,
    relevant: list[int] = [1, 2],  # noqa: B006 - read only
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    out: Path | None = None,
) -> dict[str, Any]:
    """Grade pairs of query and document from 0 to 3, to OUT/judgements.jsonl, and compare the grades with people's.

    Pairs are the `depth` best documents of each of `runs`, or those that people `judged`. An answer is a grade where it
    is nothing else. Another is asked for again, `retries` times at most, and stops the recipe in the end, or with
    `fallback: unjudged` is counted and is no grade. Passages are cut to `words`. `prompt` is a file of chat turns with
    {query} and {passage}; None is our own, with the scale of TREC DL and UMBRELA in our words.

    For the binary kappa `relevant` is the lowest relevant grade of people and of the model. The runs are measured by
    both, and the orders compared. `dataset: {type: model_judged, dataset: ..., judgements: OUT/judgements.jsonl}` takes
    the file to any recipe, whose figures then name the model; it is no qrels file.
    """
    found = {name: find_run(path) for name, path in (runs or {}).items()}
    _refuse(found, pairs, depth, words, sampling, retries, relevant)
    collection = dataset.open().by_people()
    check(collection, split, measures)
    ids, qrels = collection.queries(split).ids, collection.qrels(split)
    read = {name: read_run(path, ids, collection.corpus.ids, name) for name, path in found.items()}
    wanted = _top(read, depth) if pairs == "top" else _known(collection, qrels)
    asker = Asker(generator, sampling, "unjudged")  # what fails is looked at after the last try
    turns = MessagePrompt.read(prompt_file("retrieval.retrievers", "judged", prompt), ("query", "passage"))
    judged, counts = _judged(collection, split, wanted, turns, words, asker, retries)
    if fallback is None:
        _refuse_failures(judged)
    if out:
        write_judgements(judged, out / "judgements.jsonl")
        print(f"judgements: {out / 'judgements.jsonl'}")
    results = _reported(collection, split, read, judged, counts, measures, relevant)
    return results | {"judge": {"name": judged.judge, **judged.about}, "counts": counts, "cost": asker.counts()}


def grade(answer: str) -> int | None:
    """The grade that an answer is; None where it is none, or says more."""
    found = GRADE.fullmatch(answer.strip())
    return int(found[1]) if found else None


def _refuse(
    runs: Mapping[str, Path],
    pairs: str,
    depth: int,
    words: int | None,
    sampling: Sampling,
    retries: int,
    relevant: Sequence[int],
) -> None:
    """Raises ValueError, before any work, for what cannot be."""
    if pairs == "top" and not runs:
        raise ValueError("runs: name at least one run to judge the best documents of, or give pairs: judged")
    if depth < 1 or (words is not None and words < 1) or retries < 0:
        raise ValueError(f"depth and words (or null) are at least 1, retries 0, not {depth}, {words} and {retries}")
    if retries and sampling.temperature == 0:
        raise ValueError(f"retries is {retries}, and at temperature 0 the answer stays: give sampling.temperature too")
    if len(relevant) != 2:
        raise ValueError(f"relevant is the lowest relevant grade of people and of the model, not {relevant}")


def _refuse_failures(judged: Judgements) -> None:
    failed = [one for one in judged.pairs if one.grade is None and one.asked]
    if failed:
        one = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(judged.pairs)} answers are no grade, such as {one.answer[:60]!r} for query "
            f"{one.query!r} and document {one.document!r}; {FIX}"
        )


def _top(runs: Mapping[str, Run], depth: int) -> Pairs:
    """The best documents of every run, query by query, each once."""
    best: dict[tuple[str, str], None] = {}
    every = [one.top(depth) for one in runs.values()]
    for place, query in enumerate(every[0].query_ids):
        for one in every:
            rows = one.rows[place]
            best |= dict.fromkeys((query, doc) for doc in one.docs.take(rows[rows != PAD]))
    return list(best)


def _known(collection: Collection, qrels: Qrels) -> Pairs:
    """What people judged, of documents that the corpus has."""
    every = [(query, doc) for query, docs in qrels.to_dict().items() for doc in docs]
    there = collection.corpus.ids.rows([doc for _, doc in every]) >= 0
    return [pair for pair, held in zip(every, there, strict=True) if held]


def _judged(
    collection: Collection,
    split: str,
    pairs: Pairs,
    turns: MessagePrompt,
    words: int | None,
    asker: Asker,
    retries: int,
) -> tuple[Judgements, dict[str, int]]:
    """What the model says of each pair, and what is odd about it. A passage without text is not asked about."""
    queries, corpus = collection.queries(split), collection.corpus
    asked = dict(zip(queries.ids, queries.texts, strict=True))
    texts = [cut_words(text, words) for text in corpus.texts(corpus.ids.rows([doc for _, doc in pairs]))]
    held = [place for place, (text, _) in enumerate(texts) if text]
    chats = [turns.messages(query=asked[pairs[place][0]], passage=texts[place][0]) for place in held]
    said = dict(zip(held, _answers(asker, chats, retries), strict=True))
    made = [Judgement(query, doc, *said.get(place, (None, "", 0))) for place, (query, doc) in enumerate(pairs)]
    about = {"collection": collection.name, "corpus": corpus.fingerprint, "split": split, "words": words}
    counts = {
        "judged pairs": sum(one.grade is not None for one in made),
        "failed judgements": sum(one.grade is None and one.asked > 0 for one in made),
        "pairs asked again": sum(one.asked > 1 for one in made),
        "empty passages": len(pairs) - len(held),
        "truncated passages": sum(cut for _, cut in texts),
    }
    name = _name(asker)
    return Judgements(name, {**about, **turns.about(), "retries": retries, **asker.about()}, made), counts


def _answers(asker: Asker, chats: Sequence[Any], retries: int) -> list[tuple[int | None, str, int]]:
    """Grade, answer and number of tries for each chat; what was no grade is asked for again."""
    found: list[tuple[int | None, str, int]] = [(None, "", 0)] * len(chats)
    for attempt in range(retries + 1):
        due = [place for place, (known, _, _) in enumerate(found) if known is None]
        texts: dict[int, str] = {}

        def read(place: int, text: str, texts: dict[int, str] = texts) -> int | None:
            texts[place] = text
            return grade(text)

        grades = asker.ask([chats[place] for place in due], read, FIX, first=attempt)
        for n, (place, known) in enumerate(zip(due, grades, strict=True)):
            found[place] = known, texts.get(n, ""), attempt + 1
    return found


def _name(asker: Asker) -> str:
    """The model as figures name it."""
    about = asker.about()["generator"]
    model = about.get("model") if isinstance(about, dict) else None
    return Path(model).name if model and Path(model).is_absolute() else str(model or type(asker.generator).__name__)


def _reported(
    collection: Collection,
    split: str,
    runs: Mapping[str, Run],
    judged: Judgements,
    counts: Mapping[str, int],
    measures: Sequence[str],
    relevant: Sequence[int],
) -> dict[str, Any]:
    """Print agreement and what the runs score by people and by the model; the same as plain values."""
    qrels, title = collection.qrels(split), f"{collection.name}, {split}"
    model, known = judged.qrels(qrels.query_ids), qrels.to_dict()
    shared = any(doc in known[query] for query, docs in model.to_dict().items() for doc in docs)
    agreed = agreement(qrels, model, (relevant[0], relevant[1])) if shared else None
    people = {name: evaluate(one, qrels, measures) for name, one in runs.items()}
    models = {name: evaluate(one, model, measures) for name, one in runs.items()}
    tau = {
        measure: kendall_tau(*([one.mean[measure] for one in systems.values()] for systems in (people, models)))
        for measure in (next(iter(people.values())).mean if people else ())
    }
    results: dict[str, Any] = {"agreement": agreed.to_dict() if agreed else None, "Kendall's tau": tau}
    if runs:
        seen = look(collection, split, "judge", runs.values())
        print_report(people, title, notes=[told(seen)])
        print_report(
            models, judged_by(title, judged.judge), notes=["documents that the model did not judge count as 0"]
        )
        results |= {"people": figures(people), f"judged by {judged.judge}": figures(models), "looks": seen}
    print_agreement(agreed, judged.judge, tau, len(runs))
    print(", ".join(f"{what}: {count}" for what, count in counts.items() if count or what == "failed judgements"))
    return results


if __name__ == "__main__":
    run(judge)
