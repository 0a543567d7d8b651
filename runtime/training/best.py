"""Which weights are the best: the number that decides, and what hangs on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError
from .metrics import EVAL_LOSS

CHECKPOINTS = Path("checkpoints")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The number of an evaluation that says which weights are the best, and what is done with them."""

    metric: str = EVAL_LOSS
    """Its name in `metrics.jsonl`."""
    higher_is_better: bool = False
    load: bool = False
    """End with the best weights."""
    keep: bool = False
    """Keep their checkpoint."""
    patience: int | None = None
    """End after so many evaluations in a row without improvement."""


@dataclass
class BestSoFar:
    """What the evaluations so far came to. Of a number that is not finite nothing is learned."""

    value: float | None = None
    """The best of all evaluations."""
    step: int | None = None
    without: int = 0
    """Evaluations since then."""
    kept_value: float | None = None
    """The best of those evaluations whose weights are kept: in a checkpoint, or as the last of the run."""
    kept_step: int | None = None

    def see(self, value: float, step: int, *, is_kept: bool, higher_is_better: bool) -> None:
        """Take in the evaluation of a step; the first of equal ones stays the best."""
        self.without += 1
        if _is_better(value, self.value, higher_is_better):
            self.value, self.step, self.without = value, step, 0
        if is_kept and _is_better(value, self.kept_value, higher_is_better):
            self.kept_value, self.kept_step = value, step


def _is_better(value: float, than: float | None, higher: bool) -> bool:
    if not math.isfinite(value):
        return False
    return than is None or (value > than if higher else value < than)


class Watch:
    """Follows the evaluations of a run."""

    def __init__(self, best: Best | None) -> None:
        """Start with nothing seen; without a `Best` nothing ever is."""
        self.best = best
        self.seen = BestSoFar()
        self.ended_at: int | None = None
        """The step at which patience ended."""

    def see(self, metrics: Mapping[str, Any], step: int, *, is_kept: bool) -> None:
        """Take in an evaluation.

        Raises:
            UserError: (CONFLICT) the evaluation does not give the number that decides.
        """
        if self.best is None:
            return
        value = metrics.get(self.best.metric)
        if value is None:
            names = ", ".join(f"`{name.removeprefix('eval_')}`" for name in metrics)
            raise UserError(
                f"the evaluation of step {step} gives no `{self.best.metric.removeprefix('eval_')}`, which decides what is best",
                help=f"it gives {names}: set `evaluation.metric` to one of them",
                code=ExitCode.CONFLICT,
            )
        self.seen.see(value, step, is_kept=is_kept, higher_is_better=self.best.higher_is_better)
        if self.best.patience is not None and self.seen.without >= self.best.patience:
            self.ended_at = step

    @property
    def is_on(self) -> bool:
        """Tell whether no evaluation may be missed."""
        return self.best is not None

    @property
    def protected(self) -> set[Path]:
        """Return the checkpoint that must stay."""
        step = self.seen.kept_step
        if self.best is None or step is None or not (self.best.keep or self.best.load):
            return set()
        return {checkpoint(step)}

    def to_load(self, last_step: int) -> Path | None:
        """Return the checkpoint whose weights the run ends with; None for the weights it has."""
        step = self.seen.kept_step
        if self.best is None or not self.best.load or step in (None, last_step):
            return None
        return checkpoint(step)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return asdict(self.seen)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self.seen = BestSoFar(**state)

    def told(self, last_step: int) -> str | None:
        """Return in words which weights a run ends with, where it could be others than the last."""
        best, seen = self.best, self.seen
        if best is None or not best.load:
            return None
        name = best.metric.removeprefix("eval_")
        if seen.kept_step is None or seen.kept_value is None:
            return f"warning: no evaluation gave a finite `{name}`: final/ holds the last weights"
        what = f"final/ holds step {seen.kept_step}, the best by {name} ({seen.kept_value:.4f})"
        return what if seen.kept_step == last_step else f"{what}, not step {last_step}, the last"

    def report(self, last_step: int) -> dict[str, Any]:
        """Return what the report says of it."""
        best, seen = self.best, self.seen
        if best is None:
            return {}
        loaded = best.load and seen.kept_step is not None
        found: dict[str, Any] = {
            "best": {"metric": best.metric, "value": seen.value, "step": seen.step},
            "final_step": seen.kept_step if loaded else last_step,
        }
        if self.ended_at is not None:
            found["stopped_early"] = {
                "step": self.ended_at,
                "reason": f"{seen.without} evaluations in a row without a better {best.metric}",
            }
        return found


def checkpoint(step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return CHECKPOINTS / f"step-{step}"
