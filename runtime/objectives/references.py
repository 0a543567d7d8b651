"""References: what a policy is compared with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from ..data.samples import Samples
from ..models.adapters import is_adapted
from ..models.adapters.switching import adapters_off, evaluating
from ..models.swapping import Swap, trained_values
from .chunked import Wanted
from .scores import PLAIN, Scorer


class Reference:
    """Gives log-probabilities of the same tokens as the policy, without dropout and without a gradient."""

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Prepare for a policy and its scorer; return what the reference is, for the log."""
        raise NotImplementedError

    def scoring(self, model: Any) -> AbstractContextManager[tuple[Any, Scorer]]:
        """Return a context with the engine that works as the reference inside, and what scores its tokens.

        `model` is the engine around the policy.
        """
        raise NotImplementedError

    @torch.no_grad()
    def log_probs(self, model: Any, batch: Mapping[str, Tensor], wanted: Wanted = PLAIN) -> Tensor:
        """Return the log-probabilities of the tokens with a label, as `Scores.log_probs`.

        `model` is the engine around the policy.
        """
        with self.scoring(model) as (engine, scorer):
            return scorer(engine, batch, wanted).log_probs

    def with_samples(self, samples: Samples) -> Samples:
        """Return the samples with what the reference keeps beside them."""
        return samples

    def begin(self, trainer: Any) -> None:
        """Do what must be done before the first step; the engine is there, and a checkpoint is loaded."""


class AdapterOff(Reference):
    """The policy's own model with its adapter switched off: the start, where an adapter starts from nothing."""

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Remember the policy; without its adapter there are no virtual tokens either."""
        if not is_adapted(model):
            raise ValueError("the policy has no adapter")
        self._adapted, self._scorer = model, copy.copy(scorer)
        self._scorer.front = 0
        return "the model without its adapter"

    @contextmanager
    def scoring(self, model: Any) -> Iterator[tuple[Any, Scorer]]:
        """Switch the adapter off."""
        with adapters_off(self._adapted), evaluating(self._adapted):
            yield model, self._scorer


class AdapterAtStart(Reference):
    """The policy's own model with its adapter as it was at the start: one that an earlier training made.

    A copy of what is trained takes the place of the parameters for the forward pass.
    """

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Copy what is trained, before an engine or a checkpoint changes it."""
        if not is_adapted(model):
            raise ValueError("the policy has no adapter")
        values = trained_values(model)
        self._model, self._scorer, self._swap = model, scorer, Swap(model, values)
        size = sum(value.numel() for value in values.values())
        return f"the model with its adapter as it started, a copy of {size:,} parameters"

    @contextmanager
    def scoring(self, model: Any) -> Iterator[tuple[Any, Scorer]]:
        """Put the adapter of the start in place."""
        with self._swap(), evaluating(self._model):
            yield model, self._scorer
