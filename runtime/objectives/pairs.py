"""Pairs: what all objectives share that compare a chosen answer with a rejected one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ExitCode, UserError
from .base import Batch, Objective
from .references import Reference
from .scores import PLAIN, Scores, sum_rows


@dataclass(frozen=True)
class Sides:
    """A number of each chosen and of each rejected answer, fp32 `[pairs]`."""

    chosen: Tensor
    rejected: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Sides:
        """Split numbers of the rows of a batch, `[2 * pairs]`, the chosen ones first."""
        return cls(*rows.chunk(2))

    @property
    def difference(self) -> Tensor:
        """The chosen one's less the rejected one's."""
        return self.chosen - self.rejected

    def __sub__(self, other: Sides) -> Sides:
        """Return the differences, side by side."""
        return Sides(self.chosen - other.chosen, self.rejected - other.rejected)

    def __truediv__(self, other: Sides) -> Sides:
        """Return the quotients; of answers without a token, 0."""
        return Sides(
            self.chosen / other.chosen.clamp(min=1), self.rejected / other.rejected.clamp(min=1)
        )

    def times(self, factor: float) -> Sides:
        """Return the numbers times a factor."""
        return Sides(self.chosen * factor, self.rejected * factor)

    def detach(self) -> Sides:
        """Return the numbers without a gradient."""
        return Sides(self.chosen.detach(), self.rejected.detach())


@dataclass(frozen=True)
class PairScores:
    """What a model says of the answers of a batch of pairs."""

    sums: Sides
    """Log-probabilities of whole answers; with `ld_alpha`, their ends count less."""
    lengths: Sides
    """Tokens with a label."""
    sft_losses: Tensor
    """Mean loss of the chosen answers' tokens, `[pairs]`."""
    outputs: Any = None


class PairObjective(Objective):
    """An objective whose items are pairs: its loss is the mean over all pairs of a step.

    `sft_weight` weighs the mean loss of each chosen answer's tokens, which is added to the loss of its pair.
    """

    headline = "accuracy"
    measures: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "margin",
        "chosen_reward",
        "rejected_reward",
        "chosen_log_prob",
        "rejected_log_prob",
        "sft_loss",
    )

    def __init__(
        self,
        *,
        beta: float,
        sft_weight: float = 0.0,
        ld_alpha: float | None = None,
        router_loss: float | None = None,
        reference: Reference | None = None,
    ) -> None:
        """Take the numbers; `attach` follows."""
        super().__init__(router_loss=router_loss, reference=reference)
        self.beta = beta
        self.sft_weight = sft_weight
        self.ld_alpha = ld_alpha

    def num_items(self, batch: Batch) -> Tensor:
        """Return the number of pairs (a scalar)."""
        return batch["counted"].sum()

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of the pairs of a micro batch (fp32 scalar)."""
        refuse_weights(batch)
        reference = self.reference_sums(model, batch)
        policy = self.score(model, batch)
        losses, rewards = self.losses(policy, reference)
        if self.sft_weight:
            losses = losses + self.sft_weight * policy.sft_losses
        counted = batch["counted"]
        self._measure(policy, rewards.detach(), counted)
        return self.router.added((losses * counted).sum(), policy.outputs, self.num_items(batch))

    def losses(self, policy: PairScores, reference: Sides | None) -> tuple[Tensor, Sides]:
        """Return the loss of each pair, `[pairs]`, and the rewards that it compares."""
        raise NotImplementedError

    def reference_sums(self, model: Any, batch: Batch) -> Sides | None:
        """Return the log-probabilities of whole answers under the reference; None without one."""
        if self.reference is None:
            return None
        rows = labelled_rows(batch["labels"])
        return self._sums(self.reference.log_probs(model, batch), rows, len(batch["labels"]))

    def score(self, model: Any, batch: Batch) -> PairScores:
        """Return what the policy says of the answers of a batch."""
        inputs = self.router.inputs
        found: Scores = self.scorer(model, batch, PLAIN, inputs=inputs)
        plain, lengths = Sides.of(found.per_row()), Sides.of(found.lengths)
        sums = plain
        if self.ld_alpha is not None:
            sums = self._sums(found.log_probs, found.rows, found.num_rows)
        return PairScores(sums, lengths, -(plain / lengths).chosen, found.outputs)

    def _sums(self, log_probs: Tensor, rows: Tensor, num_rows: int) -> Sides:
        if self.ld_alpha is not None:
            log_probs = log_probs * tail_weights(rows, num_rows, self.ld_alpha)
        return Sides.of(sum_rows(log_probs, rows, num_rows))

    def _measure(self, policy: PairScores, rewards: Sides, counted: Tensor) -> None:
        found = {
            "accuracy": (rewards.difference > 0).float(),
            "margin": rewards.difference,
            "chosen_reward": rewards.chosen,
            "rejected_reward": rewards.rejected,
            "chosen_log_prob": policy.sums.chosen,
            "rejected_log_prob": policy.sums.rejected,
            "sft_loss": policy.sft_losses,
        }
        for name, values in found.items():
            self.tally.add(name, values, counted)


def labelled_rows(labels: Tensor) -> Tensor:
    """Return the row of each token with a label but a row's first, int64 `[n]`, in the order of `Scores`."""
    return (labels[:, 1:] >= 0).nonzero()[:, 0]


def tail_weights(rows: Tensor, num_rows: int, alpha: float) -> Tensor:
    """Return 1 for each token of the part that both answers of a pair are long enough for, `alpha` behind it, `[n]`.

    LD-DPO (arXiv:2409.06411). `rows` is the row of each token, int64 `[n]`, the rows of the chosen
    answers first.
    """
    lengths = torch.bincount(rows, minlength=num_rows)
    shared = torch.minimum(*lengths.chunk(2)).repeat(2)
    starts = lengths.cumsum(0) - lengths
    places = torch.arange(len(rows), device=rows.device) - starts[rows]
    ones = torch.ones(len(rows), device=rows.device)
    return torch.where(places < shared[rows], ones, alpha * ones)


def refuse_weights(batch: Batch) -> None:
    """Raise `UserError` (DATA) where tokens of answers that are compared do not count alike."""
    if "weights" in batch:
        raise UserError(
            "an answer that is compared has a weight: its tokens have no loss of their own to weigh",
            help="take the weights of messages out of the data",
            code=ExitCode.DATA,
        )
