"""Generation batch by batch beside one prompt at a time: `python scripts/bench/generate.py [rounds]`.

A Llama of 4 layers and 256 dimensions with 8,000 words, made on the spot; prompts of 8 to 64 words; float32 on the
processor. Best of the rounds, interleaved in one run; compare the ratio, machines differ. On one that does other work
take the processor's seconds of one thread: OMP_NUM_THREADS=1. Texts must be the same.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retrieval.environment import hardware, packages
from retrieval.generators.transformers import Transformers
from retrieval.sampling import Request, Sampling

WORDS, count, tokens = 8000, 64, 64
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3


def build(folder: Path) -> Path:
    """The model's folder; it has no end token, so every answer has as many tokens as are asked for."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=WORDS, bos_token_id=None, eos_token_id=None, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def seconds(answer: Callable[[], list[str]]) -> tuple[float, float, list[str]]:
    """How long it takes, on the wall and of the processor, and the texts."""
    started, used = time.perf_counter(), time.process_time()
    texts = answer()
    return time.perf_counter() - started, time.process_time() - used, texts


def measure(generator: Transformers, sampling: Sampling) -> None:
    """Both ways, round by round."""
    draw = random.Random(0)
    prompts = [" ".join(f"w{draw.randrange(WORDS)}" for _ in range(draw.randint(8, 64))) for _ in range(count)]
    requests = [Request(prompt=prompt, sampling=sampling) for prompt in prompts]

    def together() -> list[str]:
        return [one.text for _, one in sorted(generator.generate(requests), key=lambda pair: pair[0])]

    def alone() -> list[str]:
        return [one.text for request in requests for _, one in generator.generate([request])]

    together()  # the first one loads the model
    taken = [(seconds(together), seconds(alone)) for _ in range(rounds)]
    if any(batched[2] != single[2] for batched, single in taken):
        raise SystemExit("a text differs between batched and one by one")
    print(f"temperature {sampling.temperature}: {count} prompts of 8 to 64 words, {tokens} tokens each, texts equal")
    for clock, name in enumerate(("wall", "processor")):
        batched, single = (min(both[side][clock] for both in taken) for side in (0, 1))
        print(
            f"  {name} s: one by one {single:.2f}, batched {batched:.2f}, {single / batched:.1f} times as fast",
            flush=True,
        )


print(hardware(), packages(), f"load {os.getloadavg()[0]:.1f}, threads {torch.get_num_threads()}", sep="\n", flush=True)
with tempfile.TemporaryDirectory() as place:
    made = Transformers(str(build(Path(place))), dtype="float32", device="cpu")
    for temperature in (0.0, 1.0):
        measure(made, Sampling(tokens, temperature))
print(f"load {os.getloadavg()[0]:.1f}")
