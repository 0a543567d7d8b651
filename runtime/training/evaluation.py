"""Evaluation: the mean loss over all samples that were held back, and over each set of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from ..data.layouts import Batches
from ..data.loader import Loading
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


def mean_losses(names: Sequence[str], totals: Tensor) -> dict[str, float]:
    """Return `eval_loss`, every item counted once, and `eval_loss/NAME` for each set that has a name.

    `totals` holds summed loss and number of items of each set, fp64 `[sets, 2]`.
    """
    each = {
        f"{EVAL_LOSS}/{name}": _mean(total)
        for name, total in zip(names, totals, strict=True)
        if name
    }
    return {EVAL_LOSS: _mean(totals.sum(0)), **each}


def _mean(total: Tensor) -> float:
    return float(total[0] / total[1].clamp(min=1))
