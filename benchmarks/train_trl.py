"""The peer: the same training by TRL's `SFTTrainer`, set up as its documentation says is best for this case.

Tokenized rows with labels (documented for `train_dataset`), so that the same tokens carry loss; its default
loss, which in TRL 1.16 never builds the whole logits; no gradient checkpointing, fp32, no saving, no trackers.
"""

# TRL is installed in an environment of its own, and datasets brings no types.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from train_settings import Settings, step_done, write_result
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class _Announce(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step_done(state.global_step, state.max_steps)


def main() -> None:
    """Train and report."""
    options = _parser().parse_args()
    settings = Settings.read(options.settings)
    trainer = _trainer(settings)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    write_result(options.result, losses=losses, threads=torch.get_num_threads())


def _trainer(settings: Settings) -> Any:
    torch.manual_seed(settings.seed)
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32),
        args=_config(settings),
        train_dataset=Dataset.from_list(settings.samples()),
        processing_class=AutoTokenizer.from_pretrained(settings.model),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules="all-linear",
        ),
        callbacks=[_Announce()],
    )


def _config(settings: Settings) -> Any:
    return SFTConfig(
        output_dir=str(Path(settings.tokens).parent / "trl"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        max_length=settings.length,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, help="JSON file with the shared settings")
    parser.add_argument("result", type=Path, help="JSON file to write")
    return parser


if __name__ == "__main__":
    main()
