"""The cases of reward models: one head on the tiny model, all parameters trained."""

# The scripts of this folder are no package.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

REWARDS: Mapping[str, Mapping[str, Any]] = {
    "reward": {},
    "reward margins": {"margins": (0.5, 0.0, 1.5, -0.25)},
    "reward center 0.1": {"margins": (0.5, 0.0, 1.5, -0.25), "center": 0.1},
}


def scorer(folder: Path) -> Any:
    """Return the tiny model with a head that scores."""
    from transformers import LlamaForSequenceClassification

    model = LlamaForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator))
    return model
