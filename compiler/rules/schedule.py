"""The course of the learning rate."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..spec import Spec
from .look import evaluates_in_training, listed
from .rule import Rule

SCHEDULE: SpecPath = ("training", "schedule")
OPTIONS: dict[str, tuple[str, ...]] = {
    # Setting -> the schedules it belongs to.
    "min_rate_ratio": ("cosine-min", "warmup-stable-decay"),
    "cycles": ("cosine-restarts",),
    "power": ("polynomial",),
    "plateau_factor": ("plateau",),
    "plateau_patience": ("plateau",),
    "stable_steps": ("warmup-stable-decay",),
}


def check_options(spec: Spec) -> Iterator[Diagnostic]:
    """A setting belongs to another schedule.

    It would do nothing, and the learning rate would take another course than was written.

    Fails:
    ```toml
    [training]
    schedule = "cosine"
    power = 2.0
    ```
    Passes:
    ```toml
    [training]
    schedule = "polynomial"
    power = 2.0
    ```
    """
    for name, schedules in OPTIONS.items():
        if getattr(spec.training, name) is None or spec.training.schedule in schedules:
            continue
        yield error(
            "R807",
            f"`{name}` does not belong to the schedule `{spec.training.schedule}`",
            ("training", name),
            labels=(Label(SCHEDULE, "the schedule"),),
            helps=(f"it belongs to {listed(schedules)}",),
        )


def check_plateau(spec: Spec) -> Iterator[Diagnostic]:
    """A plateau cannot be seen without evaluations.

    The schedule lowers the learning rate whenever the evaluation loss stands still, so it needs that loss again and
    again.

    Fails:
    ```toml
    [training]
    schedule = "plateau"
    ```
    Passes:
    ```toml
    [training]
    schedule = "plateau"
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    ```
    """
    if spec.training.schedule == "plateau" and not evaluates_in_training(spec):
        yield error(
            "R808",
            "the schedule `plateau` follows the evaluation loss, and nothing is evaluated while training",
            SCHEDULE,
            helps=("set `evaluation.every_steps`, and hold rows out with `data.eval_rows`",),
        )


def check_floor(spec: Spec) -> Iterator[Diagnostic]:
    """The schedule has a floor, and nothing says how low it is.

    Fails:
    ```toml
    [training]
    schedule = "cosine-min"
    ```
    Passes:
    ```toml
    [training]
    schedule = "cosine-min"
    min_rate_ratio = 0.1
    ```
    """
    if spec.training.schedule == "cosine-min" and spec.training.min_rate_ratio is None:
        yield error(
            "R809",
            "the schedule `cosine-min` needs `min_rate_ratio`",
            SCHEDULE,
            helps=("write the floor as a share of the peak, such as `min_rate_ratio = 0.1`",),
        )


def check_stable(spec: Spec) -> Iterator[Diagnostic]:
    """Warm-up and the steps at the peak leave no step to decay in.

    Fails:
    ```toml
    [training]
    steps = 10
    schedule = "warmup-stable-decay"
    warmup_steps = 4
    stable_steps = 6
    ```
    Passes:
    ```toml
    [training]
    steps = 10
    schedule = "warmup-stable-decay"
    warmup_steps = 2
    stable_steps = 4
    ```
    """
    training = spec.training
    stable, warmup = training.stable_steps, training.warmup_steps or 0
    if training.steps is None or stable is None or training.schedule != "warmup-stable-decay":
        return
    if warmup < training.steps <= warmup + stable:
        yield error(
            "R813",
            f"{warmup:,} steps of warm-up and {stable:,} at the peak leave none of "
            f"{training.steps:,} to decay in",
            ("training", "stable_steps"),
            labels=(Label(("training", "steps"), "the training ends here"),),
            helps=(f"use fewer than {training.steps - warmup:,}",),
        )


RULES = (
    Rule("R807", "setting of another schedule", pure=check_options),
    Rule("R808", "plateau without evaluation", pure=check_plateau),
    Rule("R809", "floor not given", pure=check_floor),
    Rule("R813", "no steps to decay", pure=check_stable),
)
