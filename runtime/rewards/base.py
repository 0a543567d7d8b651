"""What a reward is given, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answered:
    """One generated answer."""

    prompt: str
    """Text of the prompt, marks of the chat template included."""
    answer: str
    """Text of the answer, without marks."""
    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    """Tokens of the answer, its end mark included where it has one."""
    expected: Any = None
    """What the data give beside the prompt (`answer`), any value of JSON."""


class Reward(Protocol):
    """Scores answers."""

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Prepare for a policy; return what the reward is, for the log."""
        ...

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer; all processes call it at the same time, each with as many answers.

        `model` is the engine around the policy.
        """
        ...
