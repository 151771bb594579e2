"""A transformer that turns a text into one vector: token states, pooling, optional projections, normalisation.

Reads and writes sentence-transformers' folder format, so that a model moves both ways.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from retrieval.adapters import virtual_tokens
from retrieval.files import whole_folder
from retrieval.model_files import check_length, ends_with_eos
from retrieval.sentence_folder import (
    POOLING,
    Settings,
    check_weights,
    modules_of,
    read_settings,
    write_json,
    write_settings,
)
from retrieval.types import Pooling

__all__ = ["BiEncoder", "Projection", "Settings", "check_weights", "pool", "prompt_length"]

_ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.linear.Identity": nn.Identity,
}


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
        write_json(folder / "config.json", about)
        weights = {f"linear.{name}": value.contiguous() for name, value in self.linear.state_dict().items()}
        save_file(weights, folder / "model.safetensors")


class BiEncoder(nn.Module):
    """Texts to vectors, float [texts, dimensions]."""

    def __init__(
        self,
        transformer: Any,
        tokenizer: Any,
        settings: Settings,
        projections: Sequence[Projection] = (),
        query_transformer: Any = None,
    ):
        """`query_transformer` is what queries pass where that differs from what documents do."""
        super().__init__()
        self.transformer, self.tokenizer, self.settings = transformer, tokenizer, settings
        self.query_transformer = query_transformer
        self.base: str | None = None  # hash of the weights that it began with, for adapters trained on them
        self.projections = nn.ModuleList(projections)
        if settings.padding_side:
            tokenizer.padding_side = settings.padding_side
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if settings.dimensions is not None and not 1 <= settings.dimensions <= self._full:
            raise ValueError(f"dimensions is {settings.dimensions}, and the model's vectors have {self._full}")

    @classmethod
    def load(
        cls, folder: Path, chosen: Settings, dtype: torch.dtype = torch.float32, append_eos: bool = False
    ) -> BiEncoder:
        """The model of a Hugging Face or sentence-transformers folder; `chosen` overrules what the folder says.

        Raises FileNotFoundError for a folder without weights, ValueError where the folder names no pooling and
        none is chosen, or has a module that is not known.
        """
        check_weights(folder)
        transformers.utils.logging.disable_progress_bar()  # of loading 100 tensors, which takes no time
        modules = modules_of(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder / modules[0]["path"])
        if append_eos:
            ends_with_eos(tokenizer)
        transformer = AutoModel.from_pretrained(folder / modules[0]["path"], dtype=dtype)
        transformer.config.use_cache = False  # a decoder would keep keys and values of every token
        settings = chosen.over(read_settings(folder, modules, tokenizer, transformer.config))
        check_length(folder, settings.max_length, transformer.config)
        if settings.pooling is None:
            raise ValueError(f"{folder} does not say how its vectors are pooled; give pooling: {', '.join(POOLING)}")
        projections = [Projection.read(folder / module["path"]) for module in modules if module["kind"] == "Dense"]
        return cls(transformer, tokenizer, settings, [projection.to(dtype) for projection in projections]).eval()

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.settings.dimensions or self._full

    @property
    def _full(self) -> int:
        sizes = [projection.linear.out_features for projection in self.projections]  # type: ignore[union-attr]
        return int([self._width, *sizes][-1])  # type: ignore[arg-type]

    @property
    def _width(self) -> int:
        return self.transformer.config.hidden_size

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch, with the query prompt."""
        return self._tokenize(texts, [self.settings.prompt()] * len(texts), True)

    def tokenize_instructed(self, texts: Sequence[str], instructions: Sequence[str]) -> dict[str, Tensor]:
        """The same of queries that have an instruction each. Raises ValueError where the prompt has no place for it."""
        return self._tokenize(texts, [self.settings.prompt(one) for one in instructions], True)

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch, with the document prompt."""
        return self._tokenize(texts, [self.settings.doc_prompt or ""] * len(texts), False)

    def forward(self, batch: dict[str, Tensor], queries: bool = False) -> Tensor:
        """Vectors of a tokenised batch, which passes what queries pass or what documents do.

        `skipped` in it is how many tokens of each text, those of its prompt, are not pooled.
        """
        mask = batch["attention_mask"]
        whole = bool(mask.all())  # nothing is padded: attention needs no mask and may take its fastest path
        left_out = ("skipped", "attention_mask") if whole else ("skipped",)
        inputs = {name: value for name, value in batch.items() if name not in left_out}
        states = self.side(queries)(**inputs).last_hidden_state
        return self.finish(states[:, -mask.shape[1] :], mask, batch.get("skipped"))  # no adapter's virtual tokens

    def score(self, queries: Tensor, docs: Tensor) -> Tensor:
        """Inner products [queries, docs]."""
        return queries @ docs.T

    def train(self, mode: bool = True) -> BiEncoder:
        """Training or evaluation mode; documents of a frozen transformer have the vectors that are in an index."""
        super().train(mode)
        if self.query_transformer is not None:
            self.transformer.eval()
        return self

    def checkpoint_activations(self) -> None:
        """Hold less of each layer while training, and compute it again for the gradient. Chen et al. (2016)."""
        for transformer in (self.transformer, self.query_transformer):
            if transformer is not None:
                transformer.gradient_checkpointing_enable({"use_reentrant": False})

    def side(self, queries: bool) -> Any:
        """The transformer that queries, or documents, pass."""
        return self.query_transformer if queries and self.query_transformer is not None else self.transformer

    def longest(self, queries: bool) -> int | None:
        """The most tokens of a text: with an adapter's virtual tokens, no more than the model has positions for."""
        virtual, positions = virtual_tokens(self.side(queries)), None
        if virtual:
            positions = getattr(self.transformer.config, "max_position_embeddings", None)
        limits = [self.settings.max_length, positions and positions - virtual]
        return min([limit for limit in limits if limit], default=None)

    def finish(self, states: Tensor, mask: Tensor, skipped: Tensor | None = None) -> Tensor:
        """Token states [texts, tokens, width] pooled, projected, cut to the first dimensions and normalised."""
        if skipped is not None:
            mask = mask * (mask.cumsum(1) > skipped[:, None])
        vectors = pool(states, mask, self.settings.pooling)  # type: ignore[arg-type]
        for projection in self.projections:
            vectors = projection(vectors)
        vectors = vectors[:, : self.settings.dimensions].float()
        return nn.functional.normalize(vectors, dim=1) if self.settings.normalize else vectors

    def save(self, folder: Path) -> None:
        """Write a folder that `load` and sentence-transformers read."""
        if self.query_transformer is not None or virtual_tokens(self.transformer):
            raise ValueError(f"{folder}: an adapter that is not merged cannot be saved with the model")
        with whole_folder(Path(folder)) as part:
            self.transformer.save_pretrained(part)
            self.tokenizer.model_max_length = self.settings.max_length
            self.tokenizer.save_pretrained(part)
            places = write_settings(part, self.settings, self._width, len(self.projections))
            for projection, place in zip(self.projections, places, strict=True):
                projection.write(place)  # type: ignore[operator]

    def _tokenize(self, texts: Sequence[str], prompts: Sequence[str], queries: bool) -> dict[str, Tensor]:
        batch = self.tokenizer(
            [prompt + text for prompt, text in zip(prompts, texts, strict=True)],
            padding=True,
            truncation=True,
            max_length=self.longest(queries),
            # behind virtual tokens, padding would move a text away from them
            padding_side="right" if virtual_tokens(self.side(queries)) else self.tokenizer.padding_side,
            return_token_type_ids=False,  # one text is of one type
            return_tensors="pt",
        )
        if any(prompts) and self.settings.include_prompt is False:
            skipped = {one: prompt_length(self.tokenizer, one) if one else 0 for one in dict.fromkeys(prompts)}
            batch["skipped"] = torch.tensor([skipped[prompt] for prompt in prompts])
        return dict(batch)


def prompt_length(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt with what stands before it, but not the token that ends a text."""
    ids = tokenizer(prompt).input_ids
    return len(ids) - (bool(ids) and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id))


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
