"""Methods of 2024 and later in programs: what each is told before its targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..plan import AdapterPlan
from ..spec import C3a, FourierFt, Hra, Miss, RandLora, Road, Shira, VbLora
from .calls import Arg
from .literals import python_literal


def newer(method: Any, adapter: AdapterPlan) -> Iterator[Arg]:
    """Yield the settings of a method that are not its targets; nothing for one that has none."""
    match method:
        case FourierFt():
            yield from _always(method, "frequencies", "scale", "seed")
            yield from _unless(method, start="normal")
        case Hra():
            yield from _always(method, "rank")
        case RandLora():
            yield from _always(method, "rank")
            if adapter.alpha is not None:
                scale = f"update scaled by {adapter.alpha / method.rank:g}"
                yield Arg("alpha", python_literal(float(adapter.alpha)), scale)
            yield from _unless(method, dropout=0.0, sparsity="none")
        case Miss():
            yield from _always(method, "rank")
            yield from _unless(method, dropout=0.0, variant="standard")
            if method.variant == "mini":
                yield from _always(method, "mini_rank")
        case Shira():
            yield from _always(method, "rank", "seed")
        case C3a():
            yield from _always(method, "block_size")
            yield from _unless(method, start="xavier")
        case Road():
            yield from _always(method, "group_size")
            yield from _unless(method, variant=1)
        case VbLora():
            yield from _always(method, "rank", "num_vectors", "vector_length")
            yield from _unless(method, top_k=2, dropout=0.0, bank_bound=0.02, logits_std=0.1)


def _always(method: Any, *names: str) -> Iterator[Arg]:
    for name in names:
        yield Arg(name, python_literal(_exact(method, name)))


def _unless(method: Any, **defaults: Any) -> Iterator[Arg]:
    """Yield the settings that differ from what the call takes for granted."""
    for name, default in defaults.items():
        value = _exact(method, name)
        if value != default:
            yield Arg(name, python_literal(value))


def _exact(method: Any, name: str) -> Any:
    """Return a value of a setting, a real number also where the spec has a whole one."""
    value = getattr(method, name)
    is_real = isinstance(getattr(attrs.fields_dict(type(method))[name], "default", None), float)
    return float(value) if is_real else value
