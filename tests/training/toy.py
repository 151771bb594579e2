"""A toy collection for training: each word of the queries means one word of the documents."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from retrieval.bi_encoder import BiEncoder, Settings

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
