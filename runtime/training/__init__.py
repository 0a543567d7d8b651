"""Training: one small layer over `transformers.Trainer`."""

from .fit import AdamW, fit

__all__ = ["AdamW", "fit"]
