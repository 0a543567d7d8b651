"""Objectives: one module each, a loss as a pure function of tensors."""

from .base import Objective
from .pretraining import Pretraining
from .references import AdapterOff
from .sft import Sft

__all__ = ["AdapterOff", "Objective", "Pretraining", "Sft"]
