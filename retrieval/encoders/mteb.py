"""Any single-vector model of MTEB's registry, or any sentence-transformers folder, run as MTEB runs it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.locate import on_disk
from retrieval.model_files import PACKAGED, choose_device, sha256
from retrieval.mteb_package import find_task, mteb_package
from retrieval.trusted import cut, find_trusted, safe, settings_hash
from retrieval.types import Dense

__all__ = ["Mteb"]

Side = Literal["query", "document"]


class Mteb:
    """A model with the loader and the prompts that MTEB has for it; cosines are made inner products."""

    def __init__(
        self,
        model: str,
        task: str | None = None,
        prompts: dict[str, str] | None = None,
        batch_size: int = 32,
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        """`task` is the MTEB task whose prompts are used; None is a retrieval task without a prompt of its own.

        `prompts` stand in place of the model's, by MTEB's keys: query, document, a task, its type, Retrieval-query ...
        A `revision` of None is the one that the registry names. `trust_remote_code` runs Python files that come with
        the model.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: a batch holds at least 1 text")
        self.model, self.task, self.prompts, self.batch_size = model, task, prompts, batch_size
        self.device, self.revision, self.trust_remote_code = device, revision, trust_remote_code

    def encode_queries(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, "query")

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, "document")

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        loader = type(self._model)
        return {
            "encoder": "mteb",
            "model": self.model,
            "revision": self._revision,
            "versions": {name: version(name) for name in ("mteb", "sentence-transformers", "transformers")},
            "loader": f"{loader.__module__}:{loader.__qualname__}",
            "weights": sha256(sorted(self.folder.rglob("*.safetensors"))),
            "files": settings_hash(self.folder),
            "task": self.task,
            "task type": self._task.type,
            "prompts": self.prompts,
            "prompt": self._prompt("document"),
            "similarity": self._similarity,
            "dimensions": self._width,
            "batch_size": self.batch_size,
            "queries": {"prompt": self._prompt("query")},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, for the manifest."""
        return dict(self.contract())

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are. Raises FileNotFoundError where they are not on disk and cannot be fetched."""
        return find_trusted(self.model, self._revision, self.trust_remote_code)

    @property
    def _revision(self) -> str | None:
        """That of the hub; of a model on disk there is none."""
        here = on_disk(self.model, "config.json") or on_disk(self.model, "modules.json") or self.model in PACKAGED
        known = self._registered
        return self.revision or (known.revision if known and not here else None)

    @cached_property
    def _registered(self) -> Any:
        """What MTEB's registry says of the model; None where it does not know it."""
        mteb_package()
        from mteb.models.model_implementations import MODEL_REGISTRY

        return MODEL_REGISTRY.get(self.model)

    @cached_property
    def _task(self) -> Any:
        """The metadata of the task. Raises ValueError for one that MTEB does not have."""
        return _any_retrieval() if self.task is None else find_task(self.task).metadata

    @cached_property
    def _model(self) -> Any:
        """The model, loaded when first used. Raises ValueError for one that makes no single vectors."""
        folder, device = str(safe(self.folder, self.trust_remote_code)), str(choose_device(self.device))
        found = self._unregistered(folder, device) if self._registered is None else self._loaded(folder, device)
        if not hasattr(found, "encode"):
            raise ValueError(f"{self.model} makes no single vectors ({type(found).__name__}): this encoder needs them")
        return found

    def _loaded(self, folder: str, device: str) -> Any:
        """By the loader of the registry, from this folder."""
        meta = self._registered
        own: dict[str, Any] = (
            {"trust_remote_code": self.trust_remote_code} if "trust_remote_code" in meta.loader_kwargs else {}
        )
        if self.prompts is not None:
            own[_takes_prompts(self.model, meta.loader)] = self.prompts
        return meta.model_copy(update={"name": folder, "revision": None}).load_model(device=device, **own)

    def _unregistered(self, folder: str, device: str) -> Any:
        from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

        return SentenceTransformerEncoderWrapper(
            folder,
            device=device,
            model_prompts=self.prompts,
            trust_remote_code=self.trust_remote_code,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )

    def _prompt(self, side: Side) -> str | None:
        """What MTEB puts before a text of this side, for the task."""
        from mteb.models.abs_encoder import get_prompt
        from mteb.types import PromptType

        model, kind = self._model, PromptType(side)
        if getattr(model, "instruction_template", None) is None:
            return get_prompt(getattr(model, "model_prompts", None), self._task, kind)
        plain = side == "document" and not getattr(model, "apply_instruction_to_passages", True)
        return None if plain else model.get_task_instruction(self._task, kind)

    @cached_property
    def _similarity(self) -> str:
        """How MTEB compares its vectors: dot or cosine. Raises ValueError for another, which no index computes."""
        known = self._registered and self._registered.similarity_fn_name
        name = known.value if known else getattr(getattr(self._model, "model", None), "similarity_fn_name", None)
        if name not in ("dot", "cosine"):
            raise ValueError(f"{self.model} is compared by {name}, and indexes compute inner products and cosines")
        return name

    @cached_property
    def _width(self) -> int:
        return self._vectors(["width"], "query").shape[1]

    def _encode(self, texts: Sequence[str], side: Side) -> Dense:
        kinds = list(dict.fromkeys(texts))  # equal texts once: other batches would change the last bits
        if not kinds:
            return Dense(np.zeros((0, self._width), np.float32))
        found = self._vectors(kinds, side)
        broken = np.flatnonzero(~np.isfinite(found).all(1))
        if len(broken):
            raise ValueError(f"{self.model} gives NaN or infinity for {kinds[broken[0]][:60]!r}")
        if self._similarity == "cosine":
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        place = {text: i for i, text in enumerate(kinds)}
        places = np.array([place[text] for text in texts], int)
        return Dense(found[places], int(self._cut(kinds, side)[places].sum()))

    def _vectors(self, texts: list[str], side: Side) -> np.ndarray:
        """float32 [texts, dimensions], as the model gives them."""
        from datasets import Dataset
        from mteb.types import PromptType
        from torch.utils.data import DataLoader

        found = self._model.encode(
            DataLoader(Dataset.from_dict({"text": texts}), batch_size=self.batch_size),  # type: ignore[arg-type]
            task_metadata=self._task,
            hf_split="test",
            hf_subset="default",
            prompt_type=PromptType(side),
            batch_size=self.batch_size,
            show_progress_bar=len(texts) >= 256,
        )
        if getattr(found, "is_sparse", False) or not hasattr(found, "shape") or len(found.shape) != 2:
            raise ValueError(f"{self.model} makes no single vectors: this encoder needs them")
        return np.asarray(found, np.float32)

    def _cut(self, texts: list[str], side: Side) -> np.ndarray:
        """bool [texts]: which are longer than the model reads; of a model of no known package it is not known."""
        package = getattr(self._model, "model", None)
        if not hasattr(package, "max_seq_length"):
            return np.zeros(len(texts), bool)
        return cut(package, [f"{self._prompt(side) or ''}{text}" for text in texts])


def _takes_prompts(model: str, loader: Any) -> str:
    """The parameter of a loader that takes prompts. Raises ValueError where it has none."""
    known = inspect.signature(loader).parameters
    for name in ("model_prompts", "prompts_dict"):
        if name in known:
            return name
    raise ValueError(f"prompts: MTEB's loader of {model}, {loader.__name__}, takes none; leave them out")


def _any_retrieval() -> Any:
    """The metadata of a retrieval task that is none in particular, with the prompt that MTEB falls back on."""
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name="Retrieval",
        description="Any retrieval task.",
        type="Retrieval",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        dataset={"path": "any/any", "revision": "any"},
        prompt=AbsTaskRetrieval.abstask_prompt,
    )
