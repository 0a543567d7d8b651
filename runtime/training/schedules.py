"""Schedules: the learning rate of each step as a share of its peak."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Name = Literal["constant", "linear", "cosine", "inverse-sqrt"]


class Schedule(Protocol):
    """The course of the learning rate after warm-up."""

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return the learning rate of a step from `warmup_steps` on, over its peak."""
        ...


@dataclass(frozen=True)
class Constant:
    """The peak, always."""

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Linear:
    """In a straight line to zero."""

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return what is left of the decay."""
        return max(0.0, (num_steps - step) / max(1, num_steps - warmup_steps))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave to zero (Loshchilov and Hutter 2016, arXiv:1608.03983)."""

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return half a wave."""
        return max(0.0, _half_wave(_progress(step, warmup_steps, num_steps)))


@dataclass(frozen=True, kw_only=True)
class CosineRestarts:
    """`cycles` half waves, each from the peak to zero (SGDR, arXiv:1608.03983)."""

    cycles: float = 1.0

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return the place on the current half wave."""
        progress = _progress(step, warmup_steps, num_steps)
        return 0.0 if progress >= 1.0 else max(0.0, _half_wave((self.cycles * progress) % 1.0))


@dataclass(frozen=True, kw_only=True)
class CosineMin:
    """Half a cosine wave to a floor above zero."""

    min_rate_ratio: float

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return half a wave over the floor."""
        return _above(self.min_rate_ratio, _half_wave(_progress(step, warmup_steps, num_steps)))


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """To zero as a power of what is left."""

    power: float = 1.0

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return the power of the share of steps that are left."""
        left = 1.0 - (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return float(max(0.0, left) ** self.power)


@dataclass(frozen=True)
class InverseSqrt:
    """As one over the square root of the steps (Vaswani et al. 2017, arXiv:1706.03762)."""

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return the decay; without warm-up its scale is 10,000 steps, as in transformers."""
        scale = warmup_steps or 10_000
        return 1.0 / math.sqrt((step + scale - warmup_steps) / scale)


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """The peak for `stable_steps`, then half a cosine wave to a floor (Hu et al. 2024, arXiv:2404.06395)."""

    stable_steps: int | None = None
    """None: a third of the steps after warm-up."""
    min_rate_ratio: float = 0.0

    def share(self, step: int, *, warmup_steps: int, num_steps: int) -> float:
        """Return the peak, the decay or the floor."""
        after = num_steps - warmup_steps
        stable = after // 3 if self.stable_steps is None else self.stable_steps
        if step < warmup_steps + stable:
            return 1.0
        decay = max(1, after - stable)
        progress = (step - warmup_steps - stable) / decay
        return _above(self.min_rate_ratio, _half_wave(min(1.0, progress)))


@dataclass(frozen=True, kw_only=True)
class Plateau(Constant):
    """`factor` times lower after more than `patience` evaluations in a row without a better loss.

    Better means lower by one part in 10,000 at least, as in torch's `ReduceLROnPlateau`.
    """

    factor: float = 0.1
    patience: int = 10


NAMES: dict[Name, Schedule] = {
    "constant": Constant(),
    "linear": Linear(),
    "cosine": Cosine(),
    "inverse-sqrt": InverseSqrt(),
}
"""Those without settings."""


@dataclass
class _Watch:
    """What the evaluations so far did to a rate that follows them."""

    best: float = math.inf
    num_worse: int = 0
    scale: float = 1.0

    def see(self, loss: float, plateau: Plateau) -> None:
        if loss < self.best * (1 - 1e-4):
            self.best, self.num_worse = loss, 0
        else:
            self.num_worse += 1
        if self.num_worse > plateau.patience:
            self.scale *= plateau.factor
            self.num_worse = 0


@dataclass
class _Place:
    """Where on the schedule a run is."""

    step: int = 0
    watch: _Watch = field(default_factory=_Watch)


class RateScheduler(LRScheduler):
    """Sets the learning rate of every group of an optimizer: linear warm-up from zero, then a schedule."""

    def __init__(
        self, optimizer: Optimizer, schedule: Schedule | Name, *, warmup_steps: int, num_steps: int
    ) -> None:
        """Set the rates of the first step."""
        self.schedule = NAMES[schedule] if isinstance(schedule, str) else schedule
        self.warmup_steps = warmup_steps
        self.num_steps = num_steps
        self.watch = _Watch()
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each group."""
        share = self.share(self.last_epoch)
        # torchao keeps rates as tensors.
        return [float(base) * share for base in self.base_lrs]

    def share(self, step: int) -> float:
        """Return the learning rate of a step over its peak."""
        if step < self.warmup_steps:
            return step / self.warmup_steps * self.watch.scale
        return self.watch.scale * self.schedule.share(
            step, warmup_steps=self.warmup_steps, num_steps=self.num_steps
        )

    def observe(self, loss: float) -> None:
        """Take note of an evaluation; a plateau lowers the rate of the next step."""
        if isinstance(self.schedule, Plateau):
            self.watch.see(loss, self.schedule)
            self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Return plain data: the place, and what evaluations did."""
        return asdict(_Place(self.last_epoch, self.watch))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`, and set the rates of the next step."""
        self.last_epoch = state_dict["step"]
        self._step_count = self.last_epoch + 1
        self.watch = _Watch(**state_dict["watch"])
        self._apply()

    def _apply(self) -> None:
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def _progress(step: int, warmup_steps: int, num_steps: int) -> float:
    return (step - warmup_steps) / max(1, num_steps - warmup_steps)


def _half_wave(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _above(floor: float, share: float) -> float:
    return max(0.0, share * (1 - floor) + floor)
