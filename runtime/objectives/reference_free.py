"""Preferences without a reference: ORPO, SimPO and CPO."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .pairs import PairObjective, PairScores, Sides
from .preference_losses import odds_ratio, sigmoid


class Orpo(PairObjective):
    """Odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691, eq. 6).

    The loss of a pair is the mean loss of the chosen answer's tokens, and `beta` (the paper's lambda) times the odds
    ratio loss of mean log-probabilities. `sft_weight` adds more of the former.
    """

    measures: ClassVar[tuple[str, ...]] = (*PairObjective.measures, "odds_ratio_loss")

    def __init__(
        self, *, beta: float = 0.1, sft_weight: float = 0.0, router_loss: float | None = None
    ) -> None:
        """Take the numbers."""
        super().__init__(beta=beta, sft_weight=1 + sft_weight, router_loss=router_loss)

    def losses(self, policy: PairScores, reference: Sides | None) -> tuple[Tensor, Sides]:
        """Return the odds ratio losses; rewards are `beta` times mean log-probabilities."""
        means = policy.sums / policy.lengths
        losses = odds_ratio(means.chosen, means.rejected)
        self._ratio_losses = losses.detach()
        return self.beta * losses, means.times(self.beta)

    def _measure(self, policy: PairScores, rewards: Sides, counted: Tensor) -> None:
        super()._measure(policy, rewards, counted)
        self.tally.add("odds_ratio_loss", self._ratio_losses, counted)


class SimPo(PairObjective):
    """Simple preference optimization (Meng et al. 2024, arXiv:2405.14734, eq. 6).

    Rewards are `beta` times mean log-probabilities; `gamma` is the margin of rewards that is asked for. Label
    smoothing counts a pair the other way round as well, as cDPO does.
    """

    def __init__(
        self,
        *,
        beta: float = 2.0,
        gamma: float = 0.5,
        label_smoothing: float = 0.0,
        sft_weight: float = 0.0,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers."""
        super().__init__(beta=beta, sft_weight=sft_weight, router_loss=router_loss)
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def losses(self, policy: PairScores, reference: Sides | None) -> tuple[Tensor, Sides]:
        """Return the losses of pairs, and rewards."""
        rewards = (policy.sums / policy.lengths).times(self.beta)
        return sigmoid(rewards.difference - self.gamma, self.label_smoothing), rewards


class Cpo(PairObjective):
    """Contrastive preference optimization (Xu et al. 2024, arXiv:2401.08417).

    Rewards are `beta` times log-probabilities of whole answers.
    """

    def __init__(
        self,
        *,
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        sft_weight: float = 1.0,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers."""
        super().__init__(beta=beta, sft_weight=sft_weight, router_loss=router_loss)
        self.label_smoothing = label_smoothing

    def losses(self, policy: PairScores, reference: Sides | None) -> tuple[Tensor, Sides]:
        """Return the losses of pairs, and rewards."""
        rewards = policy.sums.times(self.beta)
        return sigmoid(rewards.difference, self.label_smoothing), rewards
