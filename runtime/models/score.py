"""The score of a text: the one number that a reward model's head makes of the text's last token."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.layouts import model_inputs
from .adapters.prompts import num_virtual_tokens
from .parts import score_head


def compute_in_fp32(head: nn.Linear) -> None:
    """Multiply the hidden states with the head in fp32, whatever both are stored in: scores of 16 bits have steps."""
    # Bound, so that a copy of the head computes with its own weights.
    head.forward = MethodType(_linear_fp32, head)  # type: ignore[method-assign]


def _linear_fp32(head: Any, hidden: Tensor) -> Tensor:
    return functional.linear(hidden.float(), head.weight.float())


def last_positions(mask_bt: Tensor) -> Tensor:
    """Return the position of each row's last token that is no padding, int64 `[rows]`."""
    positions = torch.arange(mask_bt.shape[1], device=mask_bt.device)
    return (positions * mask_bt.ne(0)).argmax(1)


class ScoreReader:
    """Reads the scores of texts at their last token by the attention mask, whatever tokens there are.

    transformers looks for the last token that is not the one of padding, and so takes another where texts end in that.
    Here the head computes one score a row and returns it at every position: whichever is picked is right. The head
    stays the module it was, so that DeepSpeed gathers its weight under ZeRO-3 as ever.
    """

    def __init__(self, model: Any) -> None:
        """Make the model's head look at the rows that are scored."""
        self._last: Tensor | None = None
        self._front = num_virtual_tokens(model)
        head = score_head(model)
        head.register_forward_pre_hook(self._narrow)
        head.register_forward_hook(self._widen)

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of a batch of `input_ids` and `attention_mask` `[rows, length]`, fp32 `[rows]`.

        `model` may be the engine around the model this reader was made for.
        """
        self._last = last_positions(batch["attention_mask"]) + self._front
        try:
            logits_b1: Tensor = model(**model_inputs(batch)).logits
        finally:
            self._last = None
        return logits_b1[:, 0].float()

    def _narrow(self, _head: Any, inputs: tuple[Any, ...]) -> Any:
        if self._last is None:
            return None
        hidden_bth, *rest = inputs
        self._length = hidden_bth.shape[1]
        rows = torch.arange(len(hidden_bth), device=hidden_bth.device)
        return (hidden_bth[rows, self._last.to(hidden_bth.device)][:, None], *rest)

    def _widen(self, _head: Any, _inputs: Any, score_b11: Tensor) -> Tensor | None:
        return None if self._last is None else score_b11.expand(-1, self._length, -1)
