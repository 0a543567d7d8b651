"""A loss that is no number: which samples it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from ..data.origins import places
from ..data.samples import Samples
from ..errors import ExitCode, UserError
from ..together import everyones

MOST = 8
"""Samples that are named."""


class StepLosses:
    """The losses of the micro batches of a step on this process, kept until the step is seen to be sound."""

    def __init__(self) -> None:
        """Start with none."""
        self._losses: list[Tensor] = []

    def begin(self) -> None:
        """Forget those of the step before."""
        self._losses = []

    def add(self, loss: Tensor) -> None:
        """Take in the loss of the next micro batch."""
        self._losses.append(loss.detach())

    @property
    def bad(self) -> list[int]:
        """Return the micro batches whose loss is not finite."""
        return [n for n, loss in enumerate(self._losses) if not math.isfinite(float(loss))]

    def __len__(self) -> int:
        """Return the number of micro batches."""
        return len(self._losses)


def stop(
    losses: StepLosses,
    loss: float,
    *,
    step: int,
    samples: Samples,
    mine: Sequence[Sequence[int]],
    run_dir: Path,
) -> NoReturn:
    """End the run on all processes, which must all call it, with the samples behind a loss that is not finite.

    `mine` are the samples of the micro batches of the step on this process.

    Raises:
        UserError: (TRAINING) always.
    """
    chosen = [index for number in losses.bad[:1] if number < len(mine) for index in mine[number]]
    told = places(samples.rows, chosen, run_dir)
    found = everyones((told, len(losses.bad), len(losses)))
    named = next((told for told, _, _ in found if told), [])
    bad, total = sum(count for _, count, _ in found), sum(count for _, _, count in found)
    raise UserError(
        f"the loss of step {step} is {loss}, {_where(named, bad, total)}",
        help="look at these rows (`tunec preview`); lower `training.learning_rate`, set `training.max_grad_norm`, "
        "or use fp32; the last checkpoint is kept",
        code=ExitCode.TRAINING,
    )


def _where(named: Sequence[str], bad: int, total: int) -> str:
    if not named:
        return "though that of each micro batch is finite"
    more = f" and {len(named) - MOST:,} more" if len(named) > MOST else ""
    rows = f"{', '.join(named[:MOST])}{more}"
    if bad == total and total > 1:
        return f"in all {total} micro batches, as if the weights were broken before; the first is of {rows}"
    return f"in {bad} of {total} micro batches, the first of {rows}"
