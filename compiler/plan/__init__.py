"""The plan: a spec and its facts become decisions, each derived one with its reason."""

from ..rules.memory import Memory, Parameters
from .build import make_plan
from .model import AdapterPlan, Batch, Derived, Duration, Plan

__all__ = [
    "AdapterPlan",
    "Batch",
    "Derived",
    "Duration",
    "Memory",
    "Parameters",
    "Plan",
    "make_plan",
]
