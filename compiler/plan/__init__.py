"""The plan: a spec and its facts become decisions, each derived one with its reason."""

from ..rules.memory import Memory, Parameters
from .build import make_plan
from .model import Batch, Derived, Duration, LoraPlan, Plan

__all__ = [
    "Batch",
    "Derived",
    "Duration",
    "LoraPlan",
    "Memory",
    "Parameters",
    "Plan",
    "make_plan",
]
