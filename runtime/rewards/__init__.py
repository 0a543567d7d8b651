"""Rewards: what scores the answers that a policy generates."""

from .api import ApiReward
from .base import Answered, Reward
from .function import FunctionReward

__all__ = ["Answered", "ApiReward", "FunctionReward", "Reward"]
