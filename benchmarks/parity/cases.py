"""What both sides compute: one tiny model with an adapter, two batches of token ids, and the cases.

A side is a script that reads the folder that `write` makes and writes one JSON object: for each of its cases a
mapping of names to a number or a list of numbers. `compare.py` runs the sides and prints their differences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 211
IGNORED = -100
BETA = 0.3

PREFERENCES: Mapping[str, Mapping[str, Any]] = {
    # Name -> the batch, and settings in words of the spec.
    "dpo sigmoid": {"batch": "uneven", "loss": "sigmoid"},
    "dpo hinge": {"batch": "uneven", "loss": "hinge"},
    "dpo ipo": {"batch": "uneven", "loss": "ipo"},
    "dpo robust 0.2": {"batch": "uneven", "loss": "robust", "label_smoothing": 0.2},
    # Here TRL has no mean of rewards: the same as ours before the first step.
    "dpo bco, no shift": {"batch": "uneven", "loss": "bco"},
    "dpo ld_alpha 0.4": {"batch": "uneven", "loss": "sigmoid", "ld_alpha": 0.4},
    "dpo ld_alpha 0.4 ipo": {"batch": "uneven", "loss": "ipo", "ld_alpha": 0.4},
    # TRL takes the mean over all tokens of a batch: the same where answers are equally long.
    "dpo sft_weight 0.7": {"batch": "even", "loss": "sigmoid", "sft_weight": 0.7},
    "kto": {"batch": "judged", "desirable_weight": 1.5, "undesirable_weight": 0.8},
    "simpo gamma 0.5": {"batch": "uneven", "objective": "simpo", "gamma": 0.5},
    "simpo smoothed 0.1": {"batch": "uneven", "objective": "simpo", "gamma": 0.5, "label_smoothing": 0.1},
    "cpo": {"batch": "even", "objective": "cpo"},
    "cpo smoothed 0.1": {"batch": "even", "objective": "cpo", "label_smoothing": 0.1},
    # TRL's SFT loss counts the prompt as well: prompts of one token have nothing to count.
    "orpo": {"batch": "even", "objective": "orpo"},
}  # fmt: skip

LENGTHS = {
    # Tokens of the prompt, of the chosen and of the rejected answer.
    "uneven": ((3, 9, 4), (1, 4, 12), (8, 2, 5), (5, 7, 7)),
    "even": ((1, 6, 4), (1, 6, 9), (1, 6, 2), (1, 6, 7)),
    "judged": ((3, 9, 7), (1, 4, 9), (8, 7, 4), (5, 7, 7)),
}
LABELS = (True, False, True, True)
"""Which answers of `judged` are good; its rejected ones stand for answers to other prompts."""


def write(folder: Path) -> None:
    """Write the model, an adapter that is not zero, and the batches."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    adapted = get_peft_model(model, lora(LoraConfig))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(folder / "adapter")
    batches = {name: _pairs(lengths) for name, lengths in LENGTHS.items()}
    (folder / "batches.json").write_text(json.dumps(batches))


def lora(config: Any) -> Any:
    """Return the configuration of the adapter."""
    return config(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")


def _pairs(lengths: Sequence[tuple[int, int, int]]) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(5)
    return [
        {
            name: torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
            for name, length in zip(("prompt", "chosen", "rejected"), three, strict=True)
        }
        for three in lengths
    ]


def read_batch(folder: Path, name: str) -> list[dict[str, list[int]]]:
    """Return a batch: token ids of prompts, chosen and rejected answers."""
    found: list[dict[str, list[int]]] = json.loads((folder / "batches.json").read_text())[name]
    return found


def trained(model: Any) -> dict[str, Tensor]:
    """Return the parameters of the adapter by name, in one order."""
    return {
        name: parameter
        for name, parameter in sorted(model.named_parameters())
        if parameter.requires_grad
    }


def measured(loss: Tensor, model: Any, **values: Any) -> dict[str, Any]:
    """Return the loss, its gradients and further values as plain data."""
    model.zero_grad()
    torch.autograd.backward(loss)
    found = {"loss": float(loss.detach()), **{name: float(value) for name, value in values.items()}}
    gradients = [
        parameter.grad.flatten()
        for parameter in trained(model).values()
        if parameter.grad is not None
    ]
    return {**found, "gradients": torch.cat(gradients).tolist()}
