"""Working with other adapters for a while, or without any.

PEFT's own ways also change which parameters are trained, which must stay as it is while an engine has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def adapters_off(adapted: Any) -> Iterator[None]:
    """Inside, the model works without its adapters."""
    if adapted.active_peft_config.is_prompt_learning:
        with adapted.disable_adapter():
            yield
        return
    with _layers_with(adapted, "_disable_adapters", True):
        yield


@contextmanager
def adapter_on(adapted: Any, name: str) -> Iterator[None]:
    """Inside, the model works with another of its adapters."""
    with _layers_with(adapted, "_active_adapter", [name]):
        yield


@contextmanager
def _layers_with(adapted: Any, attribute: str, value: Any) -> Iterator[None]:
    layers = [module for module in adapted.modules() if hasattr(module, attribute)]
    before = [getattr(layer, attribute) for layer in layers]
    for layer in layers:
        setattr(layer, attribute, value)
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            setattr(layer, attribute, was)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, the model works without dropout; afterwards it is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
