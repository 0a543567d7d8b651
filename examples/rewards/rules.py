"""Rewards by functions: `{ type = "function", path = "rules.py", name = "right" }`."""

from __future__ import annotations

from typing import Any


def right(answers: list[str], expected: list[Any]) -> list[float]:
    """Give 1 to each answer that holds what the data expect."""
    return [float(str(wanted) in answer) for answer, wanted in zip(answers, expected, strict=True)]


def brief(answers: list[str]) -> list[float]:
    """Take a little off for each character."""
    return [-0.001 * len(answer) for answer in answers]
