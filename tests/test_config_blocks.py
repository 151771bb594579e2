"""A block for a dataclass: what it does not name stays as in the parameter's own default."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from retrieval.config import ConfigError, load


@dataclass(frozen=True)
class Settings:
    """A dataclass that a recipe holds as a block."""

    size: int = 1
    heat: float = 0.0


def warm(settings: Settings = Settings(8, 1.0)):
    return settings


def test_a_block_leaves_what_it_does_not_name_as_the_parameters_own_default(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("settings: {size: 3}")
    assert load(warm, path)[0]() == Settings(3, 1.0)
    assert load(warm, path, ["settings.heat=0.5"])[0]() == Settings(3, 0.5)
    with pytest.raises(ConfigError, match="settings.sise"):
        load(warm, path, ["settings.sise=2"])
