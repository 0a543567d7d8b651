"""`[objective]`: what is minimised."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Sft:
    """Supervised fine-tuning: next-token cross-entropy on the answers."""

    type: Literal["sft"] = "sft"
    """`sft`: learn to give the answers in the data."""

    loss_on: Literal["assistant", "all"] = "assistant"
    """Tokens that carry loss: those of the `assistant` (each turn and its end mark), or `all`."""


Objective = Sft
