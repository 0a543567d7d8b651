"""Objectives: one module each, a loss as a pure function of a model and a batch."""

from .pretraining import Pretraining
from .sft import Sft

__all__ = ["Pretraining", "Sft"]
