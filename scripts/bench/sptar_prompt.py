"""Stages 1 and 2 of SPTAR on a small language model made here: `python scripts/bench/sptar_prompt.py [steps]`.

A Llama of 4 layers and 128 dimensions with a tokenizer of its own learns, from NFCorpus, documents and to write a title
or a training query after one, behind an example pair as it will be asked, for [steps] of 16 texts. Frozen, it is then prompted for SciFact, which it has not seen:
50 training claims tune the soft prompt, 60 others choose the epoch, 150 more are what the table is about. Queries are
written for 300 documents without judgements, and pass where BM25 finds their document among 30 of 5,183. It needs
RETRIEVAL_DATA; about 40 minutes of one core: OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retrieval.collection import Collection
from retrieval.datasets.folder import Folder
from retrieval.environment import hardware, packages
from retrieval.generators.transformers import Transformers
from retrieval.locate import cache_folder
from retrieval.retrievers.bm25 import BM25
from retrieval.sampling import Sampling
from retrieval.tune_prompt import _pairs
from retrieval.types import Queries
from training.filters import found_within
from training.query_prompt import Pair, QueryPrompt, write_pairs
from training.softprompt import Frozen, SoftPrompt, Steps, choose, same_examples
from training.synthesis.weak_queries import WeakQueries

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1200
WORDS, LENGTH, DEPTH = 40, 352, 30  # words of a document; tokens of a text that is learnt; rank that passes
PROMPT = QueryPrompt(words=WORDS)


def texts_to_learn(collection: Collection) -> list[str]:
    """Documents, documents with their titles, and documents with training queries, in the form of the prompts."""
    pairs, _ = _pairs(collection, "train", "dev", 10**6, 1, 0)
    documents = list(collection.corpus)
    plain = [one.text for one in documents]
    titled = [f"Document: {' '.join(one.text.split()[:WORDS])}\nTitle: {one.title}" for one in documents]
    rng = np.random.default_rng(0)
    chosen, shown = rng.permutation(len(pairs))[: 4 * len(titled)], rng.integers(len(pairs), size=4 * len(titled))
    asked = [
        f"{PROMPT.text(pairs[place].document, [pairs[other]])} {pairs[place].query}"
        for place, other in zip(chosen, shown, strict=False)
    ]
    return [*plain, *titled, *titled, *asked]


def build(texts: list[str], folder: Path) -> Path:
    """The model's folder."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    special, alphabet = ["<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=1024, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=True, **shape,
    )  # fmt: skip
    net = LlamaForCausalLM(config)
    learn(net, [[*tokenizer(text).input_ids, 1] for text in texts])
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learn(net: LlamaForCausalLM, coded: list[list[int]]) -> None:
    """Train the model on texts cut to LENGTH tokens."""
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.05)
    rng, started, mean = np.random.default_rng(0), time.perf_counter(), 0.0
    for step in range(steps):
        batch = [coded[place] for place in rng.integers(len(coded), size=16)]
        cut = [one[max(0, len(one) - LENGTH) :] for one in batch]  # the end, where a query stands
        ids = torch.ones(len(cut), max(map(len, cut)), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, one in enumerate(cut):
            ids[row, : len(one)] = labels[row, : len(one)] = torch.tensor(one)
        loss = net(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        mean = loss.item() if not step else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 99:
            print(f"  step {step + 1}: loss {mean:.3f}, {time.perf_counter() - started:.0f} s", flush=True)


def write(
    collection: Collection, folder: Path, model: Path, prompt: QueryPrompt, adapter: Path | None
) -> list[tuple[str, str]]:
    """Queries for 300 documents without judgements, each with the document that it was written for."""
    generator = Transformers(str(model), adapter=adapter and str(adapter), dtype="float32", device="cpu")
    WeakQueries(generator, prompt, documents=300, sampling=Sampling(32)).synthesize(collection, folder)
    made = Collection(folder)
    texts = dict(zip(made.queries("train").ids, made.queries("train").texts, strict=True))
    judged = made.qrels("train").to_dict()
    return [(texts[name], next(iter(judged[name]))) for name in texts]


def passed(collection: Collection, made: list[tuple[str, str]], shift: int = 0) -> str:
    """The share of queries that pass; `shift` gives each the document of another."""
    retriever = BM25()
    retriever.open(collection.corpus, cache_folder())
    queries = Queries([str(place) for place in range(len(made))], [text for text, _ in made])
    sources = collection.corpus.ids.rows([document for _, document in made])
    sources = np.roll(sources, shift)
    hit = retriever.retrieve(queries, DEPTH).rows == sources[:, None]
    kept = found_within(np.where(hit.any(1), hit.argmax(1) + 1, 0), DEPTH)
    return f"{100 * kept.mean():5.1f} % of {len(made)}"


def main(place: Path) -> None:
    """Both stages, and the table."""
    nfcorpus, scifact = Folder("nfcorpus").open(), Folder("scifact").open()
    model = build(texts_to_learn(nfcorpus), place / "model")
    train, others = _pairs(scifact, "train", None, 50, 210, 10)
    names = list(dict.fromkeys(pair.query for pair in others))
    evaluation = [pair for pair in others if pair.query in {*names[:60]}]
    held_out = [pair for pair in others if pair.query in {*names[60:]}]
    soft = SoftPrompt(str(model), prompt=PROMPT, steps=Steps(batch_size=4, epochs=20), dtype="float32", device="cpu")
    rng = np.random.default_rng(10)
    groups = [[train[place] for place in rng.permutation(len(train))[:1].tolist()] for _ in range(4)]
    group, losses = choose(groups, lambda one: soft.loss(same_examples(evaluation, one, PROMPT)))
    print("loss of each group of examples:", *(f"{one:.3f}" for one in losses))
    left = [pair for pair in train if pair not in group]
    items, tested = (same_examples(pairs, group, PROMPT) for pairs in (left, held_out))
    epochs = soft.tune(items, same_examples(evaluation, group, PROMPT), place / "tuned")
    best = int(np.argmin([one["evaluation"] for one in epochs]))
    print(f"{len(items)} pairs, {len(epochs) - 1} epochs, the best is {best}")
    show_losses(soft, model, tested, held_out, group, place)
    show_filter(scifact, model, group, place)


def show_losses(
    soft: SoftPrompt, model: Path, tested: list, held_out: list[Pair], group: list[Pair], place: Path
) -> None:
    """Losses on the held-out pairs, and what has a gradient."""
    from safetensors.torch import load_file

    start = soft.frozen.embedded(soft.instruction, soft.tokens)
    (tuned,) = load_file(place / "tuned" / "prompt" / "adapter_model.safetensors").values()
    frozen: Frozen = soft.frozen
    inpars = QueryPrompt("inpars", words=WORDS)
    told = [(f"{soft.instruction}\n\n{text}", query) for text, query in tested]
    rows = {
        "one example pair": frozen.mean(tested, None, 8),
        "the instruction and one example pair (hard prompt)": frozen.mean(told, None, 8),
        "InPars: an instruction and three pairs of ours": frozen.mean(
            [(inpars.text(one.document), one.query) for one in held_out], None, 8
        ),
        "soft prompt at its start, one example pair": frozen.mean(tested, start, 8),
        "soft prompt tuned, one example pair": frozen.mean(tested, tuned, 8),
    }
    print(f"loss a token on {len(tested)} held-out pairs:")
    for what, loss in rows.items():
        print(f"  {loss:.3f}  {what}")
    probe = tuned.clone().requires_grad_()
    frozen.losses(tested[:4], probe).mean().backward()
    learning = sum(one.numel() for one in frozen.net.parameters() if one.requires_grad or one.grad is not None)
    assert probe.grad is not None
    print(f"values with a gradient: {int((probe.grad != 0).sum())} of {probe.numel()} of the prompt, {learning} of the "
          f"model's {sum(one.numel() for one in frozen.net.parameters()):,}")  # fmt: skip


def show_filter(scifact: Collection, model: Path, group: list[Pair], place: Path) -> None:
    """How many queries pass the BM25 filter."""
    write_pairs(group, place / "examples.jsonl")
    shown = QueryPrompt(words=WORDS, examples=place / "examples.jsonl")
    hard = write(scifact, place / "hard", model, shown, None)
    soft = write(scifact, place / "soft", model, shown, place / "tuned" / "prompt")
    print(f"queries whose document BM25 finds among {DEPTH}:")
    print(f"  {passed(scifact, soft)}  soft prompt")
    print(f"  {passed(scifact, hard)}  hard prompt: the same text without it")
    print(f"  {passed(scifact, soft, 1)}  those of the soft prompt, each with the document of another")
    for (said, document), (other, _) in list(zip(soft, hard, strict=False))[:3]:
        print(f"  {document}: soft {said[:90]!r}; hard {other[:90]!r}")


print(hardware(), packages(), f"load {os.getloadavg()[0]:.1f}, threads {torch.get_num_threads()}", sep="\n", flush=True)
with tempfile.TemporaryDirectory() as folder:
    os.environ["RETRIEVAL_CACHE"] = os.environ.get("RETRIEVAL_CACHE") or f"{folder}/cache"
    main(Path(folder))
print(f"load {os.getloadavg()[0]:.1f}")
