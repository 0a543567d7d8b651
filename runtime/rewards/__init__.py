"""Rewards: what scores the answers that a policy generates."""

from .base import Answered, Reward

__all__ = ["Answered", "Reward"]
