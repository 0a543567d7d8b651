"""Direct preference optimization and the losses that share its log-ratios."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..models.adapters.switching import evaluating
from . import preference_losses as losses_of
from .base import Batch, Reduce
from .pairs import PairObjective, PairScores, Sides
from .references import Reference

Loss = Literal["sigmoid", "hinge", "ipo", "kto-pair", "robust", "bco"]


class Dpo(PairObjective):
    """DPO (Rafailov et al. 2023, arXiv:2305.18290), by one of several losses.

    Rewards are `beta` times log-ratios of whole answers, of `ipo` times mean log-ratios per token. With `bco_weight`
    w the loss is (loss + w * BCO) / (1 + w). `ld_alpha` is how much the tokens count by which the longer answer of a
    pair is longer, for policy and reference alike.

    The reference points of `kto-pair` are means over all answers of a step; that of BCO is the mean over all rewards
    of the training up to this step. Both are computed before the first gradient of a step.
    """

    measures: ClassVar[tuple[str, ...]] = (*PairObjective.measures, "reward_shift")

    def __init__(
        self,
        *,
        reference: Reference,
        loss: Loss = "sigmoid",
        label_smoothing: float = 0.0,
        beta: float = 0.1,
        sft_weight: float = 0.0,
        bco_weight: float = 0.0,
        ld_alpha: float | None = None,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers; `label_smoothing` belongs to `sigmoid` and `robust`."""
        super().__init__(
            beta=beta,
            sft_weight=sft_weight,
            ld_alpha=ld_alpha,
            router_loss=router_loss,
            reference=reference,
        )
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.bco_weight = bco_weight
        self.uses_shift = loss == "bco" or bco_weight > 0
        self.looks_ahead = self.uses_shift or loss == "kto-pair"
        # Rewards are added up in fp64, which is what a resumed run reads back.
        self._seen = torch.zeros(2, dtype=torch.float64)
        self._points = torch.zeros(2)
        self._ahead: deque[Sides] = deque()

    def losses(self, policy: PairScores, reference: Sides | None) -> tuple[Tensor, Sides]:
        """Return the loss of each pair, and rewards."""
        assert reference is not None
        ratios = policy.sums - reference
        rewards = ratios.times(self.beta)
        means = ratios / policy.lengths
        found = self._loss(rewards, means)
        if self.bco_weight:
            found = found + self.bco_weight * self._bco(rewards)
            found = found / (1 + self.bco_weight)
        return found, means.times(self.beta) if self.loss == "ipo" else rewards

    def _loss(self, rewards: Sides, means: Sides) -> Tensor:
        match self.loss:
            case "hinge":
                return losses_of.hinge(rewards.difference)
            case "ipo":
                return losses_of.ipo(means.chosen, means.rejected, self.beta)
            case "robust":
                return losses_of.robust(rewards.difference, self.label_smoothing)
            case "kto-pair":
                points = self._points.to(rewards.chosen.device)
                return losses_of.kto_pair(rewards.chosen, rewards.rejected, points[0], points[1])
            case "bco":
                return self._bco(rewards)
            case _:
                return losses_of.sigmoid(rewards.difference, self.label_smoothing)

    def _bco(self, rewards: Sides) -> Tensor:
        return losses_of.bco(rewards.chosen, rewards.rejected, self.shift.to(rewards.chosen))

    @property
    def shift(self) -> Tensor:
        """The mean of all rewards of the training so far, an fp64 scalar; 0 before its first step."""
        return self._seen[0] / self._seen[1].clamp(min=1)

    def look_ahead(self, model: Any, batches: Iterable[Batch], reduce: Reduce) -> None:
        """Compute the mean rewards of all chosen and all rejected answers of a step, or of an evaluation.

        An evaluation leaves the running mean of the training as it is. What the reference says is kept for `loss_sum`.
        """
        is_training, sums = model.training, None
        self._ahead.clear()
        for batch in batches:
            with evaluating(model):
                reference = self._referred(model, batch)
                ratios = self.score(model, batch).sums - reference
            counted = batch["counted"]
            found = torch.stack([ratios.chosen, ratios.rejected, torch.ones_like(counted)]).double()
            part = (found * counted).sum(1)
            sums = part if sums is None else sums + part
            self._ahead.append(reference)
        if sums is None:
            return
        reduce(sums)
        rewards = self.beta * sums[:2].cpu()
        count = float(sums[2])
        self._points = (rewards / max(count, 1)).clamp(min=0).float()
        if is_training:
            self._seen += torch.tensor([float(rewards.sum()), 2 * count], dtype=torch.float64)

    def reference_sums(self, model: Any, batch: Batch) -> Sides | None:
        """Return the log-probabilities of whole answers under the reference, those of `look_ahead` where it was asked."""
        return self._ahead.popleft() if self._ahead else self._referred(model, batch)

    def _referred(self, model: Any, batch: Batch) -> Sides:
        found = super().reference_sums(model, batch)
        assert found is not None
        return found

    def _measure(self, policy: PairScores, rewards: Sides, counted: Tensor) -> None:
        super()._measure(policy, rewards, counted)
        if self.uses_shift:
            self.tally.add("reward_shift", torch.full_like(counted, float(self.shift)), counted)

    def state(self) -> dict[str, Any]:
        """Return the running sum of rewards."""
        return {"seen": self._seen} if self.uses_shift else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        if self.uses_shift:
            self._seen = state["seen"]
