"""A toy collection for training: each word of the queries means one word of the documents."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from retrieval.bi_encoder import BiEncoder, Settings
from retrieval.corpus import Corpus
from retrieval.types import Qrels, Queries
from training.collections import Groups
from training.sources.judged import lists_of

TOPICS = 26


def tiny_model(dropout: float = 0.1) -> BiEncoder:
    """A BERT of one layer and 16 dimensions that knows the words of the collection."""
    words = ["[PAD]", "[UNK]", "ask", "tell", "more", *(f"{side}{n}" for side in "qd" for n in range(TOPICS))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    settings = Settings("mean", False, "", "", 16, "right")
    return BiEncoder(BertModel(config), fast, settings).eval()


def toy_groups(folder: Path, **options) -> Groups:
    """One group of a positive and a negative for each topic."""
    if not folder.exists():
        Corpus.build(((f"d{n}", "tell", f"d{n} more") for n in range(TOPICS)), folder)
    queries = Queries([f"q{n}" for n in range(TOPICS)], [f"ask q{n}" for n in range(TOPICS)])
    qrels = Qrels.from_dict({f"q{n}": {f"d{n}": 1, f"d{(n + 1) % TOPICS}": 0} for n in range(TOPICS)})
    return Groups(lists_of(Corpus(folder), queries, qrels), **{"size": 2} | options)
