"""Losses of single tokens beside the plain cross-entropy: functions of the logits at their places.

Each takes fp32 logits `[n, vocabulary]`, targets int64 `[n]` and, where there is one, the log-probabilities of a
reference, `[n, vocabulary]`, and returns the losses, fp32 `[n]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from .chunked import token_chunks
from .head_gradients import HeadGradients, scaled


class TokenLoss(Protocol):
    """The loss of each token."""

    def __call__(self, logits_nv: Tensor, targets_n: Tensor, anchor_nv: Tensor | None) -> Tensor:
        """Return the losses, `[n]`."""
        ...


@dataclass(frozen=True)
class LabelSmoothing:
    """Cross-entropy against the right token with `1 - share`, and all tokens alike with `share` (as torch has it)."""

    share: float

    def __call__(self, logits_nv: Tensor, targets_n: Tensor, anchor_nv: Tensor | None) -> Tensor:
        """Return `-(1 - share) log p - share mean(log p of all tokens)`."""
        log_probs_nv = logits_nv.log_softmax(-1)
        return -(1 - self.share) * _chosen(
            log_probs_nv, targets_n
        ) - self.share * log_probs_nv.mean(-1)


@dataclass(frozen=True)
class Dft:
    """Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629, eq. 9): the loss of a token times its probability."""

    def __call__(self, logits_nv: Tensor, targets_n: Tensor, anchor_nv: Tensor | None) -> Tensor:
        """Return `-sg(p) log p`; no gradient flows through the weight."""
        return _dft(logits_nv.log_softmax(-1), targets_n)


@dataclass(frozen=True)
class Asft:
    """Anchored supervised fine-tuning (Zhu et al. 2025, arXiv:2509.23753): DFT held near a reference q."""

    alpha: float

    def __call__(self, logits_nv: Tensor, targets_n: Tensor, anchor_nv: Tensor | None) -> Tensor:
        """Return `-sg(p) log p + alpha KL(q || p)`, the divergence of whole distributions."""
        assert anchor_nv is not None
        log_probs_nv = logits_nv.log_softmax(-1)
        divergences = functional.kl_div(log_probs_nv, anchor_nv, reduction="none", log_target=True)
        return _dft(log_probs_nv, targets_n) + self.alpha * divergences.sum(-1)


@dataclass(frozen=True)
class Eaft:
    """Entropy-adaptive fine-tuning (Diao et al. 2026, arXiv:2601.02151): less loss where the model is sure.

    The weight of a token is H^alpha, H being the entropy of the 20 most likely tokens among themselves, as a share of
    the largest it can be, ln 20.
    """

    alpha: float = 1.0

    def __call__(self, logits_nv: Tensor, targets_n: Tensor, anchor_nv: Tensor | None) -> Tensor:
        """Return `-H^alpha log p`; no gradient flows through the weight."""
        count = min(20, logits_nv.shape[-1])
        top_nk = logits_nv.detach().topk(count, dim=-1).values.log_softmax(-1)
        shares = -(top_nk.exp() * top_nk).sum(-1) / math.log(count)
        weights = shares.clamp(min=0) ** self.alpha
        return -weights * _chosen(logits_nv.log_softmax(-1), targets_n)


def _chosen(log_probs_nv: Tensor, targets_n: Tensor) -> Tensor:
    return log_probs_nv.gather(1, targets_n[:, None]).squeeze(1)


def _dft(log_probs_nv: Tensor, targets_n: Tensor) -> Tensor:
    chosen = _chosen(log_probs_nv, targets_n)
    return -chosen.detach().exp() * chosen


@dataclass(frozen=True)
class Anchor:
    """What a reference computes at the same places: logits, or hidden states and the head that makes logits of them."""

    values: Tensor
    """`[n, vocabulary]`, or `[n, hidden]` where there is a head."""
    head: Any = None
    bias: Tensor | None = None

    def log_probs(self, part: slice) -> Tensor:
        """Return the log-probabilities in some of the places, fp32 `[places, vocabulary]`."""
        values = self.values[part]
        if self.head is not None:
            bias = self.head.bias if self.bias is None else self.bias
            bias = None if bias is None else bias.to(values.dtype)
            values = functional.linear(values, self.head.weight.to(values.dtype), bias)
        return values.float().log_softmax(-1)


EVERYTHING = slice(None)


def loss_of_logits(
    logits_nv: Tensor,
    targets_n: Tensor,
    weights_n: Tensor | None,
    loss: TokenLoss,
    anchor: Anchor | None,
) -> Tensor:
    """Return what `linear_loss` does, of logits that are there."""
    logits_nv = logits_nv.float()
    known = None if anchor is None else anchor.log_probs(EVERYTHING)
    found = torch.stack(
        [
            loss(logits_nv, targets_n, known),
            functional.cross_entropy(logits_nv, targets_n, reduction="none").detach(),
        ]
    )
    return (found if weights_n is None else found * weights_n).sum(1)


class _LinearLoss(torch.autograd.Function):
    """Two sums over tokens: of a loss, whose gradient is computed with it chunk by chunk, and of the cross-entropy."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        bias_v: Tensor | None,
        targets_n: Tensor,
        weights_n: Tensor | None,
        loss: TokenLoss,
        anchor: Anchor | None,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:3]
        gradients = HeadGradients(needs, hidden_nh, weight_vh, bias_v)
        total = hidden_nh.new_zeros(2, dtype=torch.float32)
        for part in token_chunks(len(targets_n), weight_vh.shape[0]):
            hidden, targets = hidden_nh[part], targets_n[part]
            logits = functional.linear(hidden, weight_vh, bias_v).float()
            counts = 1.0 if weights_n is None else weights_n[part]
            known = None if anchor is None else anchor.log_probs(part)
            entropies = functional.cross_entropy(logits, targets, reduction="none")
            total[1] += (entropies * counts).sum()
            with torch.enable_grad():
                logits.requires_grad_(any(needs))
                summed = (loss(logits, targets, known) * counts).sum()
            total[0] += summed.detach()
            if any(needs):
                (slope,) = torch.autograd.grad(summed, logits)
                gradients.add(part, hidden, slope)
        ctx.gradients = gradients.result()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return (*scaled(gradients, grads[0][0]), None, None, None, None)


def linear_loss(
    hidden_nh: Tensor,
    weight_vh: Tensor,
    bias_v: Tensor | None,
    targets_n: Tensor,
    weights_n: Tensor | None,
    loss: TokenLoss,
    anchor: Anchor | None = None,
) -> Tensor:
    """Return the sums of the losses and of the cross-entropies of `hidden_nh @ weight_vh.T + bias_v`, fp32 `[2]`.

    Logits of policy and reference exist for one chunk of tokens at a time. Only the first sum has a gradient, which
    can be taken once. `weights_n` is what each token counts, fp32 `[n]`; other shapes as in `linear_cross_entropy_sum`.
    """
    apply: Any = _LinearLoss.apply
    return cast(Tensor, apply(hidden_nh, weight_vh, bias_v, targets_n, weights_n, loss, anchor))
