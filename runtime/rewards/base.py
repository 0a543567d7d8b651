"""What a reward is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import UserError
from ..together import by_main, everyones, rank

LARGEST = 1e30
"""Scores beyond it are no judgement, and their squares no numbers in fp32."""


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

    name: str
    """What its scores are called in the metrics."""
    weight: float
    """What its scores are multiplied with where there are several rewards."""

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Prepare for a policy; return what the reward is, for the log."""
        ...

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer; all processes call it at the same time, each with as many answers.

        `model` is the engine around the policy.
        """
        ...


def scored_by_main(
    answered: Sequence[Answered], ask: Callable[[Sequence[Answered]], list[float]]
) -> list[float]:
    """Return the scores of this process's answers; rank 0 asks once, for the answers of all processes by rank.

    Raises:
        UserError: that of rank 0, on all processes.
    """
    shares = everyones(list(answered))
    scores = by_main(lambda: ask([one for share in shares for one in share]))
    ends = [sum(map(len, shares[: number + 1])) for number in range(len(shares))]
    end = ends[rank()]
    return scores[end - len(answered) : end]


def checked(told: str, scores: Any, answered: Sequence[Answered], *, help: str) -> list[float]:
    """Return scores as numbers, one for each answer.

    Raises:
        UserError: (TRAINING) they are no list of as many finite numbers; it names the first answer that has none.
    """
    tolist = getattr(scores, "tolist", None)
    found = tolist() if callable(tolist) else scores
    if not isinstance(found, list | tuple):
        raise UserError(f"{told} gave {_shown(found)} instead of a list of scores", help=help)
    if len(found) != len(answered):
        raise UserError(
            f"{told} gave {len(found):,} scores for {len(answered):,} answers", help=help
        )
    for number, (score, one) in enumerate(zip(found, answered, strict=True)):
        is_number = isinstance(score, int | float) or hasattr(score, "__float__")
        if not is_number or not abs(float(score)) <= LARGEST:
            raise UserError(
                f"{told} gave {_shown(score)} for answer {number} ({_shown(one.answer)})", help=help
            )
    return [float(score) for score in found]


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
