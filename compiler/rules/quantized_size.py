"""What weights weigh when they are quantized while loading."""

from __future__ import annotations

from ..facts import Facts
from ..facts.weights import TensorFacts
from ..spec import BitsAndBytes, Eetq, Hqq, NoQuantization, Quanto, Spec, TorchAo

NF4_BLOCK = 64
"""Weights that share a scale in bitsandbytes."""
SCALES_BLOCK = 256
"""Scales that share a scale, where they are quantized as well."""
QUANTO_GROUP = 128
"""Weights that share a scale in 2 and 4 bits of quanto."""
CODES_BYTES = {False: 64, True: 64 + 1024 + 4}
"""Tables of numbers that each layer of bitsandbytes carries, by whether its scales are quantized."""
HQQ_BYTES = {8: 1.0, 6: 1.0, 5: 1.0, 4: 0.5, 3: 0.4, 2: 0.25, 1: 0.125}
"""Bytes a weight: 5 and 6 bits take a whole byte each, 3 bits stand by tens in 4 bytes."""


def bytes_of(spec: Spec, facts: Facts, width: int) -> int:
    """Return the bytes of all layers that are quantized, `width` being those of a number that is not."""
    return round(sum(_layer(spec, each, width) for each in facts.model.linear_modules().values()))


def quantized_bytes(spec: Spec, facts: Facts, total: int, width: int) -> int:
    """Return the bytes of `total` weights of `width` bytes, of which the layers of the blocks are quantized."""
    if isinstance(spec.quantization, NoQuantization):
        return total * width
    packed = sum(tensor.count for tensor in facts.model.linear_modules().values())
    return (total - packed) * width + bytes_of(spec, facts, width)


def _layer(spec: Spec, weight: TensorFacts, width: int) -> float:
    chosen, count, rows = spec.quantization, weight.count, weight.shape[0]
    if isinstance(chosen, BitsAndBytes):
        if chosen.bits == 8:
            return count + 4 * rows
        scales = count / NF4_BLOCK
        scale = 1 + 4 / SCALES_BLOCK if chosen.double else 4
        return count / 2 + scales * scale + CODES_BYTES[chosen.double]
    if isinstance(chosen, Hqq):
        return count * HQQ_BYTES[chosen.bits] + 2 * width * count / chosen.group_size
    if isinstance(chosen, TorchAo) and chosen.bits == 4:
        # It keeps its 4-bit numbers in a byte each, and a zero for each group.
        return count + (width + 1) * count / chosen.group_size
    if isinstance(chosen, Quanto) and chosen.bits != 8:
        return count * chosen.bits / 8 + 2 * width * count / QUANTO_GROUP
    if isinstance(chosen, Quanto | TorchAo | Eetq):
        return count + width * rows
    return count * width
