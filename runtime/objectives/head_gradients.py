"""The gradients of a product with an output head, added up chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class HeadGradients:
    """Gradients of hidden states, weight and bias; None of what needs none. Those of weight and bias are sums in fp32."""

    def __init__(
        self, needs: Sequence[bool], hidden_nh: Tensor, weight_vh: Tensor, bias_v: Tensor | None
    ) -> None:
        """Make room for the gradients that are needed: of hidden states, weight and bias."""
        self.weight_vh, self.bias_v = weight_vh, bias_v
        self._hidden = torch.empty_like(hidden_nh) if needs[0] else None
        self._weight = torch.zeros_like(weight_vh, dtype=torch.float32) if needs[1] else None
        self._bias: Tensor | None = None
        if needs[2] and bias_v is not None:
            self._bias = torch.zeros_like(bias_v, dtype=torch.float32)

    def add(self, part: slice, hidden: Tensor, slope: Tensor) -> None:
        """Add those of some tokens, given the gradient of their logits, fp32 `[tokens, vocabulary]`."""
        if self._hidden is not None:
            self._hidden[part] = slope.to(self.weight_vh.dtype) @ self.weight_vh
        if self._weight is not None:
            self._weight.addmm_(slope.T, hidden.float())
        if self._bias is not None:
            self._bias += slope.sum(0)

    def result(self) -> Gradients:
        """Return the gradients in the formats of what they belong to."""
        weight, bias = self._weight, self._bias
        return (
            self._hidden,
            None if weight is None else weight.to(self.weight_vh.dtype),
            None if bias is None or self.bias_v is None else bias.to(self.bias_v.dtype),
        )


def scaled(gradients: Gradients, factor: Tensor) -> Gradients:
    """Return the gradients times a scalar, in place."""
    hidden, weight, bias = (None if part is None else part.mul_(factor) for part in gradients)
    return hidden, weight, bias
