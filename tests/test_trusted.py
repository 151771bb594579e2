"""Folders of models that run no code of their own."""

from __future__ import annotations

import json

import pytest

from retrieval.trusted import safe


def model(folder, auto_map):
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard of", "auto_map": auto_map}))
    return folder


def test_a_config_whose_auto_map_is_null_names_no_code(tmp_path):
    assert safe(model(tmp_path, None), trusted=False) == tmp_path


def test_a_config_that_names_code_of_its_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="code of its own .a.B."):
        safe(model(tmp_path, {"AutoModel": "a.B"}), trusted=False)
