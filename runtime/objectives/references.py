"""References: what a policy is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..models.adapters import is_adapted
from .scores import Scorer


class Reference(Protocol):
    """Gives log-probabilities of the same tokens as the policy."""

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Prepare for a policy and its scorer; return what the reference is, for the log."""
        ...

    def log_probs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the log-probabilities of the tokens with a label, as `Scores.log_probs`, without a gradient.

        `model` is the engine around the policy.
        """
        ...


class AdapterOff:
    """The policy's own model with its adapter switched off: the start, where an adapter starts from nothing."""

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Remember the policy."""
        if not is_adapted(model):
            raise ValueError("the policy has no adapter")
        self._adapted, self._scorer = model, scorer
        return "the model without its adapter"

    @torch.no_grad()
    def log_probs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the log-probabilities without the adapter."""
        with adapters_off(self._adapted), evaluating(self._adapted):
            return self._scorer(model, batch).log_probs


@contextmanager
def adapters_off(adapted: Any) -> Iterator[None]:
    """Inside, the model works without its adapters.

    PEFT's own way also changes which parameters are trained, which must stay as it is while an engine has them.
    """
    if adapted.active_peft_config.is_prompt_learning:
        with adapted.disable_adapter():
            yield
        return
    layers = [module for module in adapted.modules() if hasattr(module, "_disable_adapters")]
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, was_off in zip(layers, before, strict=True):
            layer._disable_adapters = was_off


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, the model works without dropout; afterwards it is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
