"""Where data and models are: the folder RETRIEVAL_DATA names, then the Hugging Face caches, then the network."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "data_folder", "from_hub", "on_disk"]


def cache_folder() -> Path:
    """Where ingested corpora, vectors and indexes are kept: RETRIEVAL_CACHE, or ~/.cache/retrieval."""
    return Path(os.environ.get("RETRIEVAL_CACHE") or Path.home() / ".cache" / "retrieval")


def data_folder() -> Path | None:
    """The folder RETRIEVAL_DATA names. Raises FileNotFoundError where it names none that exists."""
    named = os.environ.get("RETRIEVAL_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise FileNotFoundError(f"RETRIEVAL_DATA is {named!r}, which is not a folder")
    return Path(named)


def on_disk(name: str | Path, needed: str) -> Path | None:
    """The folder `name` below RETRIEVAL_DATA, or at that path, if it holds the file `needed`."""
    data = data_folder()
    places = [*([data / name, data / "models" / name] if data else []), Path(name).expanduser()]
    return next((place for place in places if (place / needed).is_file()), None)


def from_hub(name: str, revision: str | None = None) -> Path:
    """The snapshot of a model on the Hugging Face hub: the cached one if whole, else downloaded (no pickles)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    kept = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "artifact.metadata"]
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no model folder {Path(name).expanduser().absolute()}: it has no config.json")
    try:
        cached = Path(snapshot_download(name, revision=revision, allow_patterns=kept, local_files_only=True))
        if any(cached.rglob("*.safetensors")):
            return cached  # else only a part of it was ever asked for, such as the tokenizer
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=kept))
    except Exception as error:
        raise FileNotFoundError(missing(f"model {name!r}", name, "config.json", error)) from error


def missing(what: str, name: str, file: str, error: Exception) -> str:
    """One line: what is not there, why it could not be fetched, and where it may be put."""
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    named = os.environ.get("RETRIEVAL_DATA")
    place = f"{named}/{name}/{file}" if named else f"<folder>/{name}/{file} and set RETRIEVAL_DATA to <folder>"
    return (
        f"{what} is not on disk and could not be downloaded ({type(error).__name__}: {reason}); "
        f"put its files at {place}, or give their path"
    )
