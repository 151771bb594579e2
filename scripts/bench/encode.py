"""Encoding speed beside sentence-transformers, interleaved in one run: `python scripts/bench/encode.py [documents]`.

Documents of SciFact below RETRIEVAL_DATA. Medians of three rounds; compare the ratios, machines differ.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware, packages

ROUNDS = 3
count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


def peer(dtype: torch.dtype, batch: int) -> Callable[[list[str]], np.ndarray]:
    """sentence-transformers at one setting."""
    model = SentenceTransformer(str(Transformer().folder), device="cpu", model_kwargs={"dtype": dtype})
    return lambda texts: model.encode(texts, batch_size=batch, convert_to_numpy=False, show_progress_bar=False)


def ours(dtype: str) -> Callable[[list[str]], np.ndarray]:
    """The toolkit's encoder at its default batch."""
    encoder = Transformer(dtype=dtype)
    return lambda texts: encoder.encode_docs(texts).vectors


corpus = Folder("scifact").open().corpus
texts = corpus.texts(np.random.default_rng(0).permutation(len(corpus))[:count])
systems = {
    "sentence-transformers float32, batch 32 (default)": peer(torch.float32, 32),
    "ours float32": ours("float32"),
}
for batch in (8, 16, 32, 64, 128):
    systems[f"sentence-transformers bfloat16, batch {batch}"] = peer(torch.bfloat16, batch)
systems["ours bfloat16"] = ours("bfloat16")

speeds: dict[str, list[float]] = {name: [] for name in systems}
for encode in systems.values():
    encode(texts[:64])
for _ in range(ROUNDS):
    for name, encode in systems.items():
        started = time.perf_counter()
        encode(texts)
        speeds[name].append(len(texts) / (time.perf_counter() - started))

medians = {name: statistics.median(values) for name, values in speeds.items()}
default = medians["sentence-transformers float32, batch 32 (default)"]
best = max(speed for name, speed in medians.items() if name.startswith("sentence"))
print(
    f"{hardware()}\n{packages()}\n{count} documents of SciFact, MiniLM; documents/s, median and range of {ROUNDS} rounds"
)
for name, speed in sorted(medians.items(), key=lambda item: item[1]):
    low, high = min(speeds[name]), max(speeds[name])
    print(
        f"{name:52} {speed:7.1f}  ({low:.1f}-{high:.1f})  x default {speed / default:.2f}  x best peer {speed / best:.2f}"
    )
reference = systems["ours float32"](texts[:200])
theirs = np.stack(
    [vector.float().numpy() for vector in systems["sentence-transformers float32, batch 32 (default)"](texts[:200])]
)
low = systems["ours bfloat16"](texts[:200])
print(f"smallest cosine to sentence-transformers float32: ours float32 {(reference * theirs).sum(1).min():.8f}, "
      f"ours bfloat16 {(low * theirs).sum(1).min():.6f}")  # fmt: skip
