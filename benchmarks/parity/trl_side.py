"""TRL's side: every case by its own trainers, one call of their loss on the same tokens.

/tmp/venv-trl/bin/python benchmarks/parity/trl_side.py FOLDER OUT.json
"""

# mypy finds the peer nowhere.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from cases import BETA, IGNORED, LABELS, PREFERENCES, lora, measured, read_batch
from datasets import Dataset
from online_trl import online
from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
from reward_trl import rewards
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

NAMES = {
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "chosen_log_prob",
    "logps/rejected": "rejected_log_prob",
    "kl": "kl",
}
KINDS = {
    "sigmoid": ["sigmoid"],
    "hinge": ["hinge"],
    "ipo": ["ipo"],
    "robust": ["robust"],
    "bco": ["bco_pair"],
}


def main(folder: Path, out: Path) -> None:
    """Compute all cases."""
    found = {}
    for case, settings in PREFERENCES.items():
        rows = read_batch(folder, settings["batch"])
        if settings["batch"] == "judged":
            found[case] = kto(folder, rows, settings)
        elif "objective" in settings:
            found[case] = reference_free(folder, rows, settings)
        else:
            found[case] = dpo(folder, rows, settings)
    out.write_text(json.dumps({**found, **rewards(folder, tokenizer()), **online(folder, made)}))


def dpo(folder: Path, rows: list[Any], settings: Any) -> dict[str, Any]:
    """Return what `DPOTrainer` computes."""
    kinds, weights = list(KINDS[settings["loss"]]), [1.0]
    if "sft_weight" in settings:
        kinds, weights = [*kinds, "sft"], [1.0, settings["sft_weight"]]
    more = {name: settings[name] for name in ("label_smoothing", "ld_alpha") if name in settings}
    trainer = made(DPOTrainer, DPOConfig, folder, loss_type=kinds, loss_weights=weights, **more)
    inputs = padded([row["prompt"] for row in rows] * 2, answers(rows))
    loss = trainer._compute_loss(trainer.model, inputs, False)
    found = metrics(trainer)
    if settings["loss"] == "ipo":
        # Our rewards of IPO are what its loss compares, means over tokens.
        found = {name: value for name, value in found.items() if "log_prob" in name}
    return measured(loss, trainer.model, **found)


def kto(folder: Path, rows: list[Any], settings: Any) -> dict[str, Any]:
    """Return what `KTOTrainer` computes."""
    weights = {name: settings[name] for name in ("desirable_weight", "undesirable_weight")}
    trainer = made(KTOTrainer, KTOConfig, folder, train_sampling_strategy="sequential", **weights)
    prompts = [row["prompt"] for row in rows]
    own, others = (padded(prompts, [row[side] for row in rows]) for side in ("chosen", "rejected"))
    inputs = {**own, **{f"KL_{name}": value for name, value in others.items()}, "label": torch.tensor(LABELS)}  # fmt: skip
    loss = trainer._compute_loss(trainer.model, inputs, False)
    return measured(loss, trainer.model, **metrics(trainer))


def reference_free(folder: Path, rows: list[Any], settings: Any) -> dict[str, Any]:
    """Return what `CPOTrainer` or `ORPOTrainer` computes."""
    if settings["objective"] == "orpo":
        trainer = made(ORPOTrainer, ORPOConfig, folder)
    else:
        more: dict[str, Any] = {"label_smoothing": settings.get("label_smoothing", 0.0)}
        if settings["objective"] == "simpo":
            more |= {"loss_type": "simpo", "simpo_gamma": settings["gamma"], "cpo_alpha": 0.0}
        trainer = made(CPOTrainer, CPOConfig, folder, **more)
    batch: dict[str, Tensor] = {}
    for side in ("chosen", "rejected"):
        found = padded([row["prompt"] for row in rows], [row[side] for row in rows])
        mask = found["completion_mask"]
        batch[f"{side}_input_ids"] = found["input_ids"]
        batch[f"{side}_attention_mask"] = found["attention_mask"]
        batch[f"{side}_labels"] = found["input_ids"].masked_fill(mask == 0, IGNORED)
    loss, found_metrics = trainer.get_batch_loss_metrics(trainer.model, batch)
    values = {
        ours: found_metrics[theirs] for theirs, ours in NAMES.items() if theirs in found_metrics
    }
    if settings["objective"] in ("simpo", "orpo"):
        # These are means over tokens here, sums on our side; the rewards are of the same means.
        del values["chosen_log_prob"], values["rejected_log_prob"]
    return measured(loss, trainer.model, **values)


def made(trainer: Any, config: Any, folder: Path, **settings: Any) -> Any:
    """Return a trainer around the model, with the weights of the adapter in one of its own making."""
    turns = {"prompt": ["q", "q"]}
    data: dict[str, list[Any]] = {**turns, "chosen": ["a", "b"], "rejected": ["c", "d"]}
    if trainer is KTOTrainer:
        data = {**turns, "completion": ["a", "b"], "label": [True, False]}
    own = {"reward_funcs": settings.pop("reward_funcs")} if "reward_funcs" in settings else {}
    common = {
        "output_dir": tempfile.mkdtemp(), "use_cpu": True, "bf16": False, "report_to": "none", "beta": BETA,
        "per_device_train_batch_size": 2, "gradient_checkpointing": False,
    }  # fmt: skip
    args = config(**{**common, **settings})
    found = trainer(
        model=LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=args,
        **own,
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer(),
        peft_config=lora(LoraConfig),
    )
    set_peft_model_state_dict(found.model, load_peft_weights(str(folder / "adapter")))
    found.model.train()
    return found


def tokenizer() -> Any:
    """Return a tokenizer of a few letters: the trainers want one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["<s>", "</s>", "<p>", *"abcdq"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<p>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<p>"
    )


def answers(rows: list[Any]) -> list[list[int]]:
    """Return the chosen answers, then the rejected ones."""
    return [row[side] for side in ("chosen", "rejected") for row in rows]


def padded(prompts: list[list[int]], found: list[list[int]]) -> dict[str, Tensor]:
    """Return the tensors of a batch, padded on the right."""
    longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, found, strict=True))
    batch = {
        "input_ids": torch.full((len(prompts), longest), 2),
        "attention_mask": torch.zeros((len(prompts), longest), dtype=torch.long),
        "completion_mask": torch.zeros((len(prompts), longest), dtype=torch.long),
    }
    for row, (prompt, answer) in enumerate(zip(prompts, found, strict=True)):
        end = len(prompt) + len(answer)
        batch["input_ids"][row, :end] = torch.tensor([*prompt, *answer])
        batch["attention_mask"][row, :end] = 1
        batch["completion_mask"][row, len(prompt) : end] = 1
    return batch


def metrics(trainer: Any) -> dict[str, float]:
    """Return what the trainer noted, under our names."""
    noted = trainer._metrics["train"]
    return {ours: noted[theirs][-1] for theirs, ours in NAMES.items() if noted.get(theirs)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
