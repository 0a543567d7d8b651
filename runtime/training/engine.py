"""Corrections to what DeepSpeed's engine does with an optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def without_first_step(optimizer: Any) -> None:
    """Keep the engine from a step of its own.

    At stage 0 in 16 bit it does one with gradients of zero to make the optimizer's state. That counts as a step for
    the correction of moments, decays the weights at the peak rate, and gives GaLore a projection of nothing.
    """
    optimizer.step = _nothing


def allow_steps(optimizer: Any) -> None:
    """Undo `without_first_step`, once the engine is made."""
    optimizer.__dict__.pop("step", None)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def tell_norms(engine: Any) -> None:
    """Let an engine without ZeRO, in fp32, say the norm it clips gradients by, as all others do."""
    from deepspeed.runtime.utils import clip_grad_norm_

    def clip() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(),
            max_norm=engine.gradient_clipping(),
            mpu=engine.mpu,
        )

    engine.clip_fp32_gradients = clip


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """Put the weights in place that are meant to be used, where an optimizer trains with others (schedule-free).

    Afterwards the weights are those of before to the last bit, which computing them back would not give.
    """
    if not callable(getattr(optimizer, "eval", None)):
        yield
        return
    groups = optimizer.param_groups
    kept = [(value, value.detach().clone()) for group in groups for value in group["params"]]
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        for value, bits in kept:
            value.data.copy_(bits)
