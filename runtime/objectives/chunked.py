"""The product with the output head, and what is made of it, in chunks.

The head is applied only to the positions that carry loss, a chunk at a time, so that a chunk is the largest tensor of
vocabulary width that exists (the idea of Liger's and Apple's fused losses, arXiv:2410.10989 and arXiv:2411.09009, in
plain torch). Of a sum of losses each chunk's gradient is computed at once, while its logits are there. Where the loss is
no such sum, the log-probability of each token is returned, and a chunk's logits are made again for its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from .head_gradients import HeadGradients, scaled

CHUNK_ELEMENTS = 2**24
"""Logits of one chunk: 64 MiB in fp32."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies of `hidden @ weight.T + bias` against `targets`, each times its weight."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        bias_v: Tensor | None,
        targets_n: Tensor,
        token_weights_n: Tensor | None,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:3]
        gradients = HeadGradients(needs, hidden_nh, weight_vh, bias_v)
        total = hidden_nh.new_zeros((), dtype=torch.float32)
        for part in token_chunks(len(targets_n), weight_vh.shape[0]):
            hidden, targets = hidden_nh[part], targets_n[part, None]
            logits = functional.linear(hidden, weight_vh, bias_v).float()
            normalizer = torch.logsumexp(logits, dim=-1, keepdim=True)
            losses = normalizer - logits.gather(1, targets)
            counts = None if token_weights_n is None else token_weights_n[part, None]
            total += (losses if counts is None else losses * counts).sum()
            if any(needs):
                slope = logits.sub_(normalizer).exp_()
                slope.scatter_add_(1, targets, slope.new_full((len(targets), 1), -1.0))
                if counts is not None:
                    slope.mul_(counts)
                gradients.add(part, hidden, slope)
        ctx.gradients = gradients.result()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return (*scaled(gradients, grads[0]), None, None)


def linear_cross_entropy_sum(
    hidden_nh: Tensor,
    weight_vh: Tensor,
    bias_v: Tensor | None,
    targets_n: Tensor,
    token_weights_n: Tensor | None = None,
) -> Tensor:
    """Return the summed cross-entropy (fp32 scalar) of `hidden_nh @ weight_vh.T + bias_v` against `targets_n`.

    `hidden_nh` is `[tokens, hidden]`, `weight_vh` `[vocabulary, hidden]`, `targets_n` int64 `[tokens]`, and
    `token_weights_n`, which the loss of each token is multiplied with, fp32 `[tokens]`.
    The gradient can be taken once.
    """
    apply: Any = _LinearCrossEntropy.apply
    return cast(Tensor, apply(hidden_nh, weight_vh, bias_v, targets_n, token_weights_n))


@dataclass(frozen=True)
class Wanted:
    """What is asked of each token beside its log-probability."""

    mean: bool = False
    """The mean log-probability of all tokens of the vocabulary, for label smoothing."""
    entropy: bool = False
    """The entropy of the prediction, in nats; without a gradient."""
    top: bool = False
    """Whether the token is the most likely one; without a gradient."""
    temperature: float = 1.0
    """What logits are divided by."""


LOG_PROB, MEAN, ENTROPY, TOP = range(4)
"""Rows of the scores of tokens."""


class _LinearScores(torch.autograd.Function):
    """What `hidden @ weight.T + bias` says of each target, fp32 `[4, tokens]`; logits are made again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        bias_v: Tensor | None,
        targets_n: Tensor,
        wanted: Wanted,
    ) -> Tensor:
        scores = hidden_nh.new_zeros((4, len(targets_n)), dtype=torch.float32)
        normalizers = scores.new_empty(len(targets_n))
        for part in token_chunks(len(targets_n), weight_vh.shape[0]):
            logits = _logits(hidden_nh[part], weight_vh, bias_v, wanted.temperature)
            targets = targets_n[part, None]
            normalizer = torch.logsumexp(logits, dim=-1)
            chosen = logits.gather(1, targets)
            normalizers[part] = normalizer
            scores[LOG_PROB, part] = chosen.squeeze(1) - normalizer
            if wanted.mean:
                scores[MEAN, part] = logits.mean(-1) - normalizer
            if wanted.top:
                scores[TOP, part] = (logits.amax(-1, keepdim=True) == chosen).squeeze(1).float()
            if wanted.entropy:
                likely = (logits - normalizer[:, None]).exp_()
                scores[ENTROPY, part] = normalizer - likely.mul_(logits).sum(-1)
        ctx.save_for_backward(hidden_nh, weight_vh, bias_v, targets_n, normalizers)
        ctx.wanted = wanted
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        hidden_nh, weight_vh, bias_v, targets_n, normalizers = ctx.saved_tensors
        wanted: Wanted = ctx.wanted
        slopes_n = grads[0][LOG_PROB] / wanted.temperature
        means_n = grads[0][MEAN] / wanted.temperature if wanted.mean else None
        gradients = HeadGradients(ctx.needs_input_grad, hidden_nh, weight_vh, bias_v)
        for part in token_chunks(len(targets_n), weight_vh.shape[0]):
            hidden, slope = hidden_nh[part], slopes_n[part, None]
            logits = _logits(hidden, weight_vh, bias_v, wanted.temperature)
            grad = logits.sub_(normalizers[part, None]).exp_()
            if means_n is None:
                grad.mul_(-slope)
            else:
                mean = means_n[part, None]
                grad.mul_(-(slope + mean)).add_(mean / weight_vh.shape[0])
            grad.scatter_add_(1, targets_n[part, None], slope)
            gradients.add(part, hidden, grad)
        return (*gradients.result(), None, None)


def token_chunks(count: int, vocabulary: int) -> Iterator[slice]:
    """Yield the parts of so many tokens whose logits exist at a time."""
    size = max(1, CHUNK_ELEMENTS // vocabulary)
    yield from (slice(start, start + size) for start in range(0, count, size))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = functional.linear(hidden, weight, bias).float()
    return logits if temperature == 1 else logits.div_(temperature)


def linear_scores(
    hidden_nh: Tensor,
    weight_vh: Tensor,
    bias_v: Tensor | None,
    targets_n: Tensor,
    wanted: Wanted = Wanted(),
) -> Tensor:
    """Return what `hidden_nh @ weight_vh.T + bias_v` says of each target, fp32 `[4, tokens]`, 0 where not wanted.

    The rows are `LOG_PROB`, `MEAN`, `ENTROPY` and `TOP`; the first two have gradients. Shapes as in
    `linear_cross_entropy_sum`.
    """
    apply: Any = _LinearScores.apply
    return cast(Tensor, apply(hidden_nh, weight_vh, bias_v, targets_n, wanted))


def scores_of_logits(logits_nv: Tensor, targets_n: Tensor, wanted: Wanted) -> Tensor:
    """Return what `linear_scores` does, of logits that are there; all rows have gradients but the last."""
    logits_nv = logits_nv.float() / wanted.temperature
    log_probs_nv = logits_nv.log_softmax(-1)
    chosen_n = log_probs_nv.gather(1, targets_n[:, None]).squeeze(1)
    nothing = torch.zeros_like(chosen_n)
    return torch.stack(
        [
            chosen_n,
            log_probs_nv.mean(-1) if wanted.mean else nothing,
            -(log_probs_nv.exp() * log_probs_nv).sum(-1).detach() if wanted.entropy else nothing,
            (log_probs_nv.amax(-1) == chosen_n).float() if wanted.top else nothing,
        ]
    )
