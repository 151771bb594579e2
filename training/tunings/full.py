"""Full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["Full"]


class Full:
    """Every parameter is trained."""

    def prepare(self, model: Any) -> None:
        """Nothing: all parameters of a new model have gradients."""

    def save(self, model: Any, folder: Path) -> None:
        """Write the model."""
        model.save(folder)

    def trained(self, encoder: Any, folder: Path) -> Any:
        """The encoder with the model of the folder."""
        return encoder.trained(folder)
