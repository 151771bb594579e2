"""A language model learns from preference pairs: DPO, or the chosen text alone, with trl and a LoRA of peft."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from retrieval.files import whole_folder
from training.preference import Preference

__all__ = ["RewriterTrainer"]


class RewriterTrainer:
    """Trains a LoRA on preference pairs. DPO, Rafailov et al. (2023); SFT on the best of n, Kachuee et al. (2025).

    DPO's loss is -log sigmoid(beta ((log pi(c) - log ref(c)) - (log pi(r) - log ref(r)))), the log-probabilities summed
    over the tokens of the answer. The reference is the model that training begins with.
    """

    def __init__(
        self,
        objective: Literal["dpo", "sft"] = "dpo",
        beta: float | None = None,
        steps: int | None = None,
        epochs: float = 1.0,
        batch_size: int = 8,
        accumulate: int = 1,
        learning_rate: float = 1e-5,
        rank: int = 16,
        targets: str | list[str] = "all-linear",
        precision: Literal["float32", "bfloat16"] = "float32",
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ):
        """`sft` learns the chosen texts and takes no `beta`; None is 0.1 for `dpo`.

        `steps` None is as many as `epochs` take. `batch_size` is of one step, `accumulate` over how many passes it is
        spread. `rank` is the LoRA's, whose alpha is twice that, and `targets` the layers it stands beside, by peft's
        names; an adapter that is trained on keeps its own. `precision` is that of the base's weights too. Raises
        ModuleNotFoundError without trl.
        """
        beta = _beta(objective, beta)
        if learning_rate <= 0 or epochs <= 0 or rank < 1 or (steps is not None and steps < 1):
            raise ValueError(
                "learning_rate and epochs are above 0, rank and steps at least 1, "
                f"not {learning_rate}, {epochs}, {rank} and {steps}"
            )
        if batch_size < 1 or accumulate < 1 or batch_size % accumulate:
            raise ValueError(f"batch_size {batch_size} does not divide into {accumulate} passes")
        if importlib.util.find_spec("trl") is None:
            raise ModuleNotFoundError("preference training needs trl: pip install trl, or the extra `preference`")
        self.objective, self.beta, self.steps, self.epochs = objective, beta, steps, epochs
        self.batch_size, self.accumulate, self.learning_rate = batch_size, accumulate, learning_rate
        self.rank, self.targets, self.seed = rank, targets, seed
        self.precision, self.gradient_checkpointing = precision, gradient_checkpointing

    def train(self, generator: Any, pairs: Sequence[Preference], folder: Path) -> dict[str, Any]:
        """Write the adapter that the pairs make of a generator's model into `folder`; the figures of its training.

        `generator` has a contract, and names model, revision, adapter and template_options, as `transformers` does; its
        adapter, a LoRA, is trained on. A folder of an earlier training with the same pairs is left as it is; one of
        another raises ValueError. A training that was interrupted begins again: nothing lies in `folder` before it has
        ended. Raises FloatingPointError, with the queries of the batch, for a loss or gradient that is not finite.
        """
        made_of = self._made_of(generator, pairs)
        done = folder / "training.json"
        if done.is_file():
            kept = json.loads(done.read_text(encoding="utf-8"))
            _refuse_other(folder, kept["made of"], json.loads(json.dumps(made_of)))
            return kept["figures"]
        if not pairs:
            raise ValueError("there is no pair to train on: more samples, or a higher temperature, make more of them")
        with whole_folder(folder) as part:
            figures = self._trained(generator, pairs, part)
            about = {"made of": made_of, "figures": figures}
            (part / "training.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return figures

    def _made_of(self, generator: Any, pairs: Sequence[Preference]) -> dict[str, Any]:
        said = json.dumps([asdict(one) for one in pairs], sort_keys=True)
        digest = hashlib.sha256(said.encode()).hexdigest()
        return {"trainer": vars(self), "generator": dict(generator.contract()), "pairs": digest}

    def _trained(self, generator: Any, pairs: Sequence[Preference], part: Path) -> dict[str, Any]:
        import torch
        from datasets import Dataset

        from retrieval.model_files import find_model, has_weights, load_whole

        base = has_weights(find_model(generator.model, generator.revision))
        reader = _reader(base, generator)
        data = Dataset.from_list([self._example(one, reader) for one in pairs])
        model = load_whole("AutoModelForCausalLM", base, getattr(torch, self.precision))
        trainer = self._loop(_wearing(model, generator.adapter), reader.tokenizer, data, part)
        seen = _Seen(trainer.data_collator)
        trainer.data_collator = seen
        trainer.add_callback(_stop_at_nan(seen, self.accumulate, len(trainer.get_train_dataloader())))
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"out of memory with {self.batch_size // self.accumulate} pairs at a time: raise accumulate to "
                f"{2 * self.accumulate}, or set gradient_checkpointing"
            ) from error
        steps = [line for line in trainer.state.log_history if "loss" in line]
        (part / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps), encoding="utf-8")
        after = trainer.evaluate()
        trainer.model.save_pretrained(str(part), selected_adapters=["default"], safe_serialization=True)
        names = {"eval_loss": "loss", "eval_rewards/accuracies": "accuracy", "eval_rewards/margins": "margin"}
        figures = {name: float(after[key]) for key, name in names.items() if key in after}
        return {"pairs": len(pairs), "steps": trainer.state.global_step, **figures}

    def _example(self, one: Preference, reader: Any) -> dict[str, Any]:
        """A pair as trl takes it.

        Raises ValueError where an answer's prompt would not be the one it is asked by, or DPO has no rejected text.
        """
        from retrieval.chat_prompt import DATE
        from retrieval.sampling import Request

        options = {"date_string": DATE, **reader.options}
        turns = [dict(turn) for turn in one.messages]
        if self.objective == "dpo" and one.rejected is None:
            raise ValueError(f"the pair of query {one.query_id} has no rejected text, which dpo needs")
        learned = ("chosen", "rejected") if self.objective == "dpo" else ("chosen",)
        answers = {name: [{"role": "assistant", "content": getattr(one, name)}] for name in learned}
        prompt = reader.read(Request(turns))
        for answer in answers.values():
            whole = reader.tokenizer.apply_chat_template(turns + answer, tokenize=False, **options)
            if prompt.failure or not whole.startswith(prompt.text):
                raise ValueError(
                    f"the chat template of {reader.model} writes another prompt before an answer than it asks for one "
                    f"with ({prompt.failure or repr(prompt.text[-40:])}): set its template_options, such as "
                    "{enable_thinking: false}"
                )
        named = answers if self.objective == "dpo" else {"completion": answers["chosen"]}
        return {"prompt": turns, **named, "chat_template_kwargs": options, "query_id": one.query_id}

    def _loop(self, model: Any, tokenizer: Any, data: Any, part: Path) -> Any:
        """trl's trainer. The pairs that it learns are those it is measured on afterwards."""
        import peft
        import trl
        from transformers import PrinterCallback

        lora = peft.LoraConfig(
            task_type="CAUSAL_LM", r=self.rank, lora_alpha=2 * self.rank, target_modules=self.targets, lora_dropout=0.0
        )
        made = trl.DPOTrainer if self.objective == "dpo" else trl.SFTTrainer
        trainer = made(
            model=model,
            args=self._arguments(part),
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
            peft_config=None if isinstance(model, peft.PeftModel) else lora,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _arguments(self, part: Path) -> Any:
        import torch
        import trl

        own = {"beta": self.beta} if self.objective == "dpo" else {"completion_only_loss": True}
        made = trl.DPOConfig if self.objective == "dpo" else trl.SFTConfig
        return made(
            output_dir=str(part),
            max_steps=self.steps or -1,
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size // self.accumulate,
            per_device_eval_batch_size=1,  # its figures are means of those of batches, which may differ in size
            gradient_accumulation_steps=self.accumulate,
            learning_rate=self.learning_rate,
            gradient_checkpointing=self.gradient_checkpointing,
            bf16=self.precision == "bfloat16",
            use_cpu=not torch.accelerator.is_available(),
            max_length=None,  # a prompt that is too long was no answer, so nothing is cut
            seed=self.seed,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,  # the ids of the queries, for a batch that fails
            **own,
        )


class _Seen:
    """A collator that notes which queries each batch is of; batches may be fetched before they are needed."""

    def __init__(self, collator: Any):
        self.collator, self.batches = collator, list[list[str]]()

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.batches.append([one["query_id"] for one in examples])
        return self.collator(examples)


def _stop_at_nan(seen: _Seen, accumulate: int, passes: int) -> Any:
    """Raises where a loss or gradient is not finite; an epoch has so many `passes`, and its last step what is left."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            wrong = [name for name in ("loss", "grad_norm") if not math.isfinite((logs or {}).get(name, 0.0))]
            if wrong:
                epoch, step = divmod(state.global_step - 1, math.ceil(passes / accumulate))
                first, last = step * accumulate, min((step + 1) * accumulate, passes)
                batches = seen.batches[epoch * passes + first : epoch * passes + last]
                queries = ", ".join(query for batch in batches for query in batch)
                raise FloatingPointError(
                    f"the {wrong[0]} is {logs[wrong[0]]} at step {state.global_step}, in a batch of the queries "
                    f"{queries}: a lower learning_rate may help"
                )

    return Stop()


def _beta(objective: str, beta: float | None) -> float | None:
    """DPO's beta; SFT has none. Raises ValueError for an objective that is neither, and a beta that cannot be."""
    if objective not in ("dpo", "sft"):
        raise ValueError(f'objective is "dpo" or "sft", not {objective!r}')
    if objective == "sft":
        if beta is not None:
            raise ValueError(f"beta is {beta}, and sft has no use for it: leave it out, or take objective: dpo")
        return None
    if beta is not None and beta <= 0:
        raise ValueError(f"beta is {beta}; it is above 0")
    return 0.1 if beta is None else beta


def _reader(base: Path, generator: Any) -> Any:
    """What renders the chats as the generator does. Raises ValueError for a model without a chat template."""
    from retrieval.prompt_tokens import PromptReader, dated

    reader = PromptReader(base, generator.model, generator.template_options)
    if not reader.tokenizer.chat_template:
        raise ValueError(f"{generator.model} has no chat template: take a chat model")
    reader.tokenizer.chat_template = dated(reader.tokenizer.get_chat_template())
    return reader


def _wearing(model: Any, adapter: str | None) -> Any:
    """The model with the adapter that is trained on. Raises ValueError for one that is no LoRA, or of another model."""
    if adapter is None:
        return model
    import peft
    from safetensors.torch import load_file

    from retrieval.adapters import find_adapter, learns_prompt

    folder = find_adapter(adapter)
    if learns_prompt(adapter):
        raise ValueError(f"adapter {adapter} is a soft prompt: preference training goes on with a LoRA, or from none")
    worn = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True, torch_device="cpu")
    stray = sorted({*peft.get_peft_model_state_dict(worn)} ^ {*load_file(folder / "adapter_model.safetensors")})
    if stray:
        raise ValueError(f"the adapter {folder} is of another model: {stray[0]} is on one side only")
    return worn


def _refuse_other(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError where what was trained there was made of something else."""
    differing = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if differing:
        shown = "; ".join(f"{key} was {then.get(key)}, is {now.get(key)}" for key in differing)
        raise ValueError(f"{folder} holds an adapter of another training ({shown}): use another folder, or delete it")
