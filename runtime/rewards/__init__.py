"""Rewards: what scores the answers that a policy generates."""

from .api import ApiReward
from .base import Answered, Reward
from .function import FunctionReward
from .models import AdapterReward, ModelReward

__all__ = [
    "AdapterReward",
    "Answered",
    "ApiReward",
    "FunctionReward",
    "ModelReward",
    "Reward",
]
