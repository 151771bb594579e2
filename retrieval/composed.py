"""What retrievers made of retrievers have in common: their parts are opened, checked, counted and asked for content."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.locate import data_folder
from retrieval.protocols import COUNTED, FeedbackSource, ListReranker, Reformulator, Retriever
from retrieval.remembered import retrieved
from retrieval.types import Feedback, Queries, Run

__all__ = [
    "content",
    "encoders",
    "found",
    "name",
    "open_all",
    "other_models",
    "picking",
    "provenance",
    "reads",
    "refuse_foreign",
    "refuse_lack",
    "refuse_unread",
    "settings",
]

_CARRIED = (("representations", "encoder"), ("terms", "analyzer"))  # what queries may carry, and what makes it
# Which retrievers have it of their documents, and which search with it.
HAVE = {
    "texts": "bm25, dense or sparse",
    "terms": "bm25 or sparse",
    "vectors": "dense with an encoder of one vector a text",
    "tokens": "dense with the encoder colbert",
}
SEARCH = {"terms": "bm25 or sparse", "representations": "dense"}


def open_all(retrievers: Sequence[Retriever], corpus: Corpus, folder: Path) -> None:
    """Open each retriever once, also where a recipe names it twice."""
    for retriever in {id(one): one for one in retrievers}.values():
        retriever.open(corpus, folder)


def found(retriever: Retriever, queries: Queries, depth: int, corpus: Corpus) -> Run:
    """The first pass of a part. Raises ValueError for documents that are not those of the corpus."""
    run = retrieved(retriever, queries, depth)
    if run.docs.fingerprint != corpus.fingerprint:
        raise ValueError(f"{run.name} finds documents of its own, not those of {corpus.folder}: leave it out here")
    return run


def encoders(retriever: Any) -> list[Any]:
    """The encoders of a retriever and of those it is made of, each once."""
    return _held(retriever, ("encoder",), ("retrieve",))


def other_models(retriever: Any) -> list[Any]:
    """What else has a contract of weights: rerankers of pairs and encoders of reformulators, each once."""
    searching = {id(one) for one in encoders(retriever)}
    every = _held(retriever, ("encoder", "reranker"), ("retrieve", "reformulate"))
    return [
        one
        for one in every
        if id(one) not in searching and hasattr(one, "contract") and not isinstance(one, ListReranker)
    ]


def _held(component: Any, names: Sequence[str], parts: Sequence[str]) -> list[Any]:
    """What a component, and those of its parts that have one of these methods, hold under these names, each once."""
    own = [getattr(component, name) for name in names if hasattr(component, name)]
    inner = [one for value in vars(component).values() for one in (value if isinstance(value, list) else [value])]
    within = [one for one in inner if any(hasattr(one, method) for method in parts)]
    every = own + [each for part in within for each in _held(part, names, parts)]
    return list({id(one): one for one in every}.values())


def name(made_by: object, *runs: Run) -> str:
    """bm25+dense+reciprocalrank: what the runs were, and what was made of them."""
    return "+".join([*(run.name for run in runs), type(made_by).__name__.lower()])


def reads(retrievers: Sequence[Retriever]) -> tuple[str, ...]:
    """What some part reads of a query; nothing where a part does not say."""
    said = [tuple(getattr(one, "reads", ())) for one in retrievers]
    return tuple(dict.fromkeys(word for words in said for word in words)) if all(said) else ()


def refuse_foreign(retrievers: Sequence[Retriever], queries: Queries) -> None:
    """Raises ValueError where queries carry what only some of the parts could have made: others would misread it."""
    for form, maker in _CARRIED:
        if getattr(queries, form) is None:
            continue
        makers = [_maker(one, maker) for one in retrievers if form in getattr(one, "reads", ())]
        made = [one.contract() for one in {id(one): one for one in makers if one is not None}.values()]
        if any(dict(one) != dict(made[0]) for one in made):
            raise ValueError(
                f"these queries carry {form}, and the retrievers that read them have another {maker} each: "
                f"give all the same {maker}, or let feedback change the queries of one retriever"
            )


def _maker(retriever: Any, maker: str) -> Any:
    """The encoder or analyzer of a retriever, or of the one within it."""
    while not hasattr(retriever, maker) and hasattr(retriever, "retriever"):
        retriever = retriever.retriever
    return getattr(retriever, maker, None)


def refuse_lack(part: Any, feedback: Feedback, source: Retriever) -> None:
    """Raises ValueError where a model, or another that has `needs`, gets not all of them from a source."""
    lacking = [need for need in part.needs if getattr(feedback, need, None) is None]
    if lacking:
        where = "; ".join(f"{need}: {HAVE[need]}" for need in lacking if need in HAVE)
        raise ValueError(
            f"{type(part).__name__} needs {' and '.join(lacking)} of the feedback documents, which "
            f"{type(source).__name__} does not give: put it behind a source that does ({where}), "
            "or choose another model"
        )


def refuse_unread(model: Reformulator, retriever: Retriever) -> None:
    """Raises ValueError where a model writes what the retriever does not read of a query."""
    writes, reads = getattr(model, "writes", None), getattr(retriever, "reads", None)
    if writes and reads and writes not in reads:
        raise ValueError(
            f"{type(model).__name__} writes {writes}, and {type(retriever).__name__} searches with "
            f"{' or '.join(reads)} of a query: the feedback would be lost; choose another model, or a retriever that "
            f"reads {writes}{f' ({SEARCH[writes]})' if writes in SEARCH else ''}"
        )


def content(retrievers: Sequence[Retriever], corpus: Corpus, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
    """The content of the run's documents as the first part that shows it has it; the corpus gives texts in any case."""
    source = next((one for one in retrievers if isinstance(one, FeedbackSource)), None)
    own, shown = source.feedback(queries, run) if source else (queries, Feedback(run))
    return own, replace(shown, texts=shown.texts or corpus.texts)


def picking(texts: Sequence[str]) -> Callable[[np.ndarray], list[str]]:
    """A handle on texts, as Feedback has it."""
    return lambda rows: [texts[row] for row in rows.tolist()]


def provenance(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What each part is, for the manifest, and the sums of what they count; one that stands twice counts once."""
    about = {place: part.provenance() for place, part in parts.items() if hasattr(part, "provenance")}
    first = {id(part): place for place, part in reversed(list(parts.items()))}
    counts: Counter[str] = Counter()
    for place in about:
        if first[id(parts[place])] == place:
            counts.update({what: count for what, count in about[place].items() if what.startswith(COUNTED)})
    return {place: about.get(place, {}) for place in parts} | counts


def settings(component: Any) -> Any:
    """What a component was made with, as plain values: its contract, else its constructor's arguments by name.

    Raises ValueError for one that has no contract() and does not keep an argument under its name.
    """
    if hasattr(component, "contract"):
        return dict(component.contract())
    kind = f"{type(component).__module__}:{type(component).__qualname__}"
    arguments = list(inspect.signature(type(component)).parameters)
    lost = [key for key in arguments if not hasattr(component, key)]
    if lost:
        raise ValueError(f"{kind} has no contract(), nor does it keep its argument {lost[0]!r}: give it either")
    return {"type": kind, **{key: _plain(getattr(component, key)) for key in arguments}}


def _file(path: Path) -> Any:
    """A file, below RETRIEVAL_DATA or as it is, by name and content; a folder, and what is not there, by name."""
    data = data_folder()
    place = next((one for one in [*([data / path] if data else []), path] if one.is_file()), None)
    if place is None:
        return str(path)
    with open(place, "rb") as file:
        return {"file": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return _file(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if value is None or isinstance(value, str | int | float) else settings(value)
