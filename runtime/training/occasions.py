"""When things happen beside the training: evaluations, checkpoints, lines of metrics."""

from __future__ import annotations

from dataclasses import dataclass

from .best import Best


@dataclass(frozen=True, kw_only=True)
class Occasions:
    """After which steps there is an evaluation, a checkpoint, a line of metrics. The last step has a line and an evaluation."""

    eval_every: int | None = None
    eval_each_epoch: bool = False
    eval_at_start: bool = False
    """Evaluate before the first step."""
    eval_delay: int = 0
    """Steps before the first of these evaluations."""
    save_every: int = 0
    save_each_epoch: bool = False
    log_every: int = 10
    log_first_step: bool = False
    log_each_epoch: bool = False
    best: Best | None = None

    def evaluates(self, step: int, *, ends_epoch: bool) -> bool:
        """Tell whether the held-out samples are evaluated after a step."""
        is_due = _each(step, self.eval_every) or (self.eval_each_epoch and ends_epoch)
        return is_due and step >= self.eval_delay

    def saves(self, step: int, *, ends_epoch: bool) -> bool:
        """Tell whether a checkpoint is saved after a step."""
        return _each(step, self.save_every) or (self.save_each_epoch and ends_epoch)

    def logs(self, step: int, *, ends_epoch: bool) -> bool:
        """Tell whether the numbers since the last line make one."""
        return (
            _each(step, self.log_every)
            or (self.log_first_step and step == 1)
            or (self.log_each_epoch and ends_epoch)
        )


def _each(step: int, every: int | None) -> bool:
    return step > 0 and bool(every) and step % (every or 1) == 0
