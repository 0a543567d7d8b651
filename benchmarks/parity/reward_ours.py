"""Our side of reward models."""

# The scripts of this folder are no package.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from cases import measured, read_batch
from reward_cases import REWARDS, scorer

from tunec.runtime.data.layouts import Collator
from tunec.runtime.data.samples import Sample
from tunec.runtime.objectives import RewardModel

NAMES = ("accuracy", "margin", "mean_score")


def rewards(folder: Path) -> dict[str, Any]:
    """Return what every case computes."""
    return {case: _reward(folder, **settings) for case, settings in REWARDS.items()}


def _reward(folder: Path, margins: tuple[float, ...] = (), center: float = 0.0) -> dict[str, Any]:
    model, objective = scorer(folder).train(), RewardModel(center=center)
    objective.attach(model)
    samples = []
    for number, row in enumerate(read_batch(folder, "uneven")):
        chosen, rejected = ([*row["prompt"], *row[side]] for side in ("chosen", "rejected"))
        value = margins[number] if margins else None
        samples.append(Sample(chosen, chosen, rejected=Sample(rejected, rejected), value=value))
    batch = Collator(pad_token_id=2)(samples)
    loss = objective.loss_sum(model, batch) / objective.num_items(batch)
    means = objective.tally.means(objective.tally.take(torch.device("cpu")))
    means["mean_score"] = (means["chosen_score"] + means["rejected_score"]) / 2
    return measured(loss, model, **{name: means[name] for name in NAMES})
