"""Group relative policy optimization: answers to one prompt are compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.samples import IGNORED
from ..rewards.base import Reward
from .advantages import equal_groups, group_advantages
from .base import Batch
from .chunked import Wanted
from .online import Experience, OnlineObjective, Sampling, num_answers, of_tokens
from .policy_losses import clipped, k3, sequence_log_ratios
from .references import Reference
from .scores import sum_rows
from .vllm_server import VllmServer

Kind = Literal["grpo", "dr-grpo", "dapo", "gspo"]


class Grpo(OnlineObjective):
    """GRPO (Shao et al. 2024, arXiv:2402.03300) and three of its kin.

    `grpo` is the mean over answers of the mean over their tokens. `dr-grpo` (arXiv:2503.20783) divides by the longest
    answer there can be instead of the own length, and does not scale advantages. `dapo` (arXiv:2503.14476) is the mean
    over all tokens of the step. `gspo` (arXiv:2507.18071) clips one ratio of the whole answer.
    """

    own_measures = ("kl", "equal_groups")

    def __init__(
        self,
        *,
        rewards: Sequence[Reward],
        sampling: Sampling,
        group_size: int,
        loss: Kind = "grpo",
        beta: float = 0.0,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        updates: int = 1,
        generator: VllmServer | None = None,
        reference: Reference | None = None,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers; `updates` are the steps on each batch of answers."""
        super().__init__(
            rewards=rewards,
            sampling=sampling,
            generator=generator,
            reference=reference,
            router_loss=router_loss,
        )
        self.group_size, self.passes = group_size, updates
        self.loss, self.beta = loss, beta
        self.clip_low, self.clip_high = clip_low, clip_high

    def judge(self, experience: Experience) -> None:
        """Give all tokens of an answer its advantage in its group."""
        totals = self.totals(experience)
        advantages = group_advantages(totals, self.group_size, scaled=self.loss != "dr-grpo")
        experience.tokens["advantages"] = [
            torch.full((len(answer),), float(advantage))
            for answer, advantage in zip(experience.answers, advantages, strict=True)
        ]

    def measure_rollout(self, experience: Experience, ends: frozenset[int]) -> None:
        """Count also the groups that teach nothing."""
        super().measure_rollout(experience, ends)
        self.tally.add("equal_groups", equal_groups(self.totals(experience), self.group_size))

    def num_items(self, batch: Batch) -> Tensor:
        """Return what the summed loss is divided by: answers, tokens (dapo), or answers of full length (dr-grpo)."""
        if self.loss == "dapo":
            return (batch["labels"][:, 1:] != IGNORED).sum()
        answers = num_answers(batch)
        return answers * self.sampling.max_new_tokens if self.loss == "dr-grpo" else answers

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step."""
        wanted = Wanted(entropy=True, temperature=self.sampling.temperature)
        scores = self.scorer(model, batch, wanted, inputs=self.router.inputs)
        log_probs_n, rows = scores.log_probs, scores.rows
        # Before the first step on a batch the policy is still the one that answered.
        old_n = of_tokens(batch, "log_probs") if "log_probs" in batch else log_probs_n.detach()
        ratios_n = log_probs_n - old_n
        if self.loss == "gspo":
            ratios_n = sequence_log_ratios(ratios_n, rows, scores.num_rows)
        losses_n, bound_n = clipped(
            ratios_n, of_tokens(batch, "advantages"), self.clip_low, self.clip_high
        )
        if "reference" in batch:
            kl_n = k3(log_probs_n, of_tokens(batch, "reference"))
            losses_n = losses_n + self.beta * kl_n
            self.tally.add("kl", kl_n)
        self.tally.add("clip_share", bound_n)
        self.tally.add("entropy", scores.entropies)
        total = self._summed(losses_n, rows, scores.num_rows)
        return self.router.added(total, scores.outputs, self.num_items(batch))

    def _summed(self, losses_n: Tensor, rows: Tensor, num_rows: int) -> Tensor:
        if self.loss in ("dapo", "dr-grpo"):
            return losses_n.sum()
        lengths = sum_rows(torch.ones_like(losses_n), rows, num_rows).clamp(min=1)
        return (sum_rows(losses_n, rows, num_rows) / lengths).sum()
