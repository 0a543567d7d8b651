"""The structure of a model and its numbers: positions, attention, blocks, precision."""

from .apply import configured, finish, is_expected
from .kernels import ATTENTION, compile_blocks, use_liger
from .noise import add_embedding_noise
from .numerics import offload_activations, recompute_activations, set_numerics, watch_overflow
from .rope import Rope

__all__ = [
    "ATTENTION",
    "Rope",
    "add_embedding_noise",
    "compile_blocks",
    "configured",
    "finish",
    "is_expected",
    "offload_activations",
    "recompute_activations",
    "set_numerics",
    "use_liger",
    "watch_overflow",
]
