"""A transformer that turns a text into one vector: token states, pooling, optional projections, normalisation.

Reads and writes sentence-transformers' folder format, so that a model moves both ways.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from retrieval.files import whole_folder
from retrieval.model_files import check_length, has_weights, token_limit
from retrieval.types import Pooling

__all__ = ["BiEncoder", "Settings"]

# Our names, and those of sentence-transformers from version 5.3 and before it.
_POOLING = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
    "weighted_mean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
}
_ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.linear.Identity": nn.Identity,
}


@dataclass(frozen=True)
class Settings:
    """All that turns text into a vector besides the weights."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    query_prompt: str | None = None
    doc_prompt: str | None = None
    max_length: int | None = None  # tokens, special tokens included
    padding_side: Literal["left", "right"] | None = None

    def over(self, other: Settings) -> Settings:
        """These settings, and the other's where these are None."""
        return replace(other, **{name: value for name, value in asdict(self).items() if value is not None})


class Projection(nn.Module):
    """A linear layer and an activation: what sentence-transformers calls Dense."""

    def __init__(self, linear: nn.Linear, activation: nn.Module):
        super().__init__()
        self.linear, self.activation = linear, activation

    def forward(self, vectors: Tensor) -> Tensor:
        """Projected vectors."""
        return self.activation(self.linear(vectors.to(self.linear.weight.dtype)))

    @classmethod
    def read(cls, folder: Path) -> Projection:
        """The projection of a Dense folder. Raises ValueError for a kind that is not known."""
        about = json.loads((folder / "config.json").read_text())
        activation = about.get("activation_function", "torch.nn.modules.activation.Tanh")
        if activation not in _ACTIVATIONS or about.get("use_residual"):
            raise ValueError(f"{folder}/config.json: {activation} or use_residual is not supported")
        linear = nn.Linear(about["in_features"], about["out_features"], about.get("bias", True))
        weights = load_file(folder / "model.safetensors")
        linear.load_state_dict({name.removeprefix("linear."): value for name, value in weights.items()})
        return cls(linear, _ACTIVATIONS[activation]())

    def write(self, folder: Path) -> None:
        """Write a Dense folder."""
        about = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": next(n for n, kind in _ACTIVATIONS.items() if isinstance(self.activation, kind)),
        }
        _dump(folder / "config.json", about)
        weights = {f"linear.{name}": value.contiguous() for name, value in self.linear.state_dict().items()}
        save_file(weights, folder / "model.safetensors")


