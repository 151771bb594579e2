"""What objectives of masked language have in common: hidden tokens, new layers, and a head that guesses tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from retrieval.bi_encoder import BiEncoder, pool

__all__ = ["IGNORED", "Guesser", "Hider", "Layer", "behind_vector", "check_share", "embedded", "pooled", "seeded"]

IGNORED = -100  # the label of a token that is not to be guessed
Module = TypeVar("Module", bound=nn.Module)
LIKE_BERT = ("bert", "roberta", "xlm-roberta")


def check_share(name: str, share: float) -> float:
    """A share of tokens. Raises ValueError for none of them or all."""
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share}; it is a share of the tokens, above 0 and below 1")
    return share


class Hider:
    """Reads texts as documents are read, and hides some of their tokens."""

    def __init__(self, model: BiEncoder, objective: str):
        """Raises ValueError for a model that is not like BERT: masked words, [CLS] first, padding behind."""
        _check_like_bert(model, objective)
        tokenizer = model.tokenizer
        self._tokenize, self._mask = model.tokenize_docs, tokenizer.mask_token_id
        self._special = np.array(tokenizer.all_special_ids)
        self._ordinary = np.setdiff1d(np.arange(len(tokenizer)), self._special)

    def read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the model's transformer takes, nothing hidden yet."""
        batch = self._tokenize(texts)
        batch.pop("skipped", None)  # a prompt is pre-trained on like the rest
        return batch

    def words(self, ids: np.ndarray) -> np.ndarray:
        """bool [texts, tokens]: those that are not special."""
        return ~np.isin(ids, self._special)

    def hide(self, ids: np.ndarray, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The ids [texts, tokens] with some words hidden, and labels: what these were, IGNORED elsewhere.

        Of each text that share of the words, at least one. Of ten of these, eight become the mask token, one another
        token, and one stays (Devlin et al. 2019).
        """
        words = self.words(ids)
        wanted = np.maximum(1, np.rint(share * words.sum(1, keepdims=True)))
        turn = np.where(words, rng.random(ids.shape), 2).argsort(1).argsort(1)
        chosen, fate = words & (turn < wanted), rng.random(ids.shape)
        hidden = np.where(chosen & (fate < 0.8), self._mask, ids)
        hidden = np.where(chosen & (fate >= 0.9), rng.choice(self._ordinary, ids.shape), hidden)
        return torch.from_numpy(hidden), torch.from_numpy(np.where(chosen, ids, IGNORED))


class Layer(nn.Module):
    """A transformer layer as BERT has it; what asks may be other states than what is attended to."""

    def __init__(self, config: Any):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.query, self.key, self.value, self.joined = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, config.intermediate_size), nn.Linear(config.intermediate_size, width)
        self.attended, self.norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.activation, self.dropout = ACT2FN[config.hidden_act], nn.Dropout(config.hidden_dropout_prob)

    def forward(self, asking: Tensor, states: Tensor, visible: Tensor) -> Tensor:
        """[texts, tokens, width] like both; `visible` bool [texts, 1 or tokens, tokens], of each row at least one."""
        parts = (self.query(asking), self.key(states), self.value(states))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        found = F.scaled_dot_product_attention(query, key, value, visible[:, None])
        asking = self.attended(asking + self.dropout(self.joined(found.transpose(1, 2).flatten(2))))
        return self.norm(asking + self.dropout(self.narrow(self.activation(self.wide(asking)))))


class Guesser(nn.Module):
    """The head of a masked language model: a new transform, then the input embeddings of the model, shared."""

    def __init__(self, config: Any):
        super().__init__()
        self.transform, self.activation = nn.Linear(config.hidden_size, config.hidden_size), ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def loss(self, states: Tensor, labels: Tensor, embeddings: Tensor) -> Tensor:
        """Cross-entropy of the labels [texts, tokens] given states [texts, tokens, width], mean over those to guess."""
        asked = labels != IGNORED
        logits = F.linear(self.norm(self.activation(self.transform(states[asked]))), embeddings, self.bias)
        total = F.cross_entropy(logits.float(), labels[asked], reduction="sum")
        return total / asked.sum().clamp(min=1)  # 0, and not NaN, where no text has a word


def seeded(make: Callable[[], Module], like: nn.Module, seed: int) -> Module:
    """A new module on the device of another, its weights from N(0, 0.02), as BERT's, by a seed of their own."""
    source = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the layers draw weights of their own first
        module = make()
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02, generator=source)
            nn.init.zeros_(part.bias)
    return module.to(next(like.parameters()).device)


def embedded(model: BiEncoder) -> Tensor:
    """The input embeddings [vocabulary, width]."""
    return model.transformer.get_input_embeddings().weight


def pooled(model: BiEncoder, states: Tensor, mask: Tensor) -> Tensor:
    """Vectors [texts, width] by the model's pooling, before projections and normalisation."""
    return pool(states, mask, model.settings.pooling).to(states.dtype)  # type: ignore[arg-type]


def behind_vector(vectors: Tensor, states: Tensor) -> Tensor:
    """States [texts, tokens, width] with a text's vector in the place of the first, that of [CLS]."""
    return torch.cat([vectors[:, None], states[:, 1:]], 1)


def _check_like_bert(model: Any, objective: str) -> None:
    if not isinstance(model, BiEncoder):
        raise ValueError(f"{objective} pre-trains encoders of one vector a text, not {type(model).__name__}")
    config, tokenizer = model.transformer.config, model.tokenizer
    if config.model_type not in LIKE_BERT:
        known = ", ".join(LIKE_BERT)
        raise ValueError(f"{objective} pre-trains models like BERT ({known}), not {config.model_type}: choose another")
    if tokenizer.mask_token_id is None or tokenizer.cls_token_id is None or tokenizer.padding_side != "right":
        raise ValueError(
            f"{objective} needs a tokenizer with a mask token that puts a cls token before a text and padding behind "
            f"it; this one has mask {tokenizer.mask_token}, cls {tokenizer.cls_token}, padding_side "
            f"{tokenizer.padding_side}"
        )
