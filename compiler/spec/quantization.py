"""`[quantization]`: fewer bits for the frozen weights while training.

`tunec export` merges an adapter into the quantized weights it was trained on, as plain numbers, not into the original
ones: what is written computes what was trained.
"""

from __future__ import annotations

from typing import Literal

from .kinds import section


@section
class NoQuantization:
    """The weights as they are. A checkpoint that is already quantized is recognised by its configuration."""

    type: Literal["none"] = "none"
    """`none`: do not quantize."""


@section
class BitsAndBytes:
    """bitsandbytes: 8 bit (arXiv:2208.07339) or 4 bit, the QLoRA base (arXiv:2305.14314)."""

    type: Literal["bitsandbytes"]
    """`bitsandbytes`: quantize while loading."""

    bits: Literal[4, 8] = 4
    """Bits of a weight."""

    format: Literal["nf4", "fp4"] = "nf4"
    """Number format of 4-bit weights."""

    double: bool = True
    """Quantize the scales of 4-bit weights as well."""


@section
class Hqq:
    """Half-quadratic quantization, without calibration data."""

    type: Literal["hqq"]
    """`hqq`: quantize while loading."""

    bits: Literal[1, 2, 3, 4, 5, 6, 8] = 4
    """Bits of a weight."""

    group_size: int = 64
    """Weights that share a scale."""


@section
class Eetq:
    """EETQ: 8-bit weights with fused kernels."""

    type: Literal["eetq"]
    """`eetq`: quantize while loading."""

    bits: Literal[8] = 8
    """Bits of a weight."""


@section
class Quanto:
    """optimum-quanto, which also runs on a CPU."""

    type: Literal["quanto"]
    """`quanto`: quantize while loading."""

    bits: Literal[2, 4, 8] = 8
    """Bits of a weight."""


@section
class TorchAo:
    """torchao: weight-only integers; those of 4 bits take a byte each."""

    type: Literal["torchao"]
    """`torchao`: quantize while loading."""

    bits: Literal[4, 8] = 8
    """Bits of a weight."""

    group_size: int = 64
    """Weights that share a scale (4 bit)."""


@section
class QuantizationAware:
    """Training that computes as the quantized model will: rounded in every pass, kept in full (Jacob et al. 2017,
    arXiv:1712.05877), by torchao.

    `final/` holds ordinary weights, which any program loads without torchao and without rounding. `tunec export` writes
    the quantized model that was trained for."""

    type: Literal["int8-dynamic-int4", "int4"] = "int8-dynamic-int4"
    """What the linear layers but the output head compute with: weights in 4 bit, and inputs in 8 bit with a scale for
    each token (`int8-dynamic-int4`) or as they are (`int4`)."""

    group_size: int = 32
    """Weights that share a scale; it divides the inputs of every layer."""


Quantization = NoQuantization | BitsAndBytes | Hqq | Eetq | Quanto | TorchAo
