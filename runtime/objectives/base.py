"""What all objectives share: the model's head, the reference, and what is measured beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data.samples import Samples
from .references import Reference
from .router import RouterLoss
from .scores import Scorer
from .tally import Tally

Batch = Mapping[str, Tensor]
Reduce = Callable[[Tensor], None]
"""Adds a tensor up over all processes, in place."""


class Objective:
    """What is minimised: the mean of a loss over the items (tokens, pairs, answers) of a whole step.

    A subclass says what an item is and how the losses of a micro batch are computed. What depends on a whole step,
    over its micro batches and processes, is computed in `look_ahead`: so a step gives the same result however it is
    cut into micro batches.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    """Names of what is measured beside the loss, in training and evaluation."""
    eval_measures: tuple[str, ...] = ()
    """Names of what is measured in evaluations alone."""
    headline: ClassVar[str] = ""
    """What is measured that progress shows beside the loss."""
    gives_perplexity: bool = False
    """Whether the loss of an evaluation is a mean cross-entropy of tokens, whose exponential is the perplexity."""
    looks_ahead: bool = False
    """Whether `look_ahead` must see the micro batches of a step first."""

    def __init__(
        self, *, router_loss: float | None = None, reference: Reference | None = None
    ) -> None:
        """Start without a model; `attach` follows. `router_loss` weighs the loss for a model's routers."""
        self.router = RouterLoss(router_loss)
        self.reference = reference
        self.tally = Tally((*self.measures, *self.eval_measures))

    def attach(self, model: Any) -> str:
        """Prepare the model; return how the loss is computed, for the log."""
        self.scorer = Scorer(model)
        self.router.attach(model)
        if self.reference is None:
            return self.scorer.told
        return f"{self.scorer.told}, reference: {self.reference.attach(model, self.scorer)}"

    def with_samples(self, samples: Samples) -> Samples:
        """Return samples, those of the training or of an evaluation, with what the reference keeps beside them."""
        return samples if self.reference is None else self.reference.with_samples(samples)

    def begin(self, trainer: Any) -> None:
        """Do what must be done before the first step; the engine is there, and a checkpoint is loaded."""
        if self.reference is not None:
            self.reference.begin(trainer)

    def look_ahead(self, model: Any, batches: Iterable[Batch], reduce: Reduce) -> None:
        """Compute, without gradients, what the losses of all these micro batches depend on."""

    def num_items(self, batch: Batch) -> Tensor:
        """Return what the summed loss of a batch is divided by (a scalar)."""
        raise NotImplementedError

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return what was gathered over the steps so far, the same on all processes; a resumed run goes on from it."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    @property
    def is_training(self) -> bool:
        """Tell whether a gradient is wanted: evaluations compute none."""
        return torch.is_grad_enabled()
