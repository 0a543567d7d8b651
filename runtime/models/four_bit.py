"""Packed weights on a CPU: decoded as they were encoded, and without a compiler."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch


def decode_rightly(layers: Sequence[Any]) -> None:
    """Put another decoder in place of the one that bitsandbytes has for CPUs, where that one would go wrong.

    Weights that share a scale follow one another, also from one row to the next. The decoder of bitsandbytes 0.50
    starts with another scale in each row, which gives other weights wherever a row is no whole number of blocks.
    """
    if any(
        layer.weight.device.type == "cpu" and layer.in_features % layer.weight.blocksize
        for layer in layers
    ):
        _install()


@cache
def _install() -> torch.library.Library:
    library = torch.library.Library("bitsandbytes", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells that a kernel was there already
        library.impl("dequantize_4bit", decode, "CPU", allow_override=True)  # type: ignore[no-untyped-call]
    return library  # what was installed goes when this does


def decode(
    packed: torch.Tensor,
    scales: torch.Tensor,
    block: int,
    kind: str,
    shape: Sequence[int],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return the weights of a shape: two in a byte, the first in its upper half; `block` of them share a scale."""
    from bitsandbytes.functional import get_4bit_type

    codes = get_4bit_type(kind, device="cpu")
    count = torch.Size(shape).numel()
    octets = packed.reshape(-1).view(torch.uint8)
    numbers = codes[torch.stack([octets >> 4, octets & 15], dim=1).reshape(-1).long()][:count]
    by_weight = scales.float().repeat_interleave(block)[:count]
    weights: torch.Tensor = numbers * by_weight
    return weights.to(dtype).reshape(tuple(shape))


def unpack_without_building() -> None:
    """Unpack weights of quanto by torch alone: its own function for CPUs would be compiled first, for minutes."""
    _install_unpack()


@cache
def _install_unpack() -> torch.library.Library:
    import optimum.quanto

    assert optimum.quanto.qint4 is not None  # what is replaced must be there
    library = torch.library.Library("quanto", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.impl("unpack", unpack, "CPU", allow_override=True)  # type: ignore[no-untyped-call]
    return library


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the numbers in bytes: the lowest bits of all come first, then the next ones of all."""
    mask = 2**bits - 1
    return torch.cat([(packed >> shift) & mask for shift in range(0, 8, bits)])
