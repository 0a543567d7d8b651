"""Proximal policy optimization on scores of whole answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.samples import IGNORED
from ..rewards.base import Reward
from .advantages import KlController, RunningMoments, gae, token_rewards, whitened
from .base import Batch
from .chunked import Wanted
from .online import Experience, OnlineObjective, Sampling, of_tokens
from .policy_losses import clipped, value_losses
from .references import Reference
from .scores import Scores, next_values
from .values import Values
from .vllm_server import VllmServer


class Ppo(OnlineObjective):
    """PPO (Schulman et al. 2017, arXiv:1707.06347) for language models (Ziegler et al. 2019, arXiv:1909.08593).

    Each token is rewarded with minus its log-ratio to the reference, weighed adaptively, the last also with the
    score; advantages are estimated with the values of a head on the policy (GAE). The loss is the mean over all
    tokens of a step of the clipped policy loss plus the weighed clipped value loss.
    """

    own_measures = (
        "score",
        "kl",
        "kl_weight",
        "value",
        "policy_loss",
        "value_loss",
        "value_clip_share",
    )

    def __init__(
        self,
        *,
        rewards: Sequence[Reward],
        sampling: Sampling,
        buffer_batches: int = 1,
        epochs: int = 4,
        kl_start: float = 0.2,
        kl_target: float = 6.0,
        clip: float = 0.2,
        value_clip: float = 0.2,
        value_weight: float = 0.1,
        discount: float = 1.0,
        gae_lambda: float = 0.95,
        whiten_rewards: bool = False,
        normalize_scores: bool = False,
        generator: VllmServer | None = None,
        reference: Reference | None = None,
        router_loss: float | None = None,
    ) -> None:
        """Take the numbers; `epochs` are the passes over the answers of a rollout."""
        super().__init__(
            rewards=rewards,
            sampling=sampling,
            generator=generator,
            reference=reference,
            router_loss=router_loss,
        )
        self.buffer_batches, self.passes = buffer_batches, epochs
        self.controller = KlController(kl_start, kl_target)
        self.moments = RunningMoments()
        self.clip, self.value_clip, self.value_weight = clip, value_clip, value_weight
        self.discount, self.gae_lambda = discount, gae_lambda
        self.whiten_rewards, self.normalize_scores = whiten_rewards, normalize_scores
        self._judged: dict[str, Tensor] = {}

    def attach(self, model: Any) -> str:
        """Prepare the model, and give it a value head."""
        told = super().attach(model)
        self.values = Values(model)
        return f"{told}, with a value head"

    @property
    def wants_log_probs(self) -> bool:
        """The penalty needs them in any case."""
        return True

    def known(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """Return log-probabilities and values before the first step."""
        scores, values_n = self._scores(model, batch, Wanted(temperature=self.sampling.temperature))
        return {"log_probs": scores.log_probs, "values": values_n}

    def judge(self, experience: Experience) -> None:
        """Estimate the advantages of all tokens, and adapt the penalty for the next answers."""
        tokens, scores = experience.tokens, self._scaled(self.totals(experience))
        references = tokens.pop("reference", tokens["log_probs"])
        pairs = list(zip(tokens["log_probs"], references, strict=True))
        divergences = torch.stack([(policy - other).sum() for policy, other in pairs])
        weight = self.controller.weight
        rewards = [
            token_rewards(policy, other, float(score), weight)
            for (policy, other), score in zip(pairs, scores, strict=True)
        ]
        if self.whiten_rewards:
            rewards = whitened(rewards, centred=False)
        found = [
            gae(parts, values, discount=self.discount, gae_lambda=self.gae_lambda)
            for parts, values in zip(rewards, tokens["values"], strict=True)
        ]
        tokens["advantages"] = whitened([advantages for advantages, _ in found])
        tokens["returns"] = [returns for _, returns in found]
        self._judged = {"score": scores, "kl": divergences, "kl_weight": torch.tensor([weight])}
        self.controller.update(float(divergences.mean()))

    def _scaled(self, scores: Tensor) -> Tensor:
        if not self.normalize_scores:
            return scores
        self.moments.add(scores.tolist())
        return (scores - self.moments.mean) / self.moments.deviation

    def measure_rollout(self, experience: Experience, ends: frozenset[int]) -> None:
        """Count also what the answers were judged by."""
        super().measure_rollout(experience, ends)
        for name, values in self._judged.items():
            self.tally.add(name, values)
        self.tally.add("value", torch.cat(experience.tokens["values"]))

    def num_items(self, batch: Batch) -> Tensor:
        """Return the number of tokens of answers (a scalar)."""
        return (batch["labels"][:, 1:] != IGNORED).sum()

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of a micro batch (fp32 scalar), to be divided by the items of the whole step."""
        wanted = Wanted(entropy=True, temperature=self.sampling.temperature)
        scores, values_n = self._scores(model, batch, wanted)
        policy_n, bound_n = clipped(
            scores.log_probs - of_tokens(batch, "log_probs"),
            of_tokens(batch, "advantages"),
            self.clip,
            self.clip,
        )
        value_n, value_bound_n = value_losses(
            values_n, of_tokens(batch, "values"), of_tokens(batch, "returns"), self.value_clip
        )
        for name, values in (
            ("policy_loss", policy_n),
            ("clip_share", bound_n),
            ("value_loss", value_n),
            ("value_clip_share", value_bound_n),
            ("entropy", scores.entropies),
        ):
            self.tally.add(name, values)
        total = (policy_n + self.value_weight * value_n).sum()
        return self.router.added(total, scores.outputs, self.num_items(batch))

    def _scores(self, model: Any, batch: Batch, wanted: Wanted) -> tuple[Scores, Tensor]:
        """Return the scores of the tokens of answers and the values before them, by one forward pass."""
        kept_bt = next_values(batch["labels"], IGNORED, self.scorer.front) >= 0
        with self.values.of(kept_bt):
            scores = self.scorer(model, batch, wanted, inputs=self.router.inputs)
        return scores, self.values.take()

    def state(self) -> dict[str, Tensor]:
        """Return the weight of the penalty and the moments of the scores, fp64 `[4]`."""
        numbers = [self.controller.weight, *self.moments.state()]
        return {"ppo": torch.tensor(numbers, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        weight, *moments = state["ppo"].tolist()
        self.controller.weight = weight
        self.moments.load(moments)
