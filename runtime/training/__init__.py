"""Training: one small layer over `transformers.Trainer`."""

from .fit import fit
from .optimizers import AdamW
from .schedules import CosineMin, CosineRestarts, Plateau, Polynomial, WarmupStableDecay

__all__ = [
    "AdamW",
    "CosineMin",
    "CosineRestarts",
    "Plateau",
    "Polynomial",
    "WarmupStableDecay",
    "fit",
]
