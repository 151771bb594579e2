"""Training steps of MiniLM: seconds beside sentence-transformers' trainer, same loss and batch, one run.

    python scripts/bench/train_steps.py fixed      64 pairs of 128 tokens a side
    python scripts/bench/train_steps.py natural    64 pairs of NFCorpus (RETRIEVAL_DATA), as long as they are, at most 256
    python scripts/bench/train_steps.py gradcache  batch 512 in pieces: peak memory beside a batch of 32, time beside whole

Both trainers run alternately in processes of their own; a step's time is from one call of the loss to the next, the
median over the steps but the first. --bf16 trains in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LENGTHS = {"fixed": 128, "natural": 256, "gradcache": 64}
TEMPERATURE = 0.05


def pairs(kind: str, count: int) -> tuple[list[str], list[str]]:
    """Queries and documents: words without end for fixed lengths, or those of NFCorpus."""
    if kind != "natural":
        import numpy as np

        rng = np.random.default_rng(0)
        words = np.array("disease heart study food cancer risk diet cell blood health trial acid fat sugar".split())
        texts = [" ".join(rng.choice(words, 300)) for _ in range(2 * count)]
        return texts[:count], texts[count:]
    from retrieval.datasets.beir import Beir

    collection = Beir("nfcorpus").open()
    queries, qrels = collection.queries("train"), collection.qrels("train").to_dict()
    text = dict(zip(queries.ids, queries.texts, strict=True))
    chosen = [(text[name], next(iter(docs))) for name, docs in qrels.items() if docs]
    chosen = [chosen[i % len(chosen)] for i in range(count)]
    rows = collection.corpus.ids.rows([doc for _, doc in chosen])
    return [query for query, _ in chosen], collection.corpus.texts(rows)


class Timed:
    """When the loss was called."""

    def __init__(self):
        self.times: list[float] = []

    def seconds(self) -> float:
        """The median step, the first left out."""
        return statistics.median(b - a for a, b in zip(self.times[1:], self.times[2:], strict=False))


def ours(kind: str, batch: int, steps: int, bf16: bool, chunk_tokens: int | None) -> Timed:
    """Steps of this toolkit's trainer."""
    from retrieval.corpus import Corpus
    from retrieval.encoders.transformer import Transformer
    from retrieval.types import Qrels, Queries
    from training.collections import Groups
    from training.losses.infonce import InfoNCE
    from training.sources.judged import lists_of
    from training.trainer import Trainer

    clock, loss = Timed(), InfoNCE(TEMPERATURE)

    class Clocked:
        def __call__(self, scores, labels, mask):
            clock.times.append(time.perf_counter())
            return loss(scores, labels, mask)

    queries, docs = pairs(kind, batch * (steps + 1))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.build(((str(i), "", text) for i, text in enumerate(docs)), Path(folder) / "corpus")
        ids = [str(i) for i in range(len(queries))]
        lists = lists_of(corpus, Queries(ids, queries), Qrels.from_dict({i: {i: 1} for i in ids}))
        trainer = Trainer(
            Clocked(),
            steps=steps,
            batch_size=batch,
            precision="bfloat16" if bf16 else "float32",
            eval_steps=steps + 1,
            chunk_tokens=chunk_tokens,
        )
        model = Transformer(max_length=LENGTHS[kind]).trainable()
        trainer.train(model, Groups(lists, 1), Path(folder) / "run", save=lambda model, place: place.mkdir())
    return clock


def theirs(kind: str, batch: int, steps: int, bf16: bool, chunk_tokens: int | None) -> Timed:
    """Steps of sentence-transformers' trainer; with `chunk_tokens` its cached loss, in parts of as many tokens."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
    from sentence_transformers.training_args import SentenceTransformerTrainingArguments

    from retrieval.model_files import MINILM, find_model

    queries, docs = pairs(kind, batch * (steps + 1))
    model = SentenceTransformer(str(find_model(MINILM)))
    model.max_seq_length = LENGTHS[kind]
    clock = Timed()
    if chunk_tokens:
        loss = losses.CachedMultipleNegativesRankingLoss(
            model, scale=1 / TEMPERATURE, mini_batch_size=max(1, chunk_tokens // LENGTHS[kind])
        )
    else:
        loss = losses.MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    loss.register_forward_pre_hook(lambda *a: clock.times.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=batch,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
        )
        data = Dataset.from_dict({"anchor": queries, "positive": docs})
        SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss).train()
    return clock


def once(which: str, kind: str, batch: int, steps: int, bf16: bool, chunk_tokens: int | None) -> dict[str, float]:
    """One run in a process of its own: seconds a step, and its peak memory in MB."""
    asked = json.dumps([which, kind, batch, steps, bf16, chunk_tokens])
    done = subprocess.run([sys.executable, __file__, "--child", asked], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def child(asked: str) -> None:
    """What that process does."""
    which, kind, batch, steps, bf16, chunk_tokens = json.loads(asked)
    import torch

    clock = {"ours": ours, "theirs": theirs}[which](kind, batch, steps, bf16, chunk_tokens)
    on_gpu = torch.cuda.is_available()
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    print(json.dumps({"seconds": clock.seconds() if len(clock.times) > 2 else 0.0, "MB": peak}))


def throughput(kind: str, steps: int, rounds: int, bf16: bool) -> None:
    """Print seconds a step of both, run by run, and the ratio of the medians."""
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for which, seconds in found.items():
            seconds.append(once(which, kind, 64, steps, bf16, None)["seconds"])
    for which, seconds in found.items():
        print(f"{kind:8} {which:7} {', '.join(f'{s:.2f}' for s in seconds)} s a step of 64 pairs")
    print(
        f"{kind:8} {statistics.median(found['theirs']) / statistics.median(found['ours']):.2f}x sentence-transformers"
    )


def gradcache(steps: int, bf16: bool, peer: bool) -> None:
    """Print peak memory at 512 in pieces beside 32 whole, and the time of pieces beside whole where both fit."""
    tokens = 16 * LENGTHS["gradcache"]  # of a piece: what passes a model at once on a processor
    small, large = (once("ours", "gradcache", *one) for one in ((32, 2, bf16, None), (512, 2, bf16, tokens)))
    print(
        f"peak memory: {large['MB']:.0f} MB at 512 in pieces, {small['MB']:.0f} MB at 32: {large['MB'] / small['MB']:.2f}x"
    )
    for which in ("ours", "theirs") if peer else ("ours",):
        whole, cached = (once(which, "gradcache", 128, steps, bf16, part) for part in (None, tokens))
        print(
            f"{which:7} batch 128: {whole['seconds']:.2f} s a step whole, {cached['seconds']:.2f} s in pieces: "
            f"{cached['seconds'] / whole['seconds']:.2f}x"
        )


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=list(LENGTHS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="of fixed and natural")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--peer", action="store_true", help="gradcache: the peer's cached loss too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
    elif asked.what == "gradcache":
        gradcache(asked.steps, asked.bf16, asked.peer)
    elif asked.what:
        throughput(asked.what, asked.steps, asked.rounds, asked.bf16)
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
