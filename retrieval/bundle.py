"""Bundles: results of recipes in one zip file whose bytes follow from what is in it, read without trusting it.

bundle.json says what the results are and the digest of every other file; nothing else may be in the file.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from retrieval.files import whole_file

__all__ = ["FORMAT", "read_bundle", "write_bundle"]

FORMAT = 1
ABOUT = "bundle.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip knows: when a file was written is no part of a bundle
BLOCK = 1 << 20


def write_bundle(path: Path, results: list[dict[str, Any]], files: Mapping[str, Path | bytes], toolkit: str) -> None:
    """Write a bundle, whole or not at all; the same bytes for the same content. `files` are by their name in it."""
    listed = {name: _digest(content) for name, content in sorted(files.items())}
    about = {"bundle": FORMAT, "toolkit": toolkit, "results": results, "files": listed}
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as bundle:
        for name, content in {ABOUT: text.encode(), **dict(sorted(files.items()))}.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with bundle.open(entry, "w", force_zip64=True) as file:
                for block in _blocks(content):
                    file.write(block)


def read_bundle(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack a bundle into a folder once every file is known to be what was packed; what bundle.json says.

    Raises ValueError for what is no bundle, was changed or made by a newer version, and for names that lead elsewhere.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = _entries(path, bundle)
            about = _about(path, bundle, entries)
            for name, (size, digest) in about["files"].items():
                _unpack(path, bundle, entries[name], folder / name, size, digest)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is no zip file, or damaged ({error}): copy it again") from None
    return about


def _blocks(content: Path | bytes):  # type: ignore[no-untyped-def]
    if isinstance(content, bytes):
        yield content
        return
    with open(content, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def _digest(content: Path | bytes) -> tuple[int, str]:
    """Bytes and SHA-256."""
    size, found = 0, hashlib.sha256()
    for block in _blocks(content):
        size += len(block)
        found.update(block)
    return size, found.hexdigest()


def _entries(path: Path, bundle: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip file by name. Raises ValueError for names that lead out of a folder, links, and repeats."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in bundle.infolist():
        name = entry.filename
        plain = PurePosixPath(name)
        leads_out = plain.is_absolute() or ".." in plain.parts or str(plain) != name or "\\" in name or ":" in name
        if leads_out or stat.S_ISLNK(entry.external_attr >> 16) or name in entries:
            raise ValueError(f"{path} holds {name!r}, which no bundle does: do not trust where it is from")
        entries[name] = entry
    return entries


def _about(path: Path, bundle: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> dict[str, Any]:
    try:
        about = json.loads(bundle.read(entries[ABOUT]))
        version, results = about["bundle"], about["results"]
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in about["files"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no bundle of retrieval.pack ({ABOUT}: {type(error).__name__} {error})") from None
    if version != FORMAT:
        raise ValueError(f"{path} is a bundle of version {version}, and {FORMAT} is read here: update the toolkit")
    odd = sorted({*files} ^ ({*entries} - {ABOUT}))
    if odd:
        what = "lacks" if odd[0] in files else "holds, without a digest,"
        raise ValueError(f"{path} {what} {odd[0]}: it was changed after it was packed")
    for one in results:
        _refuse_strangers(path, one, files)
    return about | {"results": results, "files": files}


def _refuse_strangers(path: Path, result: Any, files: Mapping[str, Any]) -> None:
    """Raises ValueError for a result that lacks what pack writes, or that names a file outside the bundle."""
    try:
        named = [f"{result['folder']}/manifest.json", *(one for runs in result["runs"].values() for one in runs)]
        named += [one["file"] for key in ("inputs", "generators") for one in result[key]]
        named += [one for one in (result["qrels"]["file"],) if one is not None]
        named += [f"{result['collection']['folder']}/queries.jsonl"] if result["collection"] else []
        strange = [one for one in named if one not in files and f"{one}.gz" not in files]
        whole = all(isinstance(result[key], str) for key in ("name", "verb")) and all(result["runs"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no bundle of retrieval.pack ({ABOUT}: {type(error).__name__} {error})") from None
    if strange or not whole:
        what = f"names {strange[0]!r}, which is not in it" if strange else "has a result without name, verb or run"
        raise ValueError(f"{path} {what}: do not trust where it is from")


def _unpack(path: Path, bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path, size: int, digest: str) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    if entry.file_size == size:
        with bundle.open(entry) as packed, open(to, "wb") as file:
            while block := packed.read(BLOCK):
                found.update(block)
                file.write(block)
    if found.hexdigest() != digest:
        to.unlink(missing_ok=True)
        raise ValueError(f"{path}: {entry.filename} is not what was packed: it was changed, or the copy is damaged")
