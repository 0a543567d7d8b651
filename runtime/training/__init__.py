"""Training: one small layer over `transformers.Trainer`."""

from .fit import fit
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
    Sgd,
)
from .schedules import CosineMin, CosineRestarts, Plateau, Polynomial, WarmupStableDecay

__all__ = [
    "AdaFactor",
    "AdamMini",
    "AdamW",
    "Apollo",
    "BAdam",
    "BAdamRatio",
    "CosineMin",
    "CosineRestarts",
    "Galore",
    "Lion",
    "LoraPlus",
    "Muon",
    "Named",
    "Plateau",
    "Polynomial",
    "Sgd",
    "WarmupStableDecay",
    "fit",
]
