"""What a ColBERT checkpoint says of itself, in either of its two formats."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.model_files import has_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ColbertFiles", "Settings"]

HEAD = "linear.weight"  # the projection among the weights of ColBERT's own checkpoints
# Our names, ColBERT's (artifact.metadata) and PyLate's (config_sentence_transformers.json).
NAMES = {
    "query_length": ("query_maxlen", "query_length"),
    "doc_length": ("doc_maxlen", "document_length"),
    "query_marker": ("query_token_id", "query_prefix"),
    "doc_marker": ("doc_token_id", "document_prefix"),
    "augment": (None, "do_query_expansion"),
    "attend_to_augmentation": ("attend_to_mask_tokens", "attend_to_expansion_tokens"),
    "skip_punctuation": ("mask_punctuation", None),
}


@dataclass(frozen=True)
class Settings:
    """What turns text into token vectors besides the weights; the defaults are ColBERTv2's."""

    query_length: int = 32  # tokens, special ones and marker included
    doc_length: int = 180
    query_marker: str = "[unused0]"
    doc_marker: str = "[unused1]"
    augment: bool = True
    attend_to_augmentation: bool = False
    skip_punctuation: bool = True


@dataclass(frozen=True)
class ColbertFiles:
    """The parts of a checkpoint's folder."""

    folder: Path
    transformer: Path
    dense: tuple[Path, ...]  # PyLate's folders of projections; none for ColBERT's own format
    said: Mapping[str, Any]  # the Settings that the folder states
    skipped: tuple[str, ...]  # words that documents get no vector for, where punctuation is skipped

    @classmethod
    def read(cls, folder: Path, bare: bool = False) -> ColbertFiles:
        """The layout of a folder, or where that is `bare` of a transformer that has no projection yet.

        Raises ValueError for modules that are not known, and for a projection in a folder that should have none.
        """
        if bare:
            return _bare(folder)
        if (folder / "modules.json").is_file():
            return _pylate(folder)
        said = _named(_json(folder / "artifact.metadata"), 0)
        return cls(folder, folder, (), said, tuple(string.punctuation))

    @property
    def width(self) -> int:
        """The dimensions of a token vector. Raises ValueError for a folder without a projection."""
        if self.dense:
            return int(_json(self.dense[-1] / "config.json")["out_features"])
        return int(self._head().shape[0])

    def projections(self) -> list[Any]:
        """The layers, torch modules, that a token's state goes through."""
        import torch

        from retrieval.bi_encoder import Projection

        if self.dense:
            return [Projection.read(folder) for folder in self.dense]
        weight = self._head()
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.load_state_dict({"weight": weight})
        return [linear]

    def _head(self) -> Tensor:
        found = _find_head(self.transformer)
        if found is None:
            raise ValueError(
                f"{self.folder} has no {HEAD} among its weights and no Dense module, so it holds no ColBERT: to train "
                "one from it, give the seed of a new projection"
            )
        return found


def _bare(folder: Path) -> ColbertFiles:
    """A Hugging Face or sentence-transformers folder, of which the transformer is taken."""
    modules = _json(folder / "modules.json") or [{"type": "Transformer", "path": ""}]
    transformer = folder / modules[0]["path"]
    if any(module["type"].endswith("Dense") for module in modules) or _find_head(transformer) is not None:
        raise ValueError(f"{folder} has a projection of its own: leave seed out")
    return ColbertFiles(folder, transformer, (), {}, tuple(string.punctuation))


def _find_head(transformer: Path) -> Tensor | None:
    from safetensors import safe_open

    for path in sorted(has_weights(transformer).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if HEAD in file.keys():  # noqa: SIM118 - not a mapping
                return file.get_tensor(HEAD)
    return None


def _pylate(folder: Path) -> ColbertFiles:
    modules = [(module["type"].rsplit(".", 1)[-1], module["path"]) for module in _json(folder / "modules.json")]
    kinds = [kind for kind, _ in modules]
    if len(kinds) < 2 or kinds != ["Transformer", *["Dense"] * (len(kinds) - 1)]:
        raise ValueError(f"{folder}/modules.json has {', '.join(kinds)}: a ColBERT of PyLate is Transformer, Dense")
    about = _json(folder / "config_sentence_transformers.json")
    if any((about.get("prompts") or {}).values()):
        raise ValueError(f"{folder}/config_sentence_transformers.json has prompts, which are not supported here")
    skipped = about.get("skiplist_words")
    return ColbertFiles(
        folder,
        folder / modules[0][1],
        tuple(folder / path for _, path in modules[1:]),
        # PyLate writes both markers; where they are missing its own are meant, not ColBERT's
        {"query_marker": "[Q] ", "doc_marker": "[D] ", **_named(about, 1)},
        tuple(string.punctuation if skipped is None else skipped),
    )


def _named(about: Mapping[str, Any], kind: int) -> dict[str, Any]:
    found = {ours: about.get(names[kind] or "") for ours, names in NAMES.items()}
    return {name: value for name, value in found.items() if value is not None}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
