"""Rollouts: which prompts they take, who answers which, and their random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch

from ..data.batches import GlobalBatches
from ..objectives.online import OnlineObjective


class PromptOrder(GlobalBatches):
    """Prompt indices of every rollout; steps are those of the optimizer."""

    def __init__(self, batches: GlobalBatches, objective: OnlineObjective) -> None:
        """Take as many prompts at once as a rollout answers."""
        self.steps_per_rollout = objective.steps_per_rollout
        super().__init__(
            batches.lengths,
            global_size=objective.prompts_per_rollout(batches.global_size),
            seed=batches.seed,
            shuffle=batches.shuffle,
            group_by_length=batches.group_by_length,
        )

    def epochs_done(self, step: int) -> int:
        """Return how many epochs are complete after so many steps."""
        return super().epochs_done(step // self.steps_per_rollout)

    def epoch(self, step: int) -> float:
        """Return how often each prompt has been answered before `step`, on average; a rollout counts once begun."""
        return super().epoch(-(-step // self.steps_per_rollout))


def share_of(total: int, rank: int, num_ranks: int) -> list[int]:
    """Return the numbers of this process's part of `total`, as many on each; beyond the end it is the last again."""
    size = -(-total // num_ranks)
    return [min(number, total - 1) for number in range(rank * size, (rank + 1) * size)]


def without_end(answer: list[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens of an answer but the mark that ends it."""
    return answer[:-1] if answer[-1] in ends else answer


def seed_of(*numbers: int) -> int:
    """Return a seed that follows from the numbers, and from their order."""
    state = numpy.random.SeedSequence(list(numbers)).generate_state(1, numpy.uint64)
    return int(state[0] >> numpy.uint64(1))


@contextmanager
def own_random(seed: int) -> Iterator[None]:
    """Inside, random numbers follow from `seed`; afterwards they go on as if nothing had been drawn."""
    kept = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            numpy.random.set_state(kept[1])
