"""The optimizer in programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..plan import Plan
from ..rules.updates import RUNTIME_CLASSES
from ..spec import AdamW, Lisa, Lora
from .calls import Arg, Call
from .literals import python_literal


def optimizer_call(plan: Plan) -> Call:
    """Return the optimizer with its numbers; what has its default is left out, but for AdamW's."""
    optimizer = plan.spec.optimizer
    args = [Arg("learning_rate", python_literal(float(plan.spec.training.learning_rate)))]
    args += _settings(optimizer)
    args += _lora_plus(plan)
    return Call(f"training.{RUNTIME_CLASSES[type(optimizer)]}", tuple(args))


def lisa_args(plan: Plan) -> Iterator[Arg]:
    """Yield the blocks that the method LISA trains at a time."""
    method = plan.spec.method
    if isinstance(method, Lisa):
        numbers = (
            f"blocks={python_literal(method.blocks)}, interval={python_literal(method.interval)}"
        )
        yield Arg("lisa", f"training.Lisa({numbers})")


def _settings(optimizer: Any) -> Iterator[Arg]:
    for field in attrs.fields(type(optimizer)):
        if field.name == "type":
            continue
        value = getattr(optimizer, field.name)
        plain = isinstance(optimizer, AdamW) and field.name != "state"
        if plain or value != _default(field):
            yield Arg(field.name, _text(value, field.type))


def _default(field: Any) -> Any:
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return field.default.factory()
    return field.default


def _text(value: Any, kind: Any) -> str:
    if "float" in str(kind) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return python_literal(value)


def _lora_plus(plan: Plan) -> Iterator[Arg]:
    method = plan.spec.method
    if not isinstance(method, Lora) or method.b_rate_ratio is None:
        return
    rates = [f"b_rate_ratio={python_literal(float(method.b_rate_ratio))}"]
    if method.embedding_rate != 1e-6:
        rates.append(f"embedding_rate={python_literal(float(method.embedding_rate))}")
    yield Arg("lora_plus", f"training.LoraPlus({', '.join(rates)})")
