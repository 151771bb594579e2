"""peft's folders worn by a transformer: LoRA, merged or beside the base, and soft prompts before the text."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.files import whole_folder
from retrieval.locate import from_hub, on_disk
from retrieval.model_files import sha256

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "adapted",
    "adapter_hash",
    "check_base",
    "find_adapter",
    "learns_prompt",
    "save_adapter",
    "sharing",
    "virtual_tokens",
]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base.json"  # of an adapter trained here: the weights that it was trained on


def find_adapter(adapter: str) -> Path:
    """The folder of an adapter, on disk or on the hub.

    Raises FileNotFoundError where it lacks its config or safetensors weights; pickled ones are never loaded.
    """
    folder = on_disk(adapter, CONFIG) or (Path(adapter) if Path(adapter).is_dir() else from_hub(adapter, None))
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = name == WEIGHTS and (folder / "adapter_model.bin").is_file()
            why = ": adapter_model.bin is a pickle, which is never loaded; save it as safetensors" if pickled else ""
            raise FileNotFoundError(f"the adapter {folder} has no {name}{why}")
    return folder


def adapter_hash(adapter: str | None) -> str | None:
    """The hash of an adapter's config and weights, for a contract."""
    if adapter is None:
        return None
    folder = find_adapter(adapter)
    return sha256([folder / CONFIG, folder / WEIGHTS])


def learns_prompt(adapter: str) -> bool:
    """Whether an adapter is virtual tokens before the text, which cannot be merged into weights."""
    return "num_virtual_tokens" in json.loads((find_adapter(adapter) / CONFIG).read_text(encoding="utf-8"))


def save_adapter(worn: Any, folder: Path, base: str | None) -> None:
    """Write the adapter of a peft model into a new folder, with the hash of the weights that it was trained on."""
    with whole_folder(Path(folder)) as part:
        worn.save_pretrained(str(part), save_embedding_layers=False)
        if base is not None:
            (part / BASE).write_text(json.dumps({"weights": base}) + "\n", encoding="utf-8")


def check_base(adapter: str, base: str | None) -> None:
    """Raises ValueError for an adapter that says it was trained on other weights than those of this hash."""
    path = find_adapter(adapter) / BASE
    meant = json.loads(path.read_text(encoding="utf-8"))["weights"] if path.is_file() and base else base
    if meant != base:
        raise ValueError(
            f"the adapter {path.parent} was trained on the weights {meant}, and this model has {base}: "
            "load it on the model that it was trained on"
        )


def adapted(model: nn.Module, adapter: str, merge: bool, base: str | None = None) -> nn.Module:
    """The model with an adapter; `merge` adds it to the weights, so that nothing but the base runs.

    `base` is the hash of the model's weights. Raises ValueError for an adapter that was trained on others, or of which
    not every tensor finds its place, and for the other way round.
    """
    peft = _peft()
    from safetensors.torch import load_file

    folder = find_adapter(adapter)
    check_base(adapter, base)
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.task_type = "FEATURE_EXTRACTION"  # whatever head it was trained under: token states are what is wanted
    try:
        worn = peft.PeftModel.from_pretrained(
            model, str(folder), config=config, autocast_adapter_dtype=False, torch_device="cpu"
        )
    except RuntimeError as error:  # torch says of each tensor that its size is another
        raise ValueError(f"the adapter {folder} is of another model: {str(error).splitlines()[-1].strip()}") from error
    meant, width = getattr(config, "token_dim", None), model.get_input_embeddings().weight.shape[1]  # type: ignore
    if config.peft_type == "PROMPT_TUNING" and meant != width:
        raise ValueError(f"the adapter {folder} is of another model: its tokens have {meant} dimensions, not {width}")
    stray = sorted(set(peft.get_peft_model_state_dict(worn)) ^ set(load_file(folder / WEIGHTS)))
    if stray:
        raise ValueError(f"the adapter {folder} is of another model: {stray[0]} is on one side only")
    return worn.merge_and_unload() if merge else worn.eval()  # type: ignore[operator]


def sharing(model: nn.Module) -> nn.Module:
    """A copy of a model's modules around the same tensors, for an adapter that leaves the original as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def virtual_tokens(model: Any) -> int:
    """How many tokens an adapter puts before each text."""
    config = getattr(model, "active_peft_config", None)
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("an adapter needs peft: pip install peft") from error
    return peft
