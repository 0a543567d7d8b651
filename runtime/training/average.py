"""A running average of the weights, which is evaluated and saved in their place (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE = "average.pt"


class WeightAverage:
    """Averages the trained weights in fp32: `average = decay * average + (1 - decay) * weights` after each step.

    Every process holds the whole average; it does nothing without a decay.
    """

    def __init__(self, model: Any, decay: float | None) -> None:
        """Watch the parameters of `model` that are trained now: some optimizers switch them on and off."""
        self.decay = decay
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin(self, resume_from: Path | None) -> None:
        """Start from the weights, where the engine has put them, or from a checkpoint."""
        if self.decay is None:
            return
        self.values = {
            name: weight.detach().to(torch.float32, copy=True)
            for name, weight in self.parameters.items()
        }
        if resume_from is not None:
            saved = torch.load(resume_from / FILE, map_location="cpu", weights_only=True)
            for name, value in self.values.items():
                value.copy_(saved[name])

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights of the step that ends."""
        if self.decay is not None:
            for name, value in self.values.items():
                value.lerp_(self.parameters[name].detach().float(), 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in place of the weights; afterwards they are those of before to the last bit."""
        kept = {name: self.parameters[name].detach().clone() for name in self.values}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(kept)

    def save(self, folder: Path) -> None:
        """Write the average beside a checkpoint."""
        if self.decay is not None:
            torch.save({name: value.cpu() for name, value in self.values.items()}, folder / FILE)

    def report(self) -> dict[str, float]:
        """Return what the report says of it."""
        return {} if self.decay is None else {"ema_decay": self.decay}

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.parameters[name].data.copy_(value)
