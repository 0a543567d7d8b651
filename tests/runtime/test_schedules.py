"""Schedules: equal to those of transformers step by step, or to the formula where transformers has another one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import optimization

import inprocess
import runs
from tunec.runtime import training
from tunec.runtime.training.schedules import Name, RateScheduler, Schedule

STEPS = 24


def rates(schedule: Schedule | Name, warmup: int) -> list[float]:
    """Return the learning rate of each step and of the one after the last."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = RateScheduler(optimizer, schedule, warmup_steps=warmup, num_steps=STEPS)
    return walk(optimizer, scheduler)


def walk(optimizer: torch.optim.Optimizer, scheduler: Any) -> list[float]:
    """Return the rates while the scheduler takes its steps."""
    seen = []
    for _ in range(STEPS + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


THEIRS: dict[str, tuple[Schedule | Name, str, dict[str, Any]]] = {
    "constant": ("constant", "constant_with_warmup", {}),
    "linear": ("linear", "linear", {}),
    "cosine": ("cosine", "cosine", {}),
    "inverse-sqrt": ("inverse-sqrt", "inverse_sqrt", {}),
    "one-restart": (training.CosineRestarts(), "cosine_with_restarts", {}),
    "restarts": (training.CosineRestarts(cycles=3), "cosine_with_restarts", {"num_cycles": 3}),
    "restarts-part": (training.CosineRestarts(cycles=2.5), "cosine_with_restarts", {"num_cycles": 2.5}),
    "min": (training.CosineMin(min_rate_ratio=0.1), "cosine_with_min_lr", {"min_lr_rate": 0.1}),
    "polynomial": (training.Polynomial(), "polynomial", {"lr_end": 0.0}),
    "power": (training.Polynomial(power=2.5), "polynomial", {"lr_end": 0.0, "power": 2.5}),
}  # fmt: skip


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("name", THEIRS)
def test_follows_the_schedule_of_transformers(name: str, warmup: int) -> None:
    """Every step has the learning rate that transformers gives it, to the last bit."""
    schedule, theirs, settings = THEIRS[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = optimization.get_scheduler(
        theirs, optimizer, num_warmup_steps=warmup, num_training_steps=STEPS,
        scheduler_specific_kwargs=settings,
    )  # fmt: skip
    assert rates(schedule, warmup) == walk(optimizer, scheduler)


@pytest.mark.parametrize("warmup", [0, 6])
def test_warmup_stable_decay_takes_a_third_for_the_peak(warmup: int) -> None:
    """Without `stable_steps` a third of the steps after warm-up is at the peak, the rest decays."""
    stable = (STEPS - warmup) // 3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = optimization.get_wsd_schedule(
        optimizer, num_warmup_steps=warmup, num_stable_steps=stable,
        num_decay_steps=STEPS - warmup - stable,
    )  # fmt: skip
    assert rates(training.WarmupStableDecay(), warmup) == walk(optimizer, scheduler)


def test_warmup_stable_decay_ends_on_its_floor() -> None:
    """Given steps at the peak are kept, warm-up starts at zero, and the end is the floor."""
    seen = rates(training.WarmupStableDecay(stable_steps=10, min_rate_ratio=0.25), 4)
    assert seen[:5] == pytest.approx([0, 0.075, 0.15, 0.225, 0.3])
    assert seen[4:15] == [0.3] * 11
    middle = 0.3 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * 5 / 10)))
    assert seen[19] == pytest.approx(middle)
    assert seen[24] == pytest.approx(0.075)


def test_plateau_is_that_of_torch() -> None:
    """The rate falls after more than `patience` evaluations without a better loss, as torch's scheduler has it."""
    losses = [3.0, 2.0, 2.0, 1.99995, 2.5, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 0.9]
    ours, theirs = [], []
    one = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = RateScheduler(
        one, training.Plateau(factor=0.5, patience=2), warmup_steps=0, num_steps=99
    )
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(other, factor=0.5, patience=2)
    for loss in losses:
        one.step()
        scheduler.step()
        scheduler.observe(loss)
        reference.step(loss)
        ours.append(one.param_groups[0]["lr"])
        theirs.append(other.param_groups[0]["lr"])
    assert ours == theirs
    assert len(set(ours)) == 3


def test_plateau_warms_up_first() -> None:
    """Warm-up is linear, also for the schedule that follows evaluations."""
    assert rates(training.Plateau(), 3)[:5] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.3])


def test_state_goes_on_where_it_was() -> None:
    """A scheduler with the saved state sets the rate of the next step, also a lowered one, for every group."""

    def fresh() -> tuple[torch.optim.Optimizer, RateScheduler]:
        groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.1, 0.2)]
        optimizer = torch.optim.SGD(groups)
        schedule = training.Plateau(factor=0.5, patience=0)
        return optimizer, RateScheduler(optimizer, schedule, warmup_steps=4, num_steps=9)

    optimizer, scheduler = fresh()
    for loss in (2.0, 3.0, 3.0):
        optimizer.step()
        scheduler.step()
        scheduler.observe(loss)
    again, resumed = fresh()
    resumed.load_state_dict(scheduler.state_dict())
    for _ in range(3):
        for group, other in zip(optimizer.param_groups, again.param_groups, strict=True):
            assert group["lr"] == other["lr"]
        for each, course in ((optimizer, scheduler), (again, resumed)):
            each.step()
            course.step()
    assert again.param_groups[1]["lr"] == pytest.approx(0.05)


PLATEAU = """
[data]
eval_rows = 3
[method]
type = "full"
[training]
steps = 8
learning_rate = 0.5
precision = "fp32"
gradient_checkpointing = false
schedule = "plateau"
plateau_factor = 0.5
plateau_patience = 0
warmup_steps = 2
[evaluation]
every_steps = 1
[deepspeed]
zero_stage = {stage}
"""


@pytest.mark.heavy
@pytest.mark.parametrize("stage", [0, 2])
def test_plateau_follows_the_evaluations_of_a_run(workspace: Path, stage: int) -> None:
    """A run lowers its rate after each evaluation that is not better, and one that was stopped does the same."""
    text = PLATEAU.format(stage=stage)
    whole = inprocess.compiled(workspace, text, "whole")
    inprocess.prepare(whole)
    inprocess.train(whole)
    rows = runs.metrics(whole)
    losses = [row["eval_loss"] for row in rows if "eval_loss" in row]
    scale, best, wanted = 1.0, math.inf, []
    for step in range(8):
        wanted.append(0.5 * min(1.0, step / 2) * scale)
        if losses[step] < best * (1 - 1e-4):
            best = losses[step]
        else:
            scale *= 0.5
    # A line carries the rate of the step it tells of.
    assert [row["learning_rate"] for row in rows if "loss" in row] == pytest.approx(wanted)
    assert scale < 1.0

    parts = inprocess.compiled(workspace, text, "parts")
    inprocess.prepare(parts)
    inprocess.train(parts, stop_after=6)
    inprocess.train(parts, resume=True)
    assert runs.exact_numbers(parts) == runs.exact_numbers(whole)
    assert runs.weights_digest(parts) == runs.weights_digest(whole)
