"""Training: one small layer over `transformers.Trainer`."""

from .best import Best
from .fit import fit
from .lisa import Lisa
from .lora_fa import freeze_a
from .optimizers import (
    AdaFactor,
    AdamMini,
    AdamW,
    Apollo,
    BAdam,
    BAdamRatio,
    Galore,
    Lion,
    LoraPlus,
    Muon,
    Named,
    ParameterGroup,
    Sgd,
)
from .predictions import Generate
from .schedules import CosineMin, CosineRestarts, Plateau, Polynomial, WarmupStableDecay

__all__ = [
    "AdaFactor",
    "AdamMini",
    "AdamW",
    "Apollo",
    "BAdam",
    "BAdamRatio",
    "Best",
    "CosineMin",
    "CosineRestarts",
    "Galore",
    "Generate",
    "Lion",
    "Lisa",
    "LoraPlus",
    "Muon",
    "Named",
    "ParameterGroup",
    "Plateau",
    "Polynomial",
    "Sgd",
    "WarmupStableDecay",
    "fit",
    "freeze_a",
]
