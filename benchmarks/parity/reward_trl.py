"""TRL's side of reward models, by its `RewardTrainer`."""

# mypy finds the peer nowhere.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cases import measured, read_batch
from datasets import Dataset
from reward_cases import REWARDS, scorer
from trl import RewardConfig, RewardTrainer

NAMES = {"accuracy": "accuracy", "margin": "margin", "mean_reward": "mean_score"}


def rewards(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Return what every case computes."""
    return {case: _reward(folder, tokenizer, **settings) for case, settings in REWARDS.items()}


def _reward(
    folder: Path, tokenizer: Any, margins: tuple[float, ...] = (), center: float | None = None
) -> dict[str, Any]:
    rows = []
    for number, row in enumerate(read_batch(folder, "uneven")):
        ids = {f"{side}_ids": [*row["prompt"], *row[side]] for side in ("chosen", "rejected")}
        rows.append({**ids, **({"margin": margins[number]} if margins else {})})
    args = RewardConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, center_rewards_coefficient=center, disable_dropout=True,
    )  # fmt: skip
    trainer = RewardTrainer(
        model=scorer(folder), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )  # fmt: skip
    trainer.model.train()
    inputs = trainer.data_collator(rows)
    loss = trainer.compute_loss(trainer.model, inputs)
    noted = trainer._metrics["train"]
    return measured(loss, trainer.model, **{ours: noted[name][-1] for name, ours in NAMES.items()})
