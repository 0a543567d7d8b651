"""Losses on preferences, as pure functions of log-probabilities: one loss a pair, or an answer, fp32.

Log-ratios are log-probabilities of whole answers under the policy less those under the reference. `margins` are
`beta` times the log-ratio of the chosen answer less that of the rejected one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LARGEST_MEAN = -1e-6
"""Mean log-probabilities above have odds that fp32 does not hold."""


def sigmoid(margins: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return DPO's loss (arXiv:2305.18290, eq. 7); smoothed, that of cDPO (Mitchell 2023)."""
    return -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)


def robust(margins: Tensor, label_smoothing: float) -> Tensor:
    """Return the loss of robust DPO (arXiv:2403.00409): unbiased where that share of labels is wrong."""
    right, wrong = -logsigmoid(margins), -logsigmoid(-margins)
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge(margins: Tensor) -> Tensor:
    """Return SLiC's hinge (arXiv:2305.10425) on the margins of DPO: nothing beyond a margin of 1."""
    return torch.relu(1 - margins)


def ipo(chosen_means: Tensor, rejected_means: Tensor, beta: float) -> Tensor:
    """Return IPO's loss (arXiv:2310.12036, eq. 17, `beta` is its tau) of mean log-ratios per token."""
    return (chosen_means - rejected_means - 1 / (2 * beta)) ** 2


def kto_pair(chosen: Tensor, rejected: Tensor, chosen_kl: Tensor, rejected_kl: Tensor) -> Tensor:
    """Return the mean of the losses of both answers, as KTO's (arXiv:2402.01306) of rewards.

    `chosen_kl` and `rejected_kl` are `beta` times the mean log-ratio of all chosen and all rejected answers, 0 at
    least and without a gradient: each answer is compared with those of the other kind.
    """
    return (torch.sigmoid(rejected_kl - chosen) + torch.sigmoid(rejected - chosen_kl)) / 2


def bco(chosen: Tensor, rejected: Tensor, shift: Tensor) -> Tensor:
    """Return BCO's loss (arXiv:2404.04656) of rewards, `shift` being the mean of all rewards so far."""
    return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected)


def odds_ratio(chosen_means: Tensor, rejected_means: Tensor) -> Tensor:
    """Return ORPO's odds ratio loss (arXiv:2403.07691, eq. 7) of mean log-probabilities per token."""
    return -logsigmoid(_log_odds(chosen_means) - _log_odds(rejected_means))


def kto(
    rewards: Tensor, are_good: Tensor, kl: Tensor, good_weight: float, bad_weight: float
) -> Tensor:
    """Return KTO's loss (arXiv:2402.01306) of single answers.

    `rewards` are `beta` times log-ratios, `are_good` is true for desirable answers, and `kl` is `beta` times the
    reference point: the mean log-ratio of answers to other prompts, 0 at least and without a gradient.
    """
    good, bad = good_weight * torch.sigmoid(kl - rewards), bad_weight * torch.sigmoid(rewards - kl)
    return torch.where(are_good, good, bad)


def _log_odds(log_probs: Tensor) -> Tensor:
    """Return log(p / (1 - p)), exact for p near 0 and near 1."""
    log_probs = log_probs.clamp(max=LARGEST_MEAN)
    near_one = log_probs > -math.log(2)
    # Each branch sees numbers it can take: a NaN in the one not chosen would reach the gradient.
    others = torch.where(
        near_one,
        torch.log(-torch.expm1(log_probs.clamp(min=-math.log(2)))),
        torch.log1p(-torch.exp(log_probs.clamp(max=-math.log(2)))),
    )
    return log_probs - others
