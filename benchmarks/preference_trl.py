"""The peer: the same pairs by TRL's `DPOTrainer`, set up as its documentation says is best for this case.

Tokenized pairs, so that the same tokens count; its default log-probabilities, which in TRL 1.16 never build the whole
logits; no gradient checkpointing, fp32, no saving, no trackers.
"""

# TRL is installed in an environment of its own, and datasets brings no types.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from train_settings import step_done, write_result
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

RANK = 8


class _Announce(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step_done(state.global_step, state.max_steps)


class _Tokenized(DPOTrainer):  # type: ignore[misc]
    """Takes pairs of tokens as they are."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def main() -> None:
    """Train and report."""
    options = _parser().parse_args()
    rows = json.loads((options.folder / "tokens.json").read_text(encoding="utf-8"))
    torch.manual_seed(42)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"
    )
    trainer = _Tokenized(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(options.folder / "trl"),
            max_steps=len(rows) // options.pairs,
            per_device_train_batch_size=options.pairs,
            max_length=None,
            learning_rate=options.rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            seed=42,
            precompute_ref_log_probs=options.precomputed,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_steps=1,
            disable_tqdm=True,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(options.model),
        peft_config=lora if options.method == "lora" else None,
        callbacks=[_Announce()],
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    write_result(options.folder / "result.json", losses=losses, threads=torch.get_num_threads())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with tokens.json; the result goes there")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--method", choices=("lora", "full"), required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--precomputed", action="store_true")
    return parser


if __name__ == "__main__":
    main()
