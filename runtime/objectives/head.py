"""The output head fused with cross-entropy: no `[batch, sequence, vocabulary]` tensor, and no work on masked tokens.

The head is applied only to the positions that carry loss, a chunk at a time, and each chunk's gradient is
computed at once while its logits are there, so that a chunk is the largest tensor of vocabulary width that exists
(the idea of Liger's and Apple's fused losses, arXiv:2410.10989 and arXiv:2411.09009, in plain torch).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ExitCode, UserError

CHUNK_ELEMENTS = 2**24
"""Logits of one chunk: 64 MiB in fp32."""
CHANGES_LOGITS = re.compile(
    r"(final|output)?_?logits?_(soft_?cap(ping)?|scal(e|ing))"
    r"|lm_head_multiplier|output_multiplier(_scale)?|unpadded_vocab_size"
)
"""Names in configurations (Gemma 2, Granite, Cohere, Falcon-H1, xLSTM, ...) of what is done to logits after the head."""


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
        needs = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2])
        grad_hidden = torch.empty_like(hidden_nh) if needs[0] else None
        grad_weight = torch.zeros_like(weight_vh, dtype=torch.float32) if needs[1] else None
        grad_bias = (
            torch.zeros_like(bias_v, dtype=torch.float32)
            if needs[2] and bias_v is not None
            else None
        )
        total = hidden_nh.new_zeros((), dtype=torch.float32)
        size = max(1, CHUNK_ELEMENTS // weight_vh.shape[0])
        for start in range(0, hidden_nh.shape[0], size):
            hidden = hidden_nh[start : start + size]
            targets = targets_n[start : start + size, None]
            logits = functional.linear(hidden, weight_vh, bias_v).float()
            normalizer = torch.logsumexp(logits, dim=-1, keepdim=True)
            losses = normalizer - logits.gather(1, targets)
            counts = (
                None if token_weights_n is None else token_weights_n[start : start + size, None]
            )
            total += (losses if counts is None else losses * counts).sum()
            if any(needs):
                slope = logits.sub_(normalizer).exp_()
                slope.scatter_add_(1, targets, slope.new_full((len(targets), 1), -1.0))
                if counts is not None:
                    slope.mul_(counts)
                if grad_hidden is not None:
                    grad_hidden[start : start + size] = slope.to(weight_vh.dtype) @ weight_vh
                if grad_weight is not None:
                    grad_weight.addmm_(slope.T, hidden.float())
                if grad_bias is not None:
                    grad_bias += slope.sum(0)
        ctx.gradients = (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight_vh.dtype),
            None if grad_bias is None or bias_v is None else grad_bias.to(bias_v.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.gradients
        ctx.gradients = None
        scaled = [None if part is None else part.mul_(grads[0]) for part in (hidden, weight, bias)]
        return (*scaled, None, None)


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


def _fused_forward(head: Any, hidden_bth: Tensor) -> Tensor:
    weight, bias = head.weight, head.bias
    if getattr(head, "tunec_fp32", False):
        # The sums of products in fp32 too, not only what is made of them.
        hidden_bth, weight = hidden_bth.float(), weight.float()
        bias = None if bias is None else bias.float()
    if head.tunec_targets is None:
        return functional.linear(hidden_bth, weight, bias)
    targets_bt = head.tunec_targets
    kept = targets_bt >= 0
    weights_bt = head.tunec_weights
    loss = linear_cross_entropy_sum(
        hidden_bth[kept],
        weight,
        bias,
        targets_bt[kept],
        None if weights_bt is None else weights_bt[kept],
    )
    head.tunec_loss = loss.detach()
    return loss


class FusedHead:
    """A model's output head that returns the summed loss instead of logits while targets are set.

    The head stays the module it was, so that DeepSpeed gathers its weight under ZeRO-3 as ever.
    """

    def __init__(self, head: Any) -> None:
        """Make the head's forward pass look at its targets."""
        self.head: Any = head
        self.head.tunec_targets = self.head.tunec_weights = None
        self.head.tunec_loss = None
        self.checked = False
        self.head.forward = MethodType(_fused_forward, head)

    @contextmanager
    def targets(self, targets_bt: Tensor, weights_bt: Tensor | None = None) -> Iterator[None]:
        """Inside, the model's `logits` are the summed cross-entropy against `targets_bt` (negative: no loss).

        `weights_bt` is what the loss of each target is multiplied with, fp32 `[batch, sequence]`.
        """
        self.head.tunec_targets, self.head.tunec_weights = targets_bt, weights_bt
        try:
            yield
        finally:
            self.head.tunec_targets = self.head.tunec_weights = self.head.tunec_loss = None

    def check(self, loss: Tensor) -> None:
        """Fail when the model did something to what its head returned; the first loss that is a number above 0 tells.

        Raises:
            UserError: (INTERNAL) the loss would be another model's.
        """
        seen = self.head.tunec_loss
        if self.checked or seen is None or not seen or not torch.isfinite(seen):
            return
        if loss.shape != () or not torch.equal(loss.detach(), seen):
            raise UserError(
                "this model changes its logits after the output head in a way tunec does not know",
                help="please report the model; no wrong loss was used",
                code=ExitCode.INTERNAL,
            )
        self.checked = True


def fuse_head(model: Any) -> FusedHead | None:
    """Return the fused head of a causal language model, or None where its logits are changed after the head.

    Models that scale or cap their logits, and heads that are more than a plain linear layer (an adapter on the
    head), keep the ordinary way.
    """
    head = model.get_output_embeddings()
    settings = model.config.get_text_config().to_dict()
    changed = any(value and CHANGES_LOGITS.fullmatch(name) for name, value in settings.items())
    return None if changed or type(head) is not nn.Linear else FusedHead(head)
