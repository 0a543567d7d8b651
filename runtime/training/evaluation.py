"""Evaluation: the mean loss over all samples that were held back, and over each set of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from ..data.layouts import Batches
from ..data.loader import Loading
from ..objectives.tally import means
from .metrics import EVAL_LOSS


class Evaluation:
    """One set of evaluation samples, as this process sees them; without a name it is all there are."""

    def __init__(self, name: str, samples: Batches, order: list[list[int]]) -> None:
        """Remember the samples, and which of them each micro batch takes."""
        self.name = name
        self.samples = samples
        self.order = order
        self._loader: DataLoader[Any] | None = None

    def batches(self, loading: Loading, *, on_gpu: bool) -> DataLoader[Any]:
        """Return the micro batches; the loader stays, and with it its processes where they are to persist."""
        if self._loader is None:
            self._loader = loading.evaluation(self.samples, self.order, on_gpu=on_gpu)
        return self._loader


def mean_losses(
    sets: Sequence[str], measures: Sequence[str], totals: Tensor, *, perplexity: bool = False
) -> dict[str, float]:
    """Return `eval_loss` and `eval_MEASURE`, every item counted once, and `eval_loss/SET` for each set with a name.

    `totals` holds sum and count of the loss and of each measure of each set, fp64 `[sets, 1 + measures, 2]`. The
    `perplexity` of each is the exponential of its loss.
    """
    named = [(name, total) for name, total in zip(sets, totals, strict=True) if name]
    found: dict[str, float] = {}
    for chosen, total in [("", totals.sum(0)), *named]:
        measured = _means(measures, total)
        if perplexity:
            measured["eval_perplexity"] = exp(measured[EVAL_LOSS])
        found |= {f"{name}/{chosen}" if chosen else name: v for name, v in measured.items()}
    return found


def exp(value: float) -> float:
    """Return the exponential, infinite where it is beyond floating point."""
    return math.exp(value) if value < 700 or math.isnan(value) else math.inf


def _means(measures: Sequence[str], totals: Tensor) -> dict[str, float]:
    loss, *others = totals.tolist()
    found = means({f"eval_{name}": value for name, value in zip(measures, others, strict=True)})
    return {EVAL_LOSS: loss[0] / max(loss[1], 1), **found}
