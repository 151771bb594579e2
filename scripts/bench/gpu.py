"""Encoding and exact search on a GPU, on generated data alone: `python scripts/bench/gpu.py [--small]`, under 10 minutes.

Measures the matrix-product rate and the memory bandwidth of the device first; then the encoding of a BERT-base-sized
model beside sentence-transformers at its fastest, and exact search beside FAISS where its GPU build is installed.
`--small` is for trying the script on any machine, also without a GPU; its figures mean nothing.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SMALL = "--small" in sys.argv
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
TOKENS = 32 if SMALL else 256
TEXTS = 64 if SMALL else 16_384
CORPORA = [2_000] if SMALL else [1_000_000, 10_000_000]
WIDTH, QUERIES, K = 384, 50 if SMALL else 1000, 100


def timed(work: Callable[[], object], rounds: int = 3) -> float:
    """The median seconds of some rounds, after one that warms up."""
    found = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return float(np.median(found[1:]))


def limits() -> tuple[float, float]:
    """Matrix-product rate in the encoder's dtype (flop/s), and bandwidth (bytes/s)."""
    n = 512 if SMALL else 8192
    left, right = (torch.randn(n, n, device=DEVICE, dtype=DTYPE) for _ in range(2))
    rate = 2 * n**3 / timed(lambda: left @ right, 5)
    block = torch.zeros(2**22 if SMALL else 2**30, device=DEVICE, dtype=torch.float32)
    return rate, block.nbytes / timed(lambda: block.sum(), 5)


def model(folder: Path) -> None:
    """A BERT of base size with random weights, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *(f"w{i}" for i in range(1000))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=512
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=30522, **({"num_hidden_layers": 1} if SMALL else {}))).save_pretrained(folder)


def encoding(folder: Path, rate: float) -> None:
    """Tokens per second, and their share of the matrix-product rate."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling
    from sentence_transformers.models import Transformer as Module

    from retrieval.encoders.transformer import Transformer

    generator = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in generator.integers(0, 1000, TOKENS)) for _ in range(TEXTS)]
    ours = {
        name: Transformer(
            str(folder), pooling="mean", dtype=str(DTYPE).removeprefix("torch."), device=str(DEVICE), **options
        )
        for name, options in {
            "ours": {},
            "ours, packed": {"attention": "packed"},
            "ours, compiled": {"compiled": True},
        }.items()
    }
    works: dict[str, Callable[[], object]] = {
        name: lambda one=one: one.encode_docs(texts) for name, one in ours.items()
    }
    for attention in ("sdpa", "flash_attention_2"):
        try:
            inner = Module(
                str(folder), max_seq_length=512, model_args={"dtype": DTYPE, "attn_implementation": attention}
            )
        except ImportError as error:
            print(f"sentence-transformers, {attention}: not here ({str(error).splitlines()[0][:80]})")
            continue
        peer = SentenceTransformer(modules=[inner, Pooling(inner.get_word_embedding_dimension())], device=str(DEVICE))
        for batch in (32,) if SMALL else (64, 256, 1024):
            name = f"sentence-transformers, {attention}, batch {batch}"
            works[name] = lambda peer=peer, batch=batch: peer.encode(texts, batch_size=batch, convert_to_tensor=True)
    inner_config = Transformer(str(folder), pooling="mean", device="cpu").bi_encoder.transformer.config
    hidden, layers, wide = inner_config.hidden_size, inner_config.num_hidden_layers, inner_config.intermediate_size
    flop = layers * (8 * hidden**2 + 4 * hidden * wide + 4 * hidden * TOKENS)  # per token
    seconds = {}
    for name, work in works.items():
        try:
            seconds[name] = timed(work, 2)
        except Exception as error:
            print(f"{name}: did not run ({type(error).__name__}: {str(error).splitlines()[0][:100]})")
    best = min((value for name, value in seconds.items() if name.startswith("sentence")), default=float("nan"))
    print("\n| encoder | x its best | share of the matrix-product rate | tokens/s |\n|---|---|---|---|")
    for name, value in sorted(seconds.items(), key=lambda item: item[1]):
        speed = TEXTS * TOKENS / value
        print(f"| {name} | {best / value:.2f} | {speed * flop / rate:.1%} | {speed:,.0f} |")


def search(rate: float, bandwidth: float) -> None:
    """Exact search beside what reading the vectors and multiplying them must take, and beside FAISS."""
    from retrieval.indexes.flat import Flat
    from retrieval.types import Dense

    print(
        "\n| vectors | share of the nearer limit | ours, s | limit, s | FAISS GPU, s | same top 100 |\n|---|---|---|---|---|---|"
    )
    single = torch.randn(512 if SMALL else 8192, 512 if SMALL else 8192, device=DEVICE)
    rate = 2 * len(single) ** 3 / timed(lambda: single @ single, 3)  # exact search multiplies in float32
    for size in CORPORA:
        generator = np.random.default_rng(size)
        vectors = generator.standard_normal((size, WIDTH), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = generator.standard_normal((QUERIES, WIDTH), np.float32)
        flat = Flat(device=str(DEVICE))
        flat.build(vectors, np.arange(size, dtype=np.int32))
        seconds = timed(lambda flat=flat, queries=queries: flat.search(Dense(queries), K), 2)
        limit = max(vectors.nbytes / bandwidth, 2 * QUERIES * size * WIDTH / rate)
        theirs, same = faiss_gpu(vectors, queries, flat.search(Dense(queries), K)[0])
        print(f"| {size:,} | {limit / seconds:.1%} | {seconds:.3f} | {limit:.3f} | {theirs} | {same} |")


def faiss_gpu(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> tuple[str, str]:
    """The seconds of FAISS' exact GPU index, and the share of its results that are ours."""
    try:
        import faiss
    except ImportError:
        return "not installed", ""
    if not getattr(faiss, "get_num_gpus", lambda: 0)():
        return "a CPU build", ""
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), WIDTH)
    index.add(vectors)
    seconds = timed(lambda: index.search(queries, K), 2)
    found = index.search(queries, K)[1]
    shared = np.mean([len(np.intersect1d(one, two)) / K for one, two in zip(found, rows, strict=True)])
    return f"{seconds:.3f}", f"{shared:.4f}"


if __name__ == "__main__":
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU"
    products, memory = limits()
    print(f"{name}, torch {torch.__version__}: {products / 1e12:.2f} Tflop/s in {DTYPE}, {memory / 1e9:.1f} GB/s")
    with tempfile.TemporaryDirectory() as place:
        model(Path(place))
        encoding(Path(place), products)
    search(products, memory)
