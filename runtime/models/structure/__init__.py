"""The structure of a model and its numbers: positions, attention, blocks, precision."""

from .apply import configured, finish
from .rope import Rope

__all__ = ["Rope", "configured", "finish"]
