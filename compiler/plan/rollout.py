"""Rollouts of PPO and GRPO: answers that are made at once, and the steps they are used for."""

from __future__ import annotations

from attrs import frozen

from ..spec import Grpo, Ppo, Spec


@frozen
class Rollout:
    """What happens between two generations of answers."""

    prompts: int
    answers: int
    steps: int
    """Optimizer steps; each takes a batch of the answers."""


def rollout_of(spec: Spec, total: int) -> Rollout | None:
    """Return the rollout of an objective that generates, with `total` answers a step; None for any other."""
    objective = spec.objective
    if isinstance(objective, Grpo):
        return Rollout(total // objective.group_size, total, objective.updates)
    if isinstance(objective, Ppo):
        answers = total * objective.buffer_batches
        return Rollout(answers, answers, objective.buffer_batches * objective.epochs)
    return None
