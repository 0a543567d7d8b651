"""What is measured beside the loss: means over samples, micro batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Tally:
    """Sums and counts of named values. All processes have the same names, so that they can add them up."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start with nothing counted."""
        self.names = tuple(names)
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, weights: Tensor | None = None) -> None:
        """Count values of any shape, each once or as often as `weights` of that shape says."""
        counts = torch.ones_like(values) if weights is None else weights
        values, counts = values.detach().double(), counts.double()
        found = torch.stack([(values * counts).sum(), counts.sum()])
        known = self._sums.get(name)
        self._sums[name] = found if known is None else known + found

    def take(self, device: torch.device) -> Tensor:
        """Return sum and count of each name, fp64 `[names, 2]`, and start again."""
        totals = torch.zeros((len(self.names), 2), dtype=torch.float64, device=device)
        for row, name in enumerate(self.names):
            if name in self._sums:
                totals[row] = self._sums[name]
        self._sums = {}
        return totals

    def means(self, totals: Tensor) -> dict[str, float]:
        """Return the means of what `take` returned (summed over processes); names without a value are left out."""
        return means(dict(zip(self.names, totals.tolist(), strict=True)))


def means(totals: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each (sum, count); names without a value are left out."""
    return {name: total / count for name, (total, count) in totals.items() if count}
