"""Quantized weights in programs: by which library, in how many bits, from which number format."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan import Plan
from ..spec import BitsAndBytes, Hqq, NoQuantization, Quantization, Quanto, TorchAo
from .calls import Arg, Call, nested
from .literals import python_literal


def quantization_args(plan: Plan, indent: int) -> Iterator[Arg]:
    """Yield the argument of `models.Base` that quantizes the weights; it stands `indent` columns deep."""
    chosen = plan.spec.quantization
    if isinstance(chosen, NoQuantization):
        return
    precision = plan.spec.training.precision
    call = Call(
        f"models.{type(chosen).__name__}",
        (
            *_settings(chosen),
            Arg("dtype", python_literal(precision), "the number format its layers compute in"),
        ),
    )
    yield Arg("quantization", nested(call, indent + 4))


def _settings(chosen: Quantization) -> Iterator[Arg]:
    if isinstance(chosen, BitsAndBytes | Hqq | Quanto | TorchAo):
        yield Arg("bits", python_literal(chosen.bits))
    if isinstance(chosen, BitsAndBytes) and chosen.bits == 4:
        yield Arg("format", python_literal(chosen.format))
        yield Arg("double", python_literal(chosen.double))
    if isinstance(chosen, Hqq) or (isinstance(chosen, TorchAo) and chosen.bits == 4):
        yield Arg("group_size", python_literal(chosen.group_size))
