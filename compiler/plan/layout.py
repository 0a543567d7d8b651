"""What the spec leaves open about samples and rows: texts are split and joined, answers are not."""

from __future__ import annotations

from typing import Literal

from ..spec import Pretraining, Spec
from ..spec.data import TooLong


def too_long(spec: Spec) -> TooLong:
    """Return what happens with samples above `max_length`."""
    default: TooLong = "split" if isinstance(spec.objective, Pretraining) else "truncate"
    return spec.data.too_long or default


def packing(spec: Spec) -> Literal["off", "padding-free", "isolated", "joined"]:
    """Return what shares a row of a batch."""
    if spec.data.packing == "auto":
        return "joined" if isinstance(spec.objective, Pretraining) else "off"
    return spec.data.packing


def has_packed_rows(spec: Spec) -> bool:
    """Tell whether batches count rows that hold several samples; how many there are, only prepared data tell."""
    return packing(spec) in ("isolated", "joined")
