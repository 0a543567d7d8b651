"""Normalisation layers that are trained, everything else frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ..parts import part_of, without_towers
from ..structure.numerics import is_norm
from .attach import attach, task_of


def add_ln_tuning(
    model: Any,
    *,
    norms: Sequence[str] | Literal["all"],
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with trained copies of normalisation layers (arXiv:2312.11420), or of `all` of them."""
    from peft import LNTuningConfig

    names = norms
    if isinstance(names, str):
        found = (n for n, m in model.named_modules() if is_norm(m) and part_of(n) == "language")
        names = sorted({name.rpartition(".")[2] for name in found})
    towers = without_towers(model)
    config = LNTuningConfig(
        task_type=task_of(model),
        target_modules=list(names),
        **({} if towers is None else {"exclude_modules": towers}),
        modules_to_save=list(full_modules) or None,
    )
    return attach(model, config, targets=names)
