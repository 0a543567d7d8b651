"""Putting micro batches together, in this process or in some of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..rank import ignore_stop_signals
from .batches import MicroBatches
from .layouts import Batches

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Who puts batches together. However it is done, the batches and their order are the same."""

    workers: int = 0
    """Processes that do; 0 means the one that trains."""
    prefetch: int | None = None
    """Batches each of them prepares ahead; None leaves it to torch (2)."""
    persistent: bool = False
    """Keep the processes that put evaluation batches together from one evaluation to the next."""
    pin_memory: bool | None = None
    """Put batches into page-locked memory; None does so on GPUs."""

    def training(
        self, batches: Batches, order: MicroBatches, *, on_gpu: bool, seed: int
    ) -> DataLoader[Any]:
        """Return a loader of lists of micro batches; its processes live as long as the training."""
        return DataLoader(
            batches,
            batch_sampler=order,
            collate_fn=list,
            generator=torch.Generator().manual_seed(seed),
            **self._arguments(on_gpu),
        )

    def evaluation(
        self, batches: Batches, order: Iterable[list[int]], *, on_gpu: bool
    ) -> DataLoader[Any]:
        """Return a loader of micro batches."""
        return DataLoader(
            batches,
            sampler=order,
            batch_size=None,
            # Without one of its own it would draw from the generator that dropout draws from.
            generator=torch.Generator(),
            **self._arguments(on_gpu),
        )

    def _arguments(self, on_gpu: bool) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "prefetch_factor": self.prefetch if self.workers else None,
            "persistent_workers": self.persistent and self.workers > 0,
            "pin_memory": on_gpu if self.pin_memory is None else self.pin_memory,
            "worker_init_fn": ignore_stop_signals,
        }
