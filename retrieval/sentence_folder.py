"""What sentence-transformers' folder format says besides weights: modules, pooling, prompts, lengths."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from retrieval.model_files import has_weights, token_limit
from retrieval.types import Pooling

__all__ = ["POOLING", "Settings", "check_weights", "modules_of", "read_settings", "write_json", "write_settings"]

# Our names, and those of sentence-transformers from version 5.3 and before it.
POOLING = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
    "weighted_mean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
}

PLACE = "{instruction}"


@dataclass(frozen=True)
class Settings:
    """All that turns text into a vector besides the weights."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    query_prompt: str | None = None
    doc_prompt: str | None = None
    max_length: int | None = None  # tokens, special tokens included
    padding_side: Literal["left", "right"] | None = None
    include_prompt: bool | None = None  # whether the prompt's tokens are pooled too
    dimensions: int | None = None  # the first so many are kept, before normalisation; None is all
    instruction: str | None = None  # stands for {instruction} in query_prompt

    def over(self, other: Settings) -> Settings:
        """These settings, and the other's where these are None."""
        return replace(other, **{name: value for name, value in asdict(self).items() if value is not None})

    @property
    def instructed(self) -> bool:
        """Whether query_prompt has a place for an instruction."""
        return PLACE in (self.query_prompt or "")

    def prompt(self, instruction: str | None = None) -> str:
        """What stands before a query, with its own instruction or the one that all have.

        Raises ValueError for an instruction that has no place in query_prompt, and for a place that none fills.
        """
        prompt, given = self.query_prompt or "", self.instruction if instruction is None else instruction
        if (given is not None) != self.instructed:
            missing = f"no {PLACE} for {given!r}" if given is not None else f"{PLACE}, and no instruction is given"
            raise ValueError(f"query_prompt {prompt!r} has {missing}")
        return prompt.replace(PLACE, given or "")


def check_weights(folder: Path) -> Path:
    """The folder of the transformer itself.

    Raises FileNotFoundError where there is no model with safetensors weights; pickled ones are never loaded.
    """
    return has_weights(folder / modules_of(folder)[0]["path"])


def modules_of(folder: Path) -> list[dict[str, Any]]:
    """Path and `kind` of each module, the transformer first. Raises ValueError for one that is not known."""
    path = folder / "modules.json"
    if not path.is_file():
        return [{"kind": "Transformer", "path": ""}]
    modules = [module | {"kind": module["type"].rsplit(".", 1)[-1]} for module in json.loads(path.read_text())]
    unknown = [
        module["type"] for module in modules if module["kind"] not in ("Transformer", "Pooling", "Normalize", "Dense")
    ]
    if unknown or not modules or modules[0]["kind"] != "Transformer":
        raise ValueError(
            f"{path}: {', '.join(unknown) or 'no Transformer first'}: known are Transformer, Pooling, Dense, Normalize"
        )
    return modules


def read_settings(folder: Path, modules: list[dict[str, Any]], tokenizer: Any, config: Any) -> Settings:
    """What the folder says; a pooling of None where it says nothing of it."""
    pooling = next((folder / m["path"] / "config.json" for m in modules if m["kind"] == "Pooling"), None)
    about = _json(folder / "config_sentence_transformers.json")
    prompts = about.get("prompts") or {}
    default = prompts.get(about.get("default_prompt_name") or "")
    return Settings(
        pooling=_read_pooling(pooling) if pooling else None,
        normalize=any(module["kind"] == "Normalize" for module in modules),
        query_prompt=prompts.get("query", default) or "",
        doc_prompt=next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), default) or "",
        max_length=token_limit(folder / modules[0]["path"], tokenizer, config),
        padding_side=tokenizer.padding_side,
        include_prompt=pooling is None or _json(pooling).get("include_prompt") is not False,
        dimensions=about.get("truncate_dim"),
    )


def write_settings(folder: Path, settings: Settings, width: int, projections: int) -> list[Path]:
    """Write all but weights and tokenizer; the folders that the projections go into."""
    prompts = {"query": settings.prompt(), "document": settings.doc_prompt or ""}
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    about = {"prompts": prompts, "default_prompt_name": None, "truncate_dim": settings.dimensions}
    similarity = {"similarity_fn_name": "cosine" if settings.normalize else "dot"}
    write_json(folder / "config_sentence_transformers.json", about | similarity)
    flags = {old: name == settings.pooling for name, (_, old) in POOLING.items()}
    pooling = {"word_embedding_dimension": width, **flags, "include_prompt": settings.include_prompt is not False}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    kinds = ["Transformer", "Pooling", *["Dense"] * projections, *["Normalize"] * bool(settings.normalize)]
    paths = [f"{i}_{kind}" if i else "" for i, kind in enumerate(kinds)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    return [folder / path for path in paths if path.endswith("_Dense")]


def write_json(path: Path, value: Any) -> None:
    """Write it, in a folder that need not be there yet."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_pooling(path: Path) -> Pooling:
    about = json.loads(path.read_text())
    flags = [key for key, value in about.items() if key.startswith("pooling_mode_") and value]
    modes = about["pooling_mode"] if "pooling_mode" in about else flags
    for name, known in POOLING.items():
        if modes in (known[0], [known[0]], [known[1]]):
            return name  # type: ignore[return-value]
    raise ValueError(f"{path}: pooling {modes!r} is not supported, only one of {', '.join(POOLING)}")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
