"""Kahneman-Tversky optimization: single answers, each marked good or bad."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ExitCode, UserError
from ..models.adapters.switching import evaluating
from . import preference_losses as losses_of
from .base import Batch, Objective, Reduce
from .pairs import labelled_rows, refuse_weights
from .references import Reference
from .scores import sum_rows


@dataclass(frozen=True)
class Step:
    """What is known of a whole step, or of an evaluation."""

    kl: float = 0.0
    """Mean log-ratio of answers to other prompts, 0 at least; `beta` times that is the reference point of rewards."""
    num_good: float = 0.0
    num_bad: float = 0.0

    @property
    def num_all(self) -> float:
        """Answers that count."""
        return self.num_good + self.num_bad


class Kto(Objective):
    """KTO (Ethayarajh et al. 2024, arXiv:2402.01306) on answers, `values` being 1 for good ones and 0 for bad ones.

    A batch holds the answers and then, in the same order, each prompt with the answer to another one (see
    `data.mismatch`): from these the reference point of a step is estimated, over all its answers, before its first
    gradient. The loss is the mean over all answers of a step; `sft_weight` weighs the mean, over the good ones, of
    the mean loss of their tokens.
    """

    headline = "accuracy"
    measures: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "margin",
        "chosen_reward",
        "rejected_reward",
        "chosen_log_prob",
        "rejected_log_prob",
        "kl",
        "sft_loss",
    )
    looks_ahead = True

    def __init__(
        self,
        *,
        reference: Reference,
        beta: float = 0.1,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        sft_weight: float = 0.0,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers; `attach` follows."""
        super().__init__(router_loss=router_loss, reference=reference)
        self.beta = beta
        self.weights = desirable_weight, undesirable_weight
        self.sft_weight = sft_weight
        self.step = Step()

    def num_items(self, batch: Batch) -> Tensor:
        """Return the number of answers (a scalar)."""
        return batch["counted"].sum()

    def look_ahead(self, model: Any, batches: Iterable[Batch], reduce: Reduce) -> None:
        """Estimate the reference point from the answers to other prompts, and count good and bad answers."""
        sums: Tensor | None = None
        for batch in batches:
            mismatched = half(batch, second=True)
            with evaluating(model):
                found = self.scorer(model, mismatched)
                ratios = found.per_row() - self._reference_sums(model, mismatched)
            counted, values = batch["counted"], batch["values"]
            part = torch.stack([ratios * counted, values * counted, (1 - values) * counted])
            total = part.double().sum(1)
            sums = total if sums is None else sums + total
        if sums is None:
            return
        reduce(sums)
        ratio, good, bad = sums.tolist()
        self.step = Step(max(0.0, ratio / max(good + bad, 1)), good, bad)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of the answers of a micro batch (fp32 scalar)."""
        refuse_weights(batch)
        answers = half(batch)
        reference = self._reference_sums(model, answers)
        found = self.scorer(model, answers, inputs=self.router.inputs)
        log_probs = found.per_row()
        rewards = self.beta * (log_probs - reference)
        are_good, counted, step = batch["values"] > 0.5, batch["counted"], self.step
        point = rewards.new_tensor(self.beta * step.kl)
        losses = losses_of.kto(rewards, are_good, point, *self.weights)
        sft_losses = -log_probs / found.lengths.clamp(min=1)
        good = counted * are_good
        if self.sft_weight:
            # The mean over all answers is to become one over the good ones.
            share = self.sft_weight * step.num_all / max(step.num_good, 1)
            losses = losses + share * sft_losses * are_good
        self._measure(rewards.detach(), log_probs, are_good, counted)
        self.tally.add("sft_loss", sft_losses, good)
        return self.router.added((losses * counted).sum(), found.outputs, self.num_items(batch))

    def _reference_sums(self, model: Any, batch: Batch) -> Tensor:
        assert self.reference is not None
        log_probs = self.reference.log_probs(model, batch)
        return sum_rows(log_probs, labelled_rows(batch["labels"]), len(batch["labels"]))

    def _measure(
        self, rewards: Tensor, log_probs: Tensor, are_good: Tensor, counted: Tensor
    ) -> None:
        good, bad, step = counted * are_good, counted * ~are_good, self.step
        self.tally.add("accuracy", ((rewards > self.beta * step.kl) == are_good).float(), counted)
        self.tally.add("chosen_reward", rewards, good)
        self.tally.add("rejected_reward", rewards, bad)
        self.tally.add("chosen_log_prob", log_probs, good)
        self.tally.add("rejected_log_prob", log_probs, bad)
        self.tally.add("kl", torch.full_like(counted, step.kl), counted)
        if step.num_good and step.num_bad:
            # Their mean over a step is the mean reward of its good answers less that of its bad ones.
            shares = good * (step.num_all / step.num_good) - bad * (step.num_all / step.num_bad)
            self.tally.add("margin", rewards * shares, counted)


def half(batch: Batch, *, second: bool = False) -> Batch:
    """Return the rows of the answers, or of the second half of a batch, the answers to other prompts.

    Raises:
        UserError: (INTERNAL) the batch holds answers alone.
    """
    rows, samples = len(batch["input_ids"]), len(batch["counted"])
    if rows != 2 * samples:
        raise UserError(
            "KTO needs each prompt with another answer as well: data.mismatch was not called",
            code=ExitCode.INTERNAL,
        )
    part = slice(samples, rows) if second else slice(0, samples)
    found = {
        name: values[part] if values.shape[:1] == (rows,) else values
        for name, values in batch.items()
    }
    return {name: values for name, values in found.items() if name not in ("values", "counted")}
