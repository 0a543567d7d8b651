"""Losses of policies on answers they generated, as functions of log-probabilities; nothing here knows a model."""

from __future__ import annotations

import torch
from torch import Tensor

from .scores import sum_rows


def k3(log_probs_n: Tensor, reference_n: Tensor) -> Tensor:
    """Return an estimate of the KL divergence from the reference that is never negative, `[n]`.

    `exp(r) - r - 1` with `r` the log-ratio of reference and policy (Schulman 2020, http://joschu.net/blog/kl-approx.html;
    equation 4 of GRPO, arXiv:2402.03300).
    """
    ratio_n = reference_n - log_probs_n
    return ratio_n.exp() - ratio_n - 1


def sequence_log_ratios(log_ratios_n: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return for each token the mean log-ratio of its whole answer, `[n]`.

    Its exponential is the ratio of GSPO (arXiv:2507.18071, equation 7).
    """
    lengths = sum_rows(torch.ones_like(log_ratios_n), rows, num_rows).clamp(min=1)
    return (sum_rows(log_ratios_n, rows, num_rows) / lengths)[rows]


def clipped(
    log_ratios_n: Tensor, advantages_n: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return the loss of each token by the clipped ratio, and 1 where the clipping took its gradient, `[n]`.

    `-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A)` (PPO, arXiv:1707.06347, equation 7; two limits as in
    DAPO, arXiv:2503.14476).
    """
    ratios_n = log_ratios_n.exp()
    free_n = ratios_n * advantages_n
    bound_n = ratios_n.clamp(1 - clip_low, 1 + clip_high) * advantages_n
    return -torch.minimum(free_n, bound_n), (bound_n < free_n).float().detach()


def value_losses(
    values_n: Tensor, old_values_n: Tensor, returns_n: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """Return the squared error of each value, halved, and 1 where the clipping took its gradient, `[n]`.

    A value counts by the larger of its error and the error it has within `clip` of what it was.
    """
    bound_n = old_values_n + (values_n - old_values_n).clamp(-clip, clip)
    free_error_n = (values_n - returns_n) ** 2
    bound_error_n = (bound_n - returns_n) ** 2
    took = (bound_error_n > free_error_n).float().detach()
    return 0.5 * torch.maximum(free_error_n, bound_error_n), took
