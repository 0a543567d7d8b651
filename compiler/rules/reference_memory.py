"""What a reference takes of the memory of a process, and what it saves to compute it beforehand."""

from __future__ import annotations

from typing import Any

import attrs

from ..facts import Facts
from ..spec import ModelReference, PrecomputedReference, Spec
from .quantized_size import quantized_bytes
from .references import keeps_start, reference_of
from .world import num_processes


def reference_bytes(spec: Spec, facts: Facts, total: int, trained: int, width: int) -> int:
    """Return the bytes of what is kept to compare the policy with, whose numbers have `width` bytes each.

    `total` and `trained` are the policy's parameters. A model that the facts do not know counts nothing.
    """
    found = reference_of(spec)
    if found is None or isinstance(found[1], PrecomputedReference):
        return 0
    if isinstance(found[1], ModelReference):
        known: Any = facts.models.get((*found[0], "path"))
        count = None if known is None else known.parameter_count()
        whole: Any = spec
        there: Any = facts
        other = attrs.evolve(whole, quantization=found[1].quantization)
        size = (
            0
            if count is None
            else quantized_bytes(other, attrs.evolve(there, model=known), count, width)
        )
        return size // _shards(spec)
    return start_bytes(spec, facts, total, trained, width)


def start_bytes(spec: Spec, facts: Facts, total: int, trained: int, width: int) -> int:
    """Return the bytes of what keeps the start of the policy in memory."""
    match keeps_start(spec):
        case "model":
            return quantized_bytes(spec, facts, total, width) // _shards(spec)
        case "adapter":
            return trained * width
        case _:
            return 0


def saved_bytes(spec: Spec, facts: Facts, total: int, trained: int, width: int) -> int | None:
    """Return the bytes that are not needed because log-probabilities are computed beforehand; None where they are not."""
    found = reference_of(spec)
    if found is None or not isinstance(found[1], PrecomputedReference):
        return None
    return start_bytes(spec, facts, total, trained, width)


def _shards(spec: Spec) -> int:
    return num_processes(spec.launch) if spec.deepspeed.zero_stage == 3 else 1
