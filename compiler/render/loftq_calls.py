"""LoftQ in programs: adapters that start from what quantizing loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..plan import Plan
from ..spec import LoftqInit, Lora, NoQuantization
from .calls import Arg, Call, Places, nested
from .literals import python_literal
from .model_calls import base_call, weights_dtype


def loftq_call(plan: Plan, places: Places) -> Iterator[Call]:
    """Yield the call that compares the weights with what they were before they were quantized."""
    method = plan.spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, LoftqInit):
        return
    whole: Any = plan.spec
    plain = attrs.evolve(plan, spec=attrs.evolve(whole, quantization=NoQuantization()))
    base = Arg("", nested(base_call(plain, places, 20), 20))
    dtype = Arg("dtype", python_literal(weights_dtype(plan.spec)))
    loaded = nested(Call("models.load_causal_lm", (base, dtype)), 16)
    reason = "the weights before they were quantized, only for this"
    yield Call("models.start_from_loss", (Arg("", "model"), Arg("", loaded, reason)))
