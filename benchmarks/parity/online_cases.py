"""GRPO's cases: the answers of a batch as two groups a prompt, with log-probabilities from before and of a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import read_batch
from torch import Tensor

LONGEST = 16
TEMPERATURE = 0.8
CLIP_LOW, CLIP_HIGH, KL = 0.1, 0.25, 0.2

GRPO: Mapping[str, Mapping[str, Any]] = {
    # Name -> our kind of loss, and TRL's settings for it.
    "grpo": {"loss": "grpo", "trl": {"loss_type": "grpo"}},
    "grpo dr-grpo": {"loss": "dr-grpo", "trl": {"loss_type": "dr_grpo", "scale_rewards": "none"}},
    "grpo dapo": {"loss": "dapo", "trl": {"loss_type": "dapo"}},
    "grpo gspo": {"loss": "gspo", "trl": {"loss_type": "grpo", "importance_sampling_level": "sequence"}},
}  # fmt: skip


def answered(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts and answers, two to each prompt."""
    rows = read_batch(folder, "uneven")
    prompts = [row["prompt"] for row in rows for _ in range(2)]
    return prompts, [row[side] for row in rows for side in ("chosen", "rejected")]


def known(answers: Sequence[Sequence[int]]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return rewards, and the log-probabilities of the tokens before and by a reference."""
    generator = torch.Generator().manual_seed(11)
    rewards = torch.randn(len(answers), generator=generator)
    earlier, reference = (
        [-5 + 0.5 * torch.randn(len(answer), generator=generator) for answer in answers]
        for _ in range(2)
    )
    return rewards, earlier, reference
