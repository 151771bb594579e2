"""A query encoder for a finished index."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from training.tunings._queries import queries_alone

__all__ = ["QuerySide"]


class QuerySide:
    """A full copy of the transformer is trained for queries; documents and their index stay. Yu et al. (2021).

    Projections after pooling are shared by both sides, so they are frozen. Documents have no dropout while training.
    """

    def prepare(self, model: Any) -> None:
        """Raises ValueError for a model that is no bi-encoder."""
        queries_alone(model, self, copy.deepcopy)
        model.query_transformer.requires_grad_(True)

    def save(self, model: Any, folder: Path) -> None:
        """Write the encoder of queries as a model of its own."""
        from retrieval.bi_encoder import BiEncoder

        BiEncoder(model.query_transformer, model.tokenizer, model.settings, [*model.projections]).save(folder)

    def trained(self, encoder: Any, folder: Path) -> Any:
        """Queries by the model of the folder, documents by the encoder."""
        from retrieval.encoders.towers import Towers

        return Towers(encoder.trained(folder), encoder)
