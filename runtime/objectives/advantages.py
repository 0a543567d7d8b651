"""Advantages: how much better an answer, or a token, is than was to be expected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GROUP_EPSILON = 1e-4
"""Added to the deviation of a group's rewards, which is 0 where all are equal."""


def group_advantages(rewards_n: Tensor, group_size: int, *, scaled: bool) -> Tensor:
    """Return the advantage of each answer among the `group_size` answers to its prompt, `[answers]`.

    The reward minus the group's mean, `scaled` by the group's deviation as in GRPO (arXiv:2402.03300, section 4.1.2;
    of the sample, as usual), or not as in Dr. GRPO (arXiv:2503.20783).
    """
    groups = rewards_n.view(-1, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    if scaled:
        centred = centred / (groups.std(1, keepdim=True) + GROUP_EPSILON)
    return centred.flatten()


def equal_groups(rewards_n: Tensor, group_size: int) -> Tensor:
    """Return 1 for each group whose answers all have the same reward, and teach nothing, else 0, `[groups]`."""
    groups = rewards_n.view(-1, group_size)
    return (groups == groups[:, :1]).all(1).to(rewards_n.dtype)


def token_rewards(
    log_probs_t: Tensor, reference_t: Tensor, score: float, kl_weight: float
) -> Tensor:
    """Return the reward of each token: a penalty on its log-ratio to the reference, and at the end the score.

    Ziegler et al. 2019 (arXiv:1909.08593), equation 2, of one answer `[tokens]`.
    """
    rewards_t = -kl_weight * (log_probs_t - reference_t)
    rewards_t[-1] += score
    return rewards_t


def gae(
    rewards_t: Tensor, values_t: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns of one answer `[tokens]`; nothing is to be expected after its end.

    Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, equation 16).
    """
    advantages = torch.empty_like(rewards_t)
    next_value = next_advantage = 0.0
    for at in range(len(rewards_t) - 1, -1, -1):
        value = float(values_t[at])
        slope = float(rewards_t[at]) + discount * next_value - value
        next_advantage = slope + discount * gae_lambda * next_advantage
        advantages[at] = next_advantage
        next_value = value
    return advantages, advantages + values_t


def whitened(parts: Sequence[Tensor], *, centred: bool = True) -> list[Tensor]:
    """Return the values of all parts with variance 1, and mean 0 where `centred`, else the mean they had."""
    values = torch.cat(list(parts))
    mean = values.mean()
    scale = torch.rsqrt(values.var() + 1e-8) if len(values) > 1 else values.new_ones(())
    found = [(part - mean) * scale for part in parts]
    return found if centred else [part + mean for part in found]


class RunningMoments:
    """Mean and deviation of all scores so far (Chan et al. 1983, by parts)."""

    def __init__(self) -> None:
        """Start without a score."""
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, scores: Sequence[float]) -> None:
        """Count further scores."""
        values = torch.tensor(list(scores), dtype=torch.float64)
        number, mean = len(values), float(values.mean())
        total = self.count + number
        distance = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += distance**2 * self.count * number / total
        self.mean += distance * number / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Deviation of the sample; 1 while there is none to speak of."""
        if self.count < 2 or self.squares == 0:
            return 1.0
        return float((self.squares / (self.count - 1)) ** 0.5)

    def state(self) -> list[float]:
        """Return what `load` takes."""
        return [float(self.count), self.mean, self.squares]

    def load(self, state: Sequence[float]) -> None:
        """Go on from a state."""
        self.count, self.mean, self.squares = int(state[0]), float(state[1]), float(state[2])


class KlController:
    """Adapts the weight of the KL penalty so that the divergence comes near a target.

    Ziegler et al. 2019 (arXiv:1909.08593), section 2.2: the weight is multiplied with `1 + 0.1 * error`, where the
    error is the divergence relative to the target, minus 1, within ±0.2.
    """

    GAIN = 0.1
    LIMIT = 0.2

    def __init__(self, start: float, target: float) -> None:
        """Start with a weight; the target is in nats an answer."""
        self.weight, self.target = start, target

    def update(self, divergence: float) -> None:
        """Hear the mean divergence of the answers that were made last."""
        error = min(max(divergence / self.target - 1, -self.LIMIT), self.LIMIT)
        self.weight *= 1 + self.GAIN * error
