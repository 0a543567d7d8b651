"""What a reference computes at the places of a batch, kept until the policy's logits are made beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..data.layouts import model_inputs
from ..data.samples import IGNORED
from .head import FusedHead
from .references import Reference
from .scores import next_values
from .token_losses import Anchor


@torch.no_grad()
def anchor(reference: Reference, model: Any, batch: Mapping[str, Tensor]) -> Anchor:
    """Return the hidden states of the reference at the tokens with a label, or its logits where its head is no plain one.

    `model` is the engine around the policy.
    """
    with reference.scoring(model) as (engine, scorer):
        targets_bt = next_values(batch["labels"], IGNORED, scorer.front)
        if scorer.head is None:
            return Anchor(engine(**model_inputs(batch)).logits[targets_bt >= 0])
        with scorer.head.hidden(targets_bt):
            hidden = engine(**model_inputs(batch)).logits
        head = scorer.head.head
        # A trained bias is another one outside.
        bias = None if head.bias is None or hasattr(head.bias, "ds_id") else head.bias.clone()
        return Anchor(hidden, head, bias)


def gathered_head(known: Anchor | None, *, unless: FusedHead | None) -> Any:
    """Return a context in which the head of a sharded reference is whole; the policy's own is gathered with the policy."""
    if known is None or known.head is None or (unless and known.head is unless.head):
        return nullcontext()
    if not hasattr(known.head.weight, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(known.head.parameters()), modifier_rank=None)
