"""Model folders that another package loads: which of them run nothing but that package, and what determines them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.model_files import find_model, sha256

__all__ = ["cut", "find_trusted", "safe", "settings_hash", "token_limit"]

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
OWN_CODE = "trust_remote_code: true runs it"


def find_trusted(model: str, revision: str | None, trusted: bool) -> Path:
    """The folder of a model, as find_model has it; with the Python files of one from the hub where it is trusted."""
    folder = find_model(model, revision)
    if trusted and not Path(model).exists() and "snapshots" in folder.parts:
        from huggingface_hub import snapshot_download

        snapshot_download(model, revision=revision, allow_patterns=["*.py"])  # beside what is there
    return folder


def safe(folder: Path, trusted: bool) -> Path:
    """This folder. Raises FileNotFoundError for pickled weights, ValueError for code that is not trusted."""
    if not any(folder.rglob("*.safetensors")):
        pickled = [path.name for path in folder.rglob("*") if path.suffix in PICKLES]
        why = f"only {pickled[0]}, a pickle, which is never loaded" if pickled else "no weights"
        raise FileNotFoundError(f"{folder} has {why}: model.safetensors is missing")
    for path in sorted(folder.rglob("*")):
        if path.name == "pytorch_model.bin" and not any(path.parent.glob("*.safetensors")):
            raise FileNotFoundError(f"{path} is a pickle, which is never loaded: convert it to model.safetensors")
    own = [] if trusted else _own_code(folder)
    if own:
        raise ValueError(f"{folder} comes with code of its own ({own[0]}): {OWN_CODE}")
    return folder


def _own_code(folder: Path) -> list[str]:
    """The classes that a model's folder names which are neither sentence-transformers' nor transformers'."""
    kinds: list[str] = []
    for path in sorted(folder.rglob("*.json")):
        if path.name == "modules.json":
            kinds += [module["type"] for module in json.loads(path.read_text(encoding="utf-8"))]
        elif path.name == "router_config.json":
            kinds += json.loads(path.read_text(encoding="utf-8")).get("types", {}).values()
    own = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
    return own + [about for path in sorted(folder.rglob("config.json")) for about in _auto_map(path)]


def _auto_map(path: Path) -> list[str]:
    """Classes that only code beside a config knows; where transformers has the model itself, it takes its own."""
    from transformers import CONFIG_MAPPING

    about = json.loads(path.read_text(encoding="utf-8"))
    return [] if about.get("model_type") in CONFIG_MAPPING else sorted(map(str, (about.get("auto_map") or {}).values()))


def settings_hash(folder: Path) -> str:
    """Of all small files that say how the modules and tokenizers work."""
    digest = hashlib.sha256()
    for path in sorted(
        path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".model", ".jinja", ".py")
    ):
        digest.update(f"{path.relative_to(folder)} {sha256([path])}\n".encode())
    return digest.hexdigest()


def token_limit(model: Any) -> int | None:
    """The most tokens of a text of a SentenceTransformer; None where there is no limit, as in StaticEmbedding."""
    limit = model.max_seq_length
    return None if limit is None or limit == float("inf") else int(limit)


def cut(model: Any, texts: list[str]) -> np.ndarray:
    """bool [texts]: which are longer than a SentenceTransformer reads."""
    tokenizer: Any = getattr(model[0], "tokenizer", None)
    limit = token_limit(model)
    if limit is None or not hasattr(tokenizer, "convert_ids_to_tokens"):
        return np.zeros(len(texts), bool)
    ids = tokenizer(texts, truncation=False, padding=False, verbose=False).input_ids
    return np.array([len(one) > limit for one in ids])
