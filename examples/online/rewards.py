"""Rewards of the example: plain rules on the answers, which are called with lists."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = 12
"""An answer of so many words or fewer is short."""


def brief(answers: Sequence[str]) -> list[float]:
    """Return 1 for short answers, and less the longer they are."""
    return [min(1.0, WORDS / max(len(answer.split()), 1)) for answer in answers]


def whole(answers: Sequence[str]) -> list[float]:
    """Return 1 for answers that end as a sentence does."""
    return [float(answer.rstrip().endswith((".", "!", "?"))) for answer in answers]
