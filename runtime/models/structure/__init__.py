"""The structure of a model and its numbers: positions, attention, blocks, precision."""

from .apply import configured, finish
from .noise import add_embedding_noise
from .numerics import offload_activations, set_numerics, watch_overflow
from .rope import Rope

__all__ = [
    "Rope",
    "add_embedding_noise",
    "configured",
    "finish",
    "offload_activations",
    "set_numerics",
    "watch_overflow",
]
