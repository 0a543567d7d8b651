"""What reward models beside the policy take of the memory of a process."""

from __future__ import annotations

from typing import Any

import attrs

from ..facts import Facts
from ..spec import ModelReward, NoQuantization, Spec
from .quantized_size import quantized_bytes
from .rewards import rewards_of
from .world import num_processes


def reward_bytes(spec: Spec, facts: Facts, width: int) -> int:
    """Return the bytes of all reward models, whose numbers have `width` bytes each where they are not quantized.

    A model that the facts do not know counts nothing. Under ZeRO stage 3 each process has its share of one that is not
    quantized.
    """
    total = 0
    whole: Any = spec
    there: Any = facts
    for path, reward in rewards_of(spec):
        known: Any = facts.models.get((*path, "path"))
        count = None if known is None else known.parameter_count()
        if not isinstance(reward, ModelReward) or count is None:
            continue
        own = attrs.evolve(whole, quantization=reward.quantization)
        size = quantized_bytes(own, attrs.evolve(there, model=known), count, width)
        is_spread = spec.deepspeed.zero_stage == 3 and isinstance(
            reward.quantization, NoQuantization
        )
        total += size // (num_processes(spec.launch) if is_spread else 1)
    return total
