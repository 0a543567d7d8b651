"""The limit: LoRA fine-tuning as a bare torch loop, with nothing in it that the arithmetic does not need.

`--head full` is what a textbook loop does: the model's own loss over the logits of every position.
`--head kept` applies the head only where a token carries loss, which is all that the result depends on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from train_settings import Settings, step_done, write_result
from transformers import AutoModelForCausalLM

IGNORED = -100


def main() -> None:
    """Train and report."""
    options = _parser().parse_args()
    settings = Settings.read(options.settings)
    loss_of = {"full": _full_loss, "kept": _kept_loss}[options.head]
    losses = train(settings, load(settings), loss_of)
    write_result(options.result, losses=losses, threads=torch.get_num_threads())


def load(settings: Settings) -> Any:
    """Return the model with adapters that start from the same random numbers as tunec's."""
    torch.manual_seed(settings.seed)
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
    )
    return get_peft_model(model, config).train()


def train(settings: Settings, model: Any, loss_of: Any) -> list[float]:
    """Return the loss of each step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True
    )
    losses: list[float] = []
    for step, batch in enumerate(_batches(settings), start=1):
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        step_done(step, settings.steps, f"loss {losses[-1]:.4f}")
    return losses


def _full_loss(model: Any, batch: dict[str, Tensor]) -> Any:
    return model(**batch, use_cache=False).loss


def _kept_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    targets = batch["labels"][:, 1:]
    kept = targets != IGNORED
    causal = model.get_base_model()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = causal.model(**inputs, use_cache=False).last_hidden_state
    return functional.cross_entropy(causal.lm_head(hidden[:, :-1][kept]), targets[kept])


def _batches(settings: Settings) -> Iterator[dict[str, Tensor]]:
    samples = settings.samples()
    for start in range(0, len(samples), settings.batch_size):
        rows = samples[start : start + settings.batch_size]
        input_ids = torch.tensor([row["input_ids"] for row in rows])
        labels = torch.tensor([row["labels"] for row in rows])
        mask = torch.ones_like(input_ids)
        yield {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, help="JSON file with the shared settings")
    parser.add_argument("result", type=Path, help="JSON file to write")
    parser.add_argument("--head", choices=["full", "kept"], default="full", help="default: full")
    return parser


if __name__ == "__main__":
    main()
