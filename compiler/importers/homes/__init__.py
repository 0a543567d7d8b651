"""Where every name of another trainer lives in a spec, or what replaces it: tables without code."""

from __future__ import annotations

from functools import cache

from .data import BENCHMARK, DATA, DATASET_INFO, GENERATING
from .deepspeed import DEEPSPEED
from .entries import ABSENT, Entry, Home, Replaced, Table
from .method import METHOD, OBJECTIVE, OPTIMIZERS, SWANLAB, TUNING
from .model import ENGINES, EXPORT, MEGATRON, MODEL, PROCESSOR, QUANTIZATION
from .renamed import DROPPED, OLD_NAMES
from .training import (
    DISTRIBUTED,
    EVALUATION,
    LENGTH,
    LOADING,
    LOGGING,
    NUMERICS,
    PROFILER,
    RAY,
    SAVING,
)

__all__ = [
    "ABSENT",
    "DATASET_INFO",
    "DEEPSPEED",
    "DROPPED",
    "GROUPS",
    "OLD_NAMES",
    "Entry",
    "Home",
    "Replaced",
    "Table",
    "entries",
]

GROUPS: dict[str, Table] = {
    "Model": MODEL,
    "Quantization": QUANTIZATION,
    "Media": PROCESSOR,
    "Data": DATA,
    "Method": METHOD,
    "Objective": OBJECTIVE,
    "Optimizers": OPTIMIZERS,
    "Tuning": TUNING,
    "Length, rate and batch": LENGTH,
    "Numerics": NUMERICS,
    "Evaluation": EVALUATION,
    "Benchmarks": BENCHMARK,
    "Saving": SAVING,
    "Logging": LOGGING,
    "SwanLab": SWANLAB,
    "Profiler": PROFILER,
    "Reading data": LOADING,
    "Processes": DISTRIBUTED,
    "Ray": RAY,
    "Megatron": MEGATRON,
    "Inference engines": ENGINES,
    "Generation": GENERATING,
    "Export": EXPORT,
}
"""LLaMA-Factory's arguments by subject."""


@cache
def entries() -> dict[str, Entry]:
    """Return the entry of each of LLaMA-Factory's names, also of earlier versions."""
    found = {name: entry for table in GROUPS.values() for name, entry in table.items()}
    found |= DROPPED
    return found | {old: found[new] for old, new in OLD_NAMES.items()}