class BiEncoder(nn.Module):
    """Texts to vectors, float [texts, dimensions]."""

    def __init__(self, transformer: Any, tokenizer: Any, settings: Settings, projections: Sequence[Projection] = ()):
        super().__init__()
        self.transformer, self.tokenizer, self.settings = transformer, tokenizer, settings
        self.projections = nn.ModuleList(projections)
        if settings.padding_side:
            tokenizer.padding_side = settings.padding_side
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def load(cls, folder: Path, chosen: Settings, dtype: torch.dtype = torch.float32) -> BiEncoder:
        """The model of a Hugging Face or sentence-transformers folder; `chosen` overrules what the folder says.

        Raises FileNotFoundError for a folder without weights, ValueError where the folder names no pooling and
        none is chosen, or has a module that is not known.
        """
        check_weights(folder)
        transformers.utils.logging.disable_progress_bar()  # of loading 100 tensors, which takes no time
        modules = _modules(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder / modules[0]["path"])
        transformer = AutoModel.from_pretrained(folder / modules[0]["path"], dtype=dtype)
        settings = chosen.over(_read_settings(folder, modules, tokenizer, transformer.config))
        check_length(folder, settings.max_length, transformer.config)
        if settings.pooling is None:
            raise ValueError(f"{folder} does not say how its vectors are pooled; give pooling: {', '.join(_POOLING)}")
        projections = [Projection.read(folder / module["path"]) for module in modules if module["kind"] == "Dense"]
        return cls(transformer, tokenizer, settings, [projection.to(dtype) for projection in projections]).eval()

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        sizes = [projection.linear.out_features for projection in self.projections]  # type: ignore[union-attr]
        return int([self._width, *sizes][-1])  # type: ignore[arg-type]

    @property
    def _width(self) -> int:
        return self.transformer.config.hidden_size

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch, with the query prompt."""
        return self._tokenize(texts, self.settings.query_prompt)

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch, with the document prompt."""
        return self._tokenize(texts, self.settings.doc_prompt)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Vectors of a tokenised batch."""
        mask = batch["attention_mask"]
        whole = bool(mask.all())  # nothing is padded: attention needs no mask and may take its fastest path
        inputs = {name: value for name, value in batch.items() if not (whole and name == "attention_mask")}
        states = self.transformer(**inputs).last_hidden_state
        vectors = pool(states, mask, self.settings.pooling)  # type: ignore[arg-type]
        for projection in self.projections:
            vectors = projection(vectors)
        return nn.functional.normalize(vectors.float(), dim=1) if self.settings.normalize else vectors.float()

    def save(self, folder: Path) -> None:
        """Write a folder that `load` and sentence-transformers read."""
        with whole_folder(Path(folder)) as part:
            self.transformer.save_pretrained(part)
            self.tokenizer.model_max_length = self.settings.max_length
            self.tokenizer.save_pretrained(part)
            _write_settings(part, self)

    def _tokenize(self, texts: Sequence[str], prompt: str | None) -> dict[str, Tensor]:
        texts = [f"{prompt}{text}" for text in texts] if prompt else list(texts)
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.settings.max_length, return_tensors="pt"
        )
        return dict(batch)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text from token states [texts, tokens, dimensions] and attention mask [texts, tokens]."""
    if pooling in ("cls", "last"):
        tokens = torch.arange(mask.shape[1], device=mask.device)
        far = torch.where(mask.bool(), tokens, -1 if pooling == "last" else mask.shape[1])
        place = far.amax(1).clamp(min=0) if pooling == "last" else far.amin(1).clamp(max=mask.shape[1] - 1)
        chosen = states[torch.arange(len(states), device=states.device), place].float()
        return chosen * mask.any(1, keepdim=True)  # a text without tokens has the zero vector
    weights = mask.float()
    if pooling == "weighted_mean":  # Muennighoff (2022), SGPT: the n-th token weighs n
        weights = weights * weights.cumsum(1)
    total = torch.einsum("nt,ntd->nd", weights, states.float())
    return total / weights.sum(1, keepdim=True).clamp(min=1e-9)


def check_weights(folder: Path) -> Path:
    """The folder of the transformer itself.

    Raises FileNotFoundError where there is no model with safetensors weights; pickled ones are never loaded.
    """
    return has_weights(folder / _modules(folder)[0]["path"])


def _modules(folder: Path) -> list[dict[str, Any]]:
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


def _read_settings(folder: Path, modules: list[dict[str, Any]], tokenizer: Any, config: Any) -> Settings:
    pooling = next((_read_pooling(folder / m["path"] / "config.json") for m in modules if m["kind"] == "Pooling"), None)
    about = _json(folder / "config_sentence_transformers.json")
    prompts = about.get("prompts") or {}
    default = prompts.get(about.get("default_prompt_name") or "")
    return Settings(
        pooling=pooling,
        normalize=any(module["kind"] == "Normalize" for module in modules),
        query_prompt=prompts.get("query", default) or "",
        doc_prompt=next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), default) or "",
        max_length=token_limit(folder / modules[0]["path"], tokenizer, config),
        padding_side=tokenizer.padding_side,
    )


def _read_pooling(path: Path) -> Pooling:
    about = json.loads(path.read_text())
    if about.get("include_prompt") is False:
        raise ValueError(f"{path}: include_prompt is false, and pooling without the prompt's tokens is not supported")
    flags = [key for key, value in about.items() if key.startswith("pooling_mode_") and value]
    modes = about["pooling_mode"] if "pooling_mode" in about else flags
    for name, known in _POOLING.items():
        if modes in (known[0], [known[0]], [known[1]]):
            return name  # type: ignore[return-value]
    raise ValueError(f"{path}: pooling {modes!r} is not supported, only one of {', '.join(_POOLING)}")


def _write_settings(folder: Path, model: BiEncoder) -> None:
    settings, kinds = model.settings, ["Transformer", "Pooling"]
    prompts = {"query": settings.query_prompt or "", "document": settings.doc_prompt or ""}
    _dump(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    similarity = "cosine" if settings.normalize else "dot"
    _dump(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": similarity},
    )
    flags = {old: name == settings.pooling for name, (_, old) in _POOLING.items()}
    _dump(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": model._width, **flags})
    for number, projection in enumerate(model.projections, 2):
        kinds.append("Dense")
        projection.write(folder / f"{number}_Dense")  # type: ignore[operator]
    kinds += ["Normalize"] if settings.normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    _dump(folder / "modules.json", modules)


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
