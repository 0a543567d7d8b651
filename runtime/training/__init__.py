"""Training: one small layer over `transformers.Trainer`."""

from .fit import fit
from .optimizers import AdamW

__all__ = ["AdamW", "fit"]
