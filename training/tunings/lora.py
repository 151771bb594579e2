"""Low-rank adaptation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from retrieval.compiled import chosen
from training.tunings._queries import queries_alone, wearing

__all__ = ["LoRA"]


class LoRA:
    """Matrices of rank `r` added to linear layers: W + BA alpha / r. Hu et al. (2022), arXiv 2106.09685.

    For `side` queries documents pass the frozen model, and their index is used again. Of a classifier, and of
    ColBERT's projection, all is trained.
    """

    def __init__(
        self,
        r: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        modules: list[str] | None = None,
        side: Literal["both", "queries"] = "both",
        seed: int = 0,
    ):
        """`modules` are the ends of the layers' names, None all linear layers. `seed` draws A; B begins as zeros."""
        if r < 1 or alpha <= 0 or not 0 <= dropout < 1:
            raise ValueError(f"r {r}, alpha {alpha}, dropout {dropout}: r and alpha are above 0, dropout in [0, 1)")
        chosen("side", side, Literal["both", "queries"])
        self.r, self.alpha, self.dropout, self.modules, self.side, self.seed = r, alpha, dropout, modules, side, seed

    def prepare(self, model: Any) -> None:
        """Raises ValueError for `modules` that the model has not, and for `side` queries of what is no bi-encoder."""
        from retrieval.adapters import sharing
        from retrieval.bi_encoder import BiEncoder

        if self.side == "queries":
            queries_alone(model, self, lambda transformer: self._worn(sharing(transformer), False))
            return
        if isinstance(model, BiEncoder):
            model.requires_grad_(False)  # projections too: what is trained is in the adapter
        model.transformer = self._worn(model.transformer, hasattr(model, "tokenize_pairs"))

    def save(self, model: Any, folder: Path) -> None:
        """Write the merged model, a bi-encoder's adapter beside it in adapter/; for `side` queries the adapter."""
        from retrieval.adapters import save_adapter
        from retrieval.bi_encoder import BiEncoder

        if self.side == "queries":
            save_adapter(model.query_transformer, folder, model.base)
            return
        merged = copy.deepcopy(model)
        merged.transformer = merged.transformer.merge_and_unload()
        merged.save(folder)
        if isinstance(model, BiEncoder):
            save_adapter(model.transformer, Path(folder) / "adapter", model.base)

    def trained(self, encoder: Any, folder: Path) -> Any:
        """The encoder with what was written. Raises ValueError for an adapter of queries of another model."""
        return wearing(encoder, folder, self) if self.side == "queries" else encoder.trained(folder)

    def _worn(self, transformer: Any, classifies: bool) -> Any:
        import peft
        import torch

        pooler = not classifies and getattr(transformer, "pooler", None) is not None
        config = peft.LoraConfig(
            task_type="SEQ_CLS" if classifies else "FEATURE_EXTRACTION",
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=self.modules or "all-linear",
            exclude_modules=["pooler.dense"] if pooler and self.modules is None else None,  # it gets no gradient
        )
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            return peft.get_peft_model(transformer, config)
