"""Memory while a corpus is encoded: 20,000 to 200,000 generated documents, a tiny model. `python scripts/bench/encode_memory.py`.

Each size runs in a process of its own. Anonymous memory is what the process holds; pages of mapped files, which the
system takes back when it needs them, are counted apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

WORDS, VOCABULARY = 60, 2000  # per document; distinct ones


def tiny_model(folder: Path) -> None:
    """A BERT of two layers and 64 dimensions, with a tokenizer of the generated words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(VOCABULARY))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
    )
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def corpus(folder: Path, size: int) -> None:
    """Documents of words drawn by Zipf's law."""
    from retrieval.corpus import Corpus, Document

    generator = np.random.default_rng(0)

    def documents():
        for start in range(0, size, 1000):
            words = np.minimum(generator.zipf(1.3, (min(1000, size - start), WORDS)), VOCABULARY) - 1
            for i, line in enumerate(words):
                yield Document(f"d{start + i}", "", " ".join(f"w{word}" for word in line))

    Corpus.build(documents(), folder)


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1000


def measure(folder: Path, size: int) -> None:
    """Encode, and print what it took."""
    from retrieval.corpus import Corpus
    from retrieval.encoders.transformer import Transformer
    from retrieval.encoding import encode_corpus

    encoder = Transformer(str(folder / "model"), pooling="mean", dtype="float32", device="cpu")
    encoder.encode_docs(["w1 w2"])
    loaded, peak, done = status("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    encode_corpus(Corpus(folder / f"corpus-{size}"), encoder, folder / f"vectors-{size}", health="warn")
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    print(json.dumps({"size": size, "loaded": loaded, "peak": peak[0], "whole": status("VmHWM"), "seconds": seconds}))


def main() -> None:
    """A line a size, and the slope."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny_model(folder / "model")
        print(
            "| documents | model loaded, MB | peak, MB | above the model, MB | with mapped files, MB | documents/s |\n|---|---|---|---|---|---|"
        )
        found = []
        for size in [int(size) for size in sys.argv[1:]] or [20_000, 60_000, 200_000]:
            corpus(folder / f"corpus-{size}", size)
            command = [sys.executable, __file__, "measure", str(folder), str(size)]
            one = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            )
            found.append(one)
            print(
                f"| {size:,} | {one['loaded']:.0f} | {one['peak']:.0f} | {one['peak'] - one['loaded']:.0f} | {one['whole']:.0f} | {size / one['seconds']:.0f} |"
            )
    slope = np.polyfit([one["size"] for one in found], [one["peak"] - one["loaded"] for one in found], 1)[0]
    print(f"slope: {slope * 1000:.3f} MB per 1,000 documents; the vectors themselves are {64 * 4 / 1000:.3f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
