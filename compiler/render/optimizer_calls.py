"""The optimizer in programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..plan import Plan
from ..rules.updates import RUNTIME_CLASSES
from ..spec import AdamW, Lisa, Lora, ParameterGroup
from .calls import Arg, Call
from .literals import python_literal


def optimizer_call(plan: Plan) -> Call:
    """Return the optimizer with its numbers; what has its default is left out, but for AdamW's."""
    optimizer = plan.spec.optimizer
    args = [Arg("learning_rate", python_literal(float(plan.spec.training.learning_rate)))]
    args += _settings(optimizer)
    args += _lora_plus(plan)
    args += _groups(plan)
    return Call(f"training.{RUNTIME_CLASSES[type(optimizer)]}", tuple(args))


def lisa_args(plan: Plan) -> Iterator[Arg]:
    """Yield the blocks that the method LISA trains at a time."""
    method = plan.spec.method
    if isinstance(method, Lisa):
        numbers = (
            f"blocks={python_literal(method.blocks)}, interval={python_literal(method.interval)}"
        )
        yield Arg("lisa", f"training.Lisa({numbers})")


def average_args(plan: Plan) -> Iterator[Arg]:
    """Yield the decay of the average of the weights."""
    decay = plan.spec.training.ema_decay
    if decay is not None:
        yield Arg("ema_decay", python_literal(float(decay)))


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


def _groups(plan: Plan) -> Iterator[Arg]:
    """Yield the parameters with numbers of their own."""
    groups = plan.spec.training.groups
    if groups:
        lines = "".join(f"\n                    {_group(group)}," for group in groups)
        yield Arg("parameter_groups", f"[{lines}\n                ]")


def _group(group: ParameterGroup) -> str:
    args = [python_literal(group.pattern)]
    if group.rate_factor != 1:
        args.append(f"rate_factor={python_literal(float(group.rate_factor))}")
    if group.weight_decay is not None:
        args.append(f"weight_decay={python_literal(float(group.weight_decay))}")
    return f"training.ParameterGroup({', '.join(args)})"
