"""Encoding speed beside sentence-transformers, interleaved in one run: `python scripts/bench/encode.py [documents]`.

Documents of NFCorpus and SciFact below RETRIEVAL_DATA, half and half, with MiniLM. Medians of three rounds; compare the
ratios, machines differ. bfloat16 is measured where the processor computes in it. The share is that of the rate of
matrix products measured in the same dtype and run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from retrieval.batching import tokenize
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware, packages
from retrieval.model_files import choose_dtype

ROUNDS = 3
count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
dtypes = {torch.float32, choose_dtype("auto", torch.device("cpu"))}
default = "sentence-transformers float32, batch 32 (default)"


def peer(dtype: torch.dtype, batch: int) -> Callable[[list[str]], np.ndarray]:
    """sentence-transformers at one setting."""
    model = SentenceTransformer(str(Transformer().folder), device="cpu", model_kwargs={"dtype": dtype})
    return lambda texts: (
        model.encode(texts, batch_size=batch, convert_to_tensor=True, show_progress_bar=False).float().numpy()
    )


def ours(dtype: str, compiled: bool) -> Callable[[list[str]], np.ndarray]:
    """The toolkit's encoder at its default batch."""
    encoder = Transformer(dtype=dtype, compiled=compiled)
    return lambda texts: encoder.encode_docs(texts).vectors


def product_rate(dtype: torch.dtype) -> float:
    """Flop/s of matrix products of the encoder's largest shape, one at a time on each core: the best of three rounds."""
    left, right = torch.randn(1024, 384).to(dtype), torch.randn(384, 1536).to(dtype)
    cores, each = torch.get_num_threads(), 50

    def work(_: int) -> None:
        for _ in range(each):
            left @ right

    seconds = []
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in range(3):
            started = time.perf_counter()
            list(pool.map(work, range(cores)))
            seconds.append(time.perf_counter() - started)
    return 2 * 1024 * 384 * 1536 * each * cores / min(seconds)


def flop(texts: list[str]) -> float:
    """Of the matrix products of MiniLM: 6 layers, 384 wide, 1,536 within."""
    lengths = np.array([len(ids) for ids in tokenize(Transformer().bi_encoder.tokenizer, texts, 256)[0]], float)
    return float((6 * lengths * (8 * 384**2 + 4 * 384 * 1536 + 4 * 384 * lengths)).sum())


def documents() -> list[str]:
    """Of both collections."""
    texts = []
    for name in ("nfcorpus", "scifact"):
        corpus = Folder(name).open().corpus
        texts += corpus.texts(np.random.default_rng(0).permutation(len(corpus))[: count // 2])
    return texts


def all_systems() -> dict[str, Callable[[list[str]], np.ndarray]]:
    """Ours and theirs, in each dtype that this processor computes in."""
    systems: dict[str, Callable[[list[str]], np.ndarray]] = {default: peer(torch.float32, 32)}
    for dtype in sorted(dtypes, key=str):
        name = str(dtype).removeprefix("torch.")
        for batch in (8, 16, 64, 128):
            systems[f"sentence-transformers {name}, batch {batch}"] = peer(dtype, batch)
        systems[f"ours {name}"] = ours(name, False)
        systems[f"ours {name}, compiled"] = ours(name, True)
    return systems


def measured(
    systems: dict[str, Callable[[list[str]], np.ndarray]], texts: list[str], rates: dict[torch.dtype, float]
) -> dict[str, list[float]]:
    """Documents per second of each round, after one that warms up, and compiles; product rates are taken in between."""
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for name, encode in systems.items():
        started = time.perf_counter()
        encode(texts if "compiled" in name else texts[:64])
        print(f"{name}: {time.perf_counter() - started:.1f} s the first time", file=sys.stderr)
    for _ in range(ROUNDS):
        for name, encode in systems.items():
            started = time.perf_counter()
            encode(texts)
            speeds[name].append(len(texts) / (time.perf_counter() - started))
            rates.update({dtype: max(rate, product_rate(dtype)) for dtype, rate in rates.items()})
    return speeds


def main() -> None:
    """A line a system, the fastest first."""
    texts, systems = documents(), all_systems()
    rates = {dtype: product_rate(dtype) for dtype in dtypes}
    speeds = measured(systems, texts, rates)
    work = flop(texts) / len(texts)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max(speed for name, speed in medians.items() if name.startswith("sentence"))
    print(f"{hardware()}\n{packages()}\n{len(texts)} documents, median and range of {ROUNDS} rounds\n")
    print("| system | x its best | x its default | share of the product rate | documents/s |\n|---|---|---|---|---|")
    for name, speed in sorted(medians.items(), key=lambda item: -item[1]):
        rate = rates[torch.bfloat16 if "bfloat16" in name else torch.float32]
        low, high = min(speeds[name]), max(speeds[name])
        print(
            f"| {name} | {speed / best:.2f} | {speed / medians[default]:.2f} | {speed * work / rate:.0%} "
            f"| {speed:.1f} ({low:.1f}-{high:.1f}) |"
        )
    reference = systems[default](texts[:200])
    for name, encode in systems.items():
        if name.startswith("ours"):
            print(f"{name}: smallest cosine to {default} {(reference * encode(texts[:200])).sum(1).min():.8f}")


if __name__ == "__main__":
    main()
