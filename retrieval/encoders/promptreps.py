"""PromptReps: a chat model is asked for one word, and its state and logits there are a text's two representations."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.batching import in_batches, pad
from retrieval.chat_prompt import ChatPrompt, Rendered, prompt_file
from retrieval.content_words import content_words, function_words
from retrieval.model_files import check_sha256, find_model, load_whole
from retrieval.running import BATCH_TOKENS, Running
from retrieval.sparse_model import SparseModel, refuse_no_terms
from retrieval.types import Dense, Hybrid, Sparse

if TYPE_CHECKING:
    import torch

    Read = Callable[[list[list[int]]], tuple[torch.Tensor, torch.Tensor]]

__all__ = ["PromptReps"]

WORDLESS = 10  # entries of the whole vocabulary that stand for a text without content words
Entries = tuple[np.ndarray, np.ndarray]  # vocabulary ids and weights of a text


class PromptReps:
    """Dense and sparse vectors from one pass of a chat model that is not trained. Zhuang et al. (2024).

    Dense is the last hidden state at the end of the prompt. Sparse weighs the tokens of the text's own words by the
    logits there: 100 log(1 + relu(logit)), rounded.
    """

    def __init__(
        self,
        model: str,
        query_prompt: Path | None = None,
        doc_prompt: Path | None = None,
        max_length: int = 512,
        sparse_terms: int = 128,
        normalize: bool = True,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
    ):
        """A prompt is a file of chat turns around `{text}`; None is the one of encoders/prompts.

        `max_length` cuts the text, and the prompt's tokens come on top. Words beyond the cut still have weights. A text
        without words that carry content has the 10 largest of the whole vocabulary. `batch_tokens` bounds a padded
        batch: by default 1,024 tokens on a processor and 16,384 on a GPU. `dtype`, `revision` and `sha256` are those of
        `transformer`.
        """
        refuse_no_terms(sparse_terms=sparse_terms, max_length=max_length)
        self.model, self.revision, self.sha256 = model, revision, sha256
        self.query_prompt, self.doc_prompt = query_prompt, doc_prompt
        self.max_length, self.sparse_terms, self.normalize = max_length, sparse_terms, normalize
        self.dtype, self.batch_tokens, self.device = dtype, batch_tokens, device
        self._running = Running(dtype, batch_tokens, device, {**BATCH_TOKENS, "cuda": 16384, "mps": 4096})
        self._last: tuple[str, tuple[str, ...], Hybrid] | None = None

    def encode_queries(self, texts: Sequence[str]) -> Hybrid:
        """Vectors float32 [texts, dimensions] and weights float32 [texts, vocabulary]."""
        return self._remembered(texts, self._query, "queries")

    def encode_docs(self, texts: Sequence[str]) -> Hybrid:
        """Vectors float32 [texts, dimensions] and weights float32 [texts, vocabulary]."""
        return self._remembered(texts, self._doc, "documents")

    def query_excess(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each query text are beyond max_length."""
        return [max(0, len(ids) - self.max_length) for ids in self._ids(list(texts), special=False)]

    def vocabulary(self) -> Sequence[str]:
        """The token of each column of the weights."""
        return self._base.vocabulary

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        return {
            "encoder": "promptreps",
            "model": self.model,
            "revision": self.revision,
            **self._base.about(),
            "max_length": self.max_length,
            "dimensions": self._config.hidden_size,
            "normalize": self.normalize,
            "sparse_terms": self.sparse_terms,
            "function words": hashlib.sha256(" ".join(sorted(function_words())).encode()).hexdigest(),
            **self._doc.about(),
            "queries": self._query.about(),
        }

    def provenance(self) -> dict[str, Any]:
        """The contract and the size of batches, for the manifest."""
        return {**self.contract(), **self._running.budget.about()}

    def _remembered(self, texts: Sequence[str], prompt: Rendered, what: str) -> Hybrid:
        """A dense and a sparse retriever side by side ask for the same queries: they are encoded once."""
        asked = tuple(texts)
        last = self._last
        if last is None or last[:2] != (what, asked):
            last = (what, asked, self._encode(asked, prompt, what))
            self._last = last
        return last[2]

    def _encode(self, texts: Sequence[str], prompt: Rendered, what: str) -> Hybrid:
        kinds = list(dict.fromkeys(texts))  # equal texts once: other batches would change the last bits
        tokens, cut = self._tokenize(kinds, prompt)
        words, read = self._word_ids(kinds), self._read  # loaded here: several threads would load it several times

        def encode(part: np.ndarray) -> tuple[np.ndarray, list[Entries]]:
            states, logits = read([tokens[i] for i in part])
            finite = states.isfinite().all(1) & logits.isfinite().all(1)
            if not bool(finite.all()):
                text = kinds[int(part[int(finite.int().argmin())])]
                raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {text[:60]!r}")
            return states.cpu().numpy(), _entries(logits, [words[i] for i in part], self.sparse_terms)

        vectors = np.zeros((len(kinds), self._config.hidden_size), np.float32)
        entries: list[Entries] = [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(kinds)
        device, lengths = self._running.device.type, [len(ids) for ids in tokens]
        for part, (states, found) in in_batches(encode, lengths, self._running.budget, device, what):
            vectors[part] = states / np.linalg.norm(states, axis=1, keepdims=True) if self.normalize else states
            for i, one in zip(part, found, strict=True):
                entries[i] = one
        place = {text: i for i, text in enumerate(kinds)}
        places = np.array([place[text] for text in texts], int)
        truncated = sum(cut[i] for i in places)
        return Hybrid(Dense(vectors[places], truncated), Sparse(_matrix(entries, self._base.width)[places], truncated))

    def _tokenize(self, texts: list[str], prompt: Rendered) -> tuple[list[list[int]], list[bool]]:
        """The tokens of prompt and text, and whether the text was cut."""
        before, after = self._ids([prompt.before, prompt.after], special=True)
        around, positions = len(before) + len(after), self._config.max_position_embeddings
        if self.max_length + around > positions:
            raise ValueError(
                f"max_length {self.max_length} and {around} tokens of {prompt.name} are more than the {positions} that "
                f"{self.model} takes: lower max_length to at most {positions - around}"
            )
        inside = self._ids(texts, special=False)
        cut = [len(ids) > self.max_length for ids in inside]
        return [before + ids[: self.max_length] + after for ids in inside], cut

    def _ids(self, texts: list[str], special: bool) -> list[list[int]]:
        """Token ids without those that a tokenizer adds; `special`: control tokens are read as such, not as text."""
        if not texts:
            return []
        return self._base.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=not special, verbose=False
        ).input_ids

    def _word_ids(self, texts: list[str]) -> list[np.ndarray]:
        """The ids int32 of each text's words, each word on its own; sorted, each once."""
        words = content_words(texts)
        forms = list(dict.fromkeys(word for one in words for word in one))
        ids = dict(zip(forms, self._ids(forms, special=False), strict=True))
        return [np.unique(np.array([i for word in one for i in ids[word]], np.int32)) for one in words]

    @cached_property
    def _base(self) -> SparseModel:
        folder = find_model(self.model, self.revision)
        return SparseModel(folder, None, self.dtype, self.batch_tokens, self.device)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._base.folder)

    @cached_property
    def _query(self) -> Rendered:
        return self._prompt(self.query_prompt, "query")

    @cached_property
    def _doc(self) -> Rendered:
        return self._prompt(self.doc_prompt, "passage")

    def _prompt(self, named: Path | None, label: str) -> Rendered:
        path = prompt_file("retrieval.encoders", f"promptreps-{label}", named)
        return ChatPrompt.read(path).render(self._base.tokenizer, self.model)

    @cached_property
    def _read(self) -> Read:
        """The model, loaded when first used: prompts to states and logits at their last token."""
        import torch

        folder = self._base.folder
        check_sha256(folder / "model.safetensors", self.sha256)
        device = self._running.device
        model = load_whole("AutoModelForCausalLM", folder, self._base.torch_dtype).to(device)
        here = threading.local()  # a processor reads a batch per core at a time

        def only_last(_: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            here.states = inputs[0][torch.arange(len(here.ends), device=device), here.ends][:, None]
            return (here.states,)  # so that logits [texts, tokens, vocabulary] are never made

        model.get_output_embeddings().register_forward_pre_hook(only_last)

        def read(tokens: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
            here.ends = torch.tensor([len(ids) - 1 for ids in tokens], device=device)
            with torch.inference_mode():
                logits = model(**_padded(tokens, device), use_cache=False).logits
                return here.states[:, 0].float(), logits[:, 0].float()

        return read


def _padded(tokens: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Padding is on the right, where no token that counts can see it; a full batch has no mask, which is faster."""
    import torch

    ids, mask = (torch.from_numpy(part).to(device) for part in pad(tokens, 0))
    return {"input_ids": ids} if bool(mask.all()) else {"input_ids": ids, "attention_mask": mask}


def _entries(logits: torch.Tensor, words: list[np.ndarray], terms: int) -> list[Entries]:
    """The entries of each text: of its words' ids, or of the whole vocabulary where it has none."""
    import torch

    counts = [len(ids) for ids in words]
    rows = torch.tensor(np.repeat(np.arange(len(words)), counts), device=logits.device)
    columns = torch.tensor(np.concatenate(words), dtype=torch.long, device=logits.device)
    picked = np.split(logits[rows, columns].cpu().numpy(), np.cumsum(counts)[:-1])
    found = []
    for row, (ids, values) in enumerate(zip(words, picked, strict=True)):
        if not len(ids):
            values = logits[row].cpu().numpy()
            ids, limit = np.arange(len(values), dtype=np.int32), WORDLESS
        else:
            limit = terms
        found.append(_best(ids, values, limit))
    return found


def _best(ids: np.ndarray, logits: np.ndarray, terms: int) -> Entries:
    """The ids, ascending, with the largest logits, ties by lower id, and their weights; what weighs 0 is left out."""
    best = np.sort(np.lexsort((ids, -logits))[:terms])
    weights = _weights(logits[best])
    return ids[best][weights > 0], weights[weights > 0]


def _weights(logits: np.ndarray) -> np.ndarray:
    """Whole numbers in float32: 100 log(1 + relu(logit)), half to even."""
    return np.rint(100 * np.log1p(np.maximum(logits.astype(np.float64), 0))).astype(np.float32)


def _matrix(entries: list[Entries], width: int) -> Any:
    from scipy.sparse import csr_array

    ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in entries)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in entries)])
    offsets = np.cumsum([0, *(len(ids) for ids, _ in entries)], dtype=np.int32)
    return csr_array((weights, ids, offsets), shape=(len(entries), width))
