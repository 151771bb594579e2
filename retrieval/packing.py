"""Attention over texts that stand in one row, without padding between them: each token sees its own text alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

__all__ = ["pack_attention", "packed_states"]

NAME = "retrieval_packed"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # of attention, that only some models ask for


def pack_attention(model: Any, name: str) -> None:
    """Let a model of transformers attend within the texts of a row.

    Raises ValueError with the name for a model whose attention cannot be replaced.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"attention: {name}, a {type(model).__name__}, cannot be packed; take attention: padded")
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)  # where texts end says all
    model.set_attn_implementation(NAME)


def packed_states(model: Any, tokens: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token states [texts, tokens, dimensions], padded on the right, and which are a text's own [texts, tokens]."""
    lengths = [len(ids) for ids in tokens]
    ends = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    places = torch.cat([torch.arange(length) for length in lengths]) + _first_position(model)
    states = model(
        input_ids=torch.tensor([[i for ids in tokens for i in ids]], device=device),
        position_ids=places[None].to(device),
        cu_seq_lens_q=ends,
        max_length_q=max(lengths),
    ).last_hidden_state[0]
    own = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return pad_sequence(states.split(lengths), batch_first=True), own.long().to(device)


def _first_position(model: Any) -> int:
    """The position of a text's first token: RoBERTa and its like count from behind the padding's."""
    embeddings: Any = getattr(getattr(model, "base_model", model), "embeddings", None)
    return embeddings.padding_idx + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0


def _attend(
    module: Any,
    query: Tensor,  # [1, heads, tokens, width], as key and value, which may have fewer heads
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **more: Any,
) -> tuple[Tensor, None]:
    asked = [name for name in UNKNOWN if more.get(name) is not None]
    if sliding_window is not None and sliding_window < max_length_q:
        asked.append(f"sliding_window of {sliding_window}")
    if cu_seq_lens_q is None or asked:
        why = f"asks for {', '.join(asked)}" if asked else "is not told where texts end"
        raise ValueError(f"{type(module).__name__} cannot be packed, its attention {why}; take attention: padded")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    kernel = _varlen if query.is_cuda and query.dtype != torch.float32 else _one_by_one
    found = kernel(query[0], key[0], value[0], cu_seq_lens_q, max_length_q, scaling, causal)
    return found[None], None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None, causal: bool
) -> Tensor:
    """[tokens, heads, width], in one kernel of the GPU."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (part.transpose(0, 1).contiguous() for part in (query, key, value))
    more: dict[str, Any] = {"window_size": (-1, 0 if causal else -1), "enable_gqa": query.shape[1] != key.shape[1]}
    found: Any = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, **more)
    return found


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None, causal: bool
) -> Tensor:
    """[tokens, heads, width], text by text: a processor, and float32, have no kernel for all at once."""
    lengths = ends.diff().tolist()
    texts = zip(*(part.split(lengths, dim=1) for part in (query, key, value)), strict=True)
    more: dict[str, Any] = {"is_causal": causal, "scale": scaling, "enable_gqa": len(query) != len(key)}
    found = [scaled_dot_product_attention(q[None], k[None], v[None], **more) for q, k, v in texts]
    return torch.cat(found, dim=2)[0].transpose(0, 1)
