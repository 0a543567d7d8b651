"""The schedule of the learning rate in programs."""

from __future__ import annotations

from ..spec import Training
from .literals import python_literal

CLASSES: dict[str, tuple[str, dict[str, str]]] = {
    # Schedule -> its class in the runtime, and the names of its arguments for those of the settings.
    "cosine-restarts": ("CosineRestarts", {"cycles": "cycles"}),
    "cosine-min": ("CosineMin", {"min_rate_ratio": "min_rate_ratio"}),
    "polynomial": ("Polynomial", {"power": "power"}),
    "plateau": ("Plateau", {"plateau_factor": "factor", "plateau_patience": "patience"}),
    "warmup-stable-decay": (
        "WarmupStableDecay",
        {"stable_steps": "stable_steps", "min_rate_ratio": "min_rate_ratio"},
    ),
}
"""Schedules with settings; the others are written by their names."""


def schedule_text(training: Training) -> str:
    """Return the schedule as Python text: its name, or a call with the settings that are given."""
    if training.schedule not in CLASSES:
        return python_literal(training.schedule)
    name, arguments = CLASSES[training.schedule]
    given = [
        f"{argument}={python_literal(value)}"
        for setting, argument in arguments.items()
        if (value := getattr(training, setting)) is not None
    ]
    return f"training.{name}({', '.join(given)})"
