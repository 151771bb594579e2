"""Results of recipes in one file that another machine can verify: `python -m retrieval.pack FOLDER... out=bundle.zip`.

A bundle holds recipe, manifest, run files, the files that the recipe names, the answers of language models that were
used, and the digest of the judgements. `qrels=true` adds the judgements, `texts=true` the whole collection, both of
which have licences of their own; `generations=false` leaves the answers out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from retrieval import protocols
from retrieval.bundle import write_bundle
from retrieval.cli import errors_in_a_line
from retrieval.collection import Collection
from retrieval.config import Recipe
from retrieval.finished import Finished, given_options, leaves, read_finished
from retrieval.known import digest_of_qrels
from retrieval.locate import data_folder
from retrieval.qrels_file import write_qrels
from retrieval.store import USED, GenerationStore, plain, read_keys
from retrieval.yaml_lines import Place, dotted

__all__ = ["main", "pack"]

OPTIONS = {"out": "", "qrels": "false", "texts": "false", "generations": "true"}
USAGE = "usage: python -m retrieval.pack RESULTS_FOLDER... out=bundle.zip [qrels=true] [texts=true] [generations=false]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack what the command line names. Exits with 1 where something can be mended."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with errors_in_a_line():
        folders, options = given_options(given, OPTIONS, USAGE)
        if not folders or not options["out"]:
            raise ValueError(USAGE)
        flags = {name: options[name] == "true" for name in ("qrels", "texts", "generations")}
        results = pack([Path(folder) for folder in folders], Path(options["out"]), **flags)
        for one in results:
            print(f"{one['name']}: {', '.join(one['runs'])}")
            for left in one["left out"]:
                print(f"  left out: {left}")
        if flags["qrels"] or flags["texts"]:
            print("judgements and texts are in it, which have licences of their own: see that you may pass them on")
        print(f"{options['out']}: {len(results)} results, {Path(options['out']).stat().st_size:,} bytes")


def pack(
    folders: Sequence[Path], out: Path, qrels: bool = False, texts: bool = False, generations: bool = True
) -> list[dict[str, Any]]:
    """Write a bundle of folders of results, each point of a grid among them; what bundle.json says of each.

    Raises ValueError for a folder without finished results or runs, and where data or answers are no longer what they
    were; FileNotFoundError where the collection is not there.
    """
    every = [one for folder in folders for one in read_finished(folder)]
    results: list[dict[str, Any]] = []
    files: dict[str, Path | bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for n, one in enumerate(every, 1):
            base = f"results/{n}-{_safe(one.folder.name)}"
            own = _Packing(one, base, Path(scratch) / str(n))
            results.append(own.packed(qrels, texts, generations))
            files |= own.files
        write_bundle(out, results, files, version("retrieval-toolkit"))
    return results


class _Packing:
    """One result on its way into a bundle."""

    def __init__(self, result: Finished, base: str, scratch: Path):
        scratch.mkdir()
        self.result, self.base, self.scratch = result, base, scratch
        self.files: dict[str, Path | bytes] = {f"{base}/manifest.json": result.folder / "manifest.json"}
        self.left_out: list[str] = []

    def packed(self, qrels: bool, texts: bool, generations: bool) -> dict[str, Any]:
        """What bundle.json says of it; `files` then has what belongs to it."""
        recipe = self.result.recipe()
        collection = recipe.arguments["dataset"].build({}).open()
        runs = {system: [self._added(path) for path in paths] for system, paths in self.result.run_files().items()}
        inputs = [{"place": list(place), "file": self._input(place, path)} for place, path in _inputs(recipe)]
        return {
            "name": self.result.folder.name,
            "verb": self.result.manifest["verb"],
            "folder": self.base,
            "runs": runs,
            "qrels": self._qrels(collection, qrels),
            "collection": self._collection(collection) if texts else None,
            "inputs": inputs,
            "generators": self._generators(recipe, generations),
            "left out": self.left_out + [f"{name}, {what}" for name, what in self._rest()],
        }

    def _added(self, path: Path) -> str:
        names = {one: name for name, one in self.files.items()}
        if path not in names:
            inside = path.is_relative_to(self.result.folder)
            where = path.relative_to(self.result.folder).as_posix() if inside else f"inputs/{len(names)}-{path.name}"
            names[path] = f"{self.base}/{_safe(where)}"
            self.files[names[path]] = path
        return names[path]

    def _input(self, place: Place, path: Path) -> str:
        then = self.result.made_of(dotted(place)).get("sha256")
        if then not in (None, sha256(path.read_bytes()).hexdigest()):
            raise ValueError(f"{path} is not what {self.result.folder} was made with: bring it back, or run it again")
        return self._added(path)

    def _qrels(self, collection: Collection, kept: bool) -> dict[str, Any]:
        split = self.result.split()
        judged = collection.qrels(split)
        then = (self.result.made_of("dataset").get("qrels") or {}).get(f"{split}.tsv")
        now = collection.provenance()["qrels"][f"{split}.tsv"]
        if then not in (None, now):
            raise ValueError(
                f"{self.result.folder} was measured on other judgements than {collection.qrels_folder}/{split}.tsv "
                f"holds now (sha256 {then[:12]} then, {now[:12]} now): bring those back, or measure again"
            )
        about: dict[str, Any] = {"split": split, "digest": digest_of_qrels(judged), "file": None}
        if kept:
            about["file"] = f"{self.base}/qrels.trec"
            write_qrels(judged, self.scratch / "qrels.trec")
            self.files[about["file"]] = self.scratch / "qrels.trec"
        return about

    def _collection(self, collection: Collection) -> dict[str, Any]:
        if collection.judged is not None:
            raise ValueError(f"{self.result.folder}: the judgements of {collection.name} are not those in its folder, "
                             "so that what texts=true packs would not give its figures: pack without")  # fmt: skip
        found = [path for name in ("corpus", "queries") for path in sorted(collection.folder.glob(f"{name}.jsonl*"))]
        for path in found:
            self.files[f"{self.base}/collection/{path.name}"] = path.resolve()
        for path in sorted(collection.qrels_folder.glob("*.tsv")):
            self.files[f"{self.base}/collection/qrels/{path.name}"] = path
        return {"folder": f"{self.base}/collection", "excludes_self": collection.excludes_self}

    def _generators(self, recipe: Recipe, kept: bool) -> list[dict[str, Any]]:
        """Where the recipe asks a language model, and the file of the answers that it used there."""
        asking = [part for part in recipe.parts() if part.protocol is protocols.Generator and part.name != "replay"]
        if not asking:
            return []
        if not kept or not (self.result.folder / USED).is_file():
            why = "results name no answers (made by an older version)" if kept else "as asked"
            self.left_out.append(f"answers of language models: {why}; a rerun asks the model")
            return []
        answers = self._answers()
        return [{"place": list(part.place), "file": _of(part, answers, self.result.folder)} for part in asking]

    def _answers(self) -> dict[str, str]:
        """The file in the bundle of the answers of each model, by its contract."""
        keys, file = read_keys(self.result.folder / USED), self.scratch / "generations.jsonl"
        store = GenerationStore()
        try:
            count = store.export(file, keys)
        finally:
            store.close()
        if count < len(keys):
            raise ValueError(
                f"{len(keys) - count} of {len(keys)} answers that {self.result.folder} was made with are not in "
                f"{store.path}: let RETRIEVAL_CACHE name the folder it was made with, or give generations=false"
            )
        of: dict[str, list[bytes]] = {}
        for line in file.read_bytes().splitlines(keepends=True):
            of.setdefault(plain(json.loads(line)["model"]), []).append(line)
        named = {}
        for n, (contract, lines) in enumerate(sorted(of.items()), 1):
            named[contract] = f"{self.base}/generations-{n}.jsonl"
            self.files[named[contract]] = b"".join(lines)
        return named

    def _rest(self) -> Iterator[tuple[str, str]]:
        """What lies in the folder of results and is not packed."""
        packed = set(self.files.values())
        for path in sorted(self.result.folder.iterdir()):
            inside = [one for one in packed if isinstance(one, Path) and one.is_relative_to(path)]
            if path not in packed and not inside and path.name != USED:
                size = sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())
                yield path.name + ("/" if path.is_dir() else ""), f"{size:,} bytes"


def _inputs(recipe: Recipe) -> Iterator[tuple[Place, Path]]:
    """The files that arguments of a recipe are paths of, and where; those of a collection are not among them."""
    data = data_folder()
    for part in (recipe, *recipe.parts()):
        for place, path in leaves({key: one for key, one in part.arguments.items() if key != "out"}, part.place):
            if isinstance(path, Path) and path.is_file():
                if data is None or not path.resolve().is_relative_to(data.resolve()):
                    yield place, path


def _safe(name: str) -> str:
    """A name as no reader of bundles refuses it: a colon or a backslash may lead out of a folder."""
    return quote(name, safe="/=,+ ")


def _of(part: Recipe, answers: Mapping[str, str], folder: Path) -> str:
    """The file with the answers of a generator; the only one where its model is not here to tell."""
    try:
        contract = plain(dict(part.build({}).contract()))
    except (FileNotFoundError, ImportError):
        contract = next(iter(answers)) if len(answers) == 1 else ""
    if contract not in answers:
        raise ValueError(f"{folder}: which of its answers are of {part.name} at {part.place} cannot be told, as its "
                         "model is not here, or another one: pack where the results were made")  # fmt: skip
    return answers[contract]


if __name__ == "__main__":
    main()
