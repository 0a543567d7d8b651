"""A toy model with random adapters, and what losses are compared with: whole logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tunec.runtime import models
from tunec.runtime.data.batches import collate
from tunec.runtime.data.samples import IGNORED, Sample

VOCABULARY = 57


def llama(*, tied: bool, kind: str = "full", **config: Any) -> Any:
    """Return a tiny model ready to train, with random adapters for LoRA so that B is not zero."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=tied,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
            **config,
        )
    )
    if kind == "full":
        return models.train_all(model)
    targets = {"lora": ["q_proj", "down_proj"], "lora-head": ["q_proj", "lm_head"]}[kind]
    adapted = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=targets)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return adapted


def samples(*lengths: int) -> list[Sample]:
    """Return samples whose first third is a prompt."""
    generator = torch.Generator().manual_seed(7)
    rows = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        prompt = length // 3
        rows.append(Sample(ids, [IGNORED] * prompt + ids[prompt:]))
    return rows


def batch_of(rows: list[Sample]) -> dict[str, Tensor]:
    """Return a padded batch."""
    return collate(rows, pad_token_id=2)


def naive(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the summed loss by whole logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
    )


def trained(model: Any) -> list[Tensor]:
    """Return the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Widths(TorchDispatchMode):
    """Records the largest number of rows of a result that is as wide as the vocabulary."""

    def __init__(self) -> None:
        """Start with none seen."""
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what comes out."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.t.default:
            return result  # the weight seen from its other side
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor) and value.dim() and value.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, value.numel() // VOCABULARY)
        return result
