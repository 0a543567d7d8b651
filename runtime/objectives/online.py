"""What objectives share that learn from answers which the policy generates while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..data.samples import IGNORED
from ..rewards.base import Reward
from .base import Batch, Objective
from .chunked import Wanted
from .references import Reference

if TYPE_CHECKING:
    from .vllm_server import VllmServer


GAP = "generator_gap"
"""How far log-probabilities of a server's answers are from the policy's, a token."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means no such limit."""
    repetition_penalty: float = 1.0
    kv_cache: bool = True


@dataclass
class Experience:
    """Answers and what is known of them, in one order on all processes."""

    rows: list[int]
    """The sample whose prompt each answer is to."""
    prompts: list[list[int]]
    """Tokens of the prompt of each answer."""
    answers: list[list[int]]
    """Tokens of each answer, its end mark included."""
    rewards: Tensor
    """Scores by each reward, fp32 `[rewards, answers]`."""
    tokens: dict[str, list[Tensor]] = field(default_factory=dict)
    """What is known of each token of each answer, fp32 `[tokens]`, by name."""

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self.answers)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt with its answer."""
        return [len(p) + len(a) for p, a in zip(self.prompts, self.answers, strict=True)]


class OnlineObjective(Objective):
    """Learns from answers to prompts: generated, scored by rewards, and used for some steps.

    A rollout is what is generated at once: `buffer_batches` batches of answers. They are gone through `passes` times,
    a batch a step.
    """

    headline = "reward"
    own_measures: ClassVar[tuple[str, ...]] = ()
    """Names of what is measured beside what all such objectives do."""
    shared_measures: ClassVar[tuple[str, ...]] = (
        *("reward", "reward_std", "answer_tokens", "endless_share", "empty_share"),
        *("entropy", "clip_share"),
    )
    group_size: int = 1
    buffer_batches: int = 1
    passes: int = 1

    def __init__(
        self,
        *,
        rewards: Sequence[Reward],
        sampling: Sampling,
        generator: VllmServer | None = None,
        reference: Reference | None = None,
        router_loss: float | None = None,
    ) -> None:
        """Take what scores answers and how they are drawn; without `generator` the policy answers itself."""
        super().__init__(router_loss=router_loss, reference=reference)
        self.rewards = list(rewards)
        self.sampling = sampling
        self.generator = generator
        self.reward_names = _unique([reward.name for reward in self.rewards])
        each = [f"reward/{name}" for name in self.reward_names] if len(self.rewards) > 1 else []
        gap = (GAP,) if generator is not None else ()
        self.tally = type(self.tally)((*self.shared_measures, *each, *self.own_measures, *gap))

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that a rollout is used for."""
        return self.buffer_batches * self.passes

    def prompts_per_rollout(self, answers_per_step: int) -> int:
        """Return how many prompts are answered at once."""
        return self.buffer_batches * answers_per_step // self.group_size

    @property
    def wants_log_probs(self) -> bool:
        """Whether the log-probabilities before the first step are needed: after one step they are others."""
        return self.steps_per_rollout > 1

    def known(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """Return what is to be known of the tokens of answers before the first step on them, `[n]` each."""
        wanted = Wanted(temperature=self.sampling.temperature)
        return {"log_probs": self.scorer(model, batch, wanted).log_probs}

    def judge(self, experience: Experience) -> None:
        """Turn scores into advantages: add to `experience.tokens` what the loss needs, the same on all processes."""
        raise NotImplementedError

    def totals(self, experience: Experience) -> Tensor:
        """Return the weighed sum of the scores of each answer, `[answers]`."""
        weights = torch.tensor([reward.weight for reward in self.rewards])
        return weights @ experience.rewards

    def measure_rollout(self, experience: Experience, ends: frozenset[int]) -> None:
        """Count what is known of a rollout; to be called on one process."""
        self.measure_answers(experience, ends)

    def measure_answers(self, experience: Experience, ends: frozenset[int]) -> None:
        """Count what is known of answers as such; to be called on one process."""
        totals = self.totals(experience)
        self.tally.add("reward", totals)
        self.tally.add("reward_std", totals.std(correction=0)[None])
        for name, scores in zip(self.reward_names, experience.rewards, strict=True):
            if len(self.rewards) > 1:
                self.tally.add(f"reward/{name}", scores)
        answers = experience.answers
        self.tally.add("answer_tokens", torch.tensor([float(len(answer)) for answer in answers]))
        endless = [float(answer[-1] not in ends) for answer in answers]
        self.tally.add("endless_share", torch.tensor(endless))
        empty = [float(all(token in ends for token in answer)) for answer in answers]
        self.tally.add("empty_share", torch.tensor(empty))


def of_tokens(batch: Batch, name: str) -> Tensor:
    """Return what a batch holds of each token with a label, in the order of `Scores`, `[n]`."""
    return batch[name][:, 1:][batch["labels"][:, 1:] != IGNORED]


def num_answers(batch: Batch) -> Tensor:
    """Return the number of rows that hold an answer (a scalar)."""
    return (batch["labels"][:, 1:] != IGNORED).any(1).sum()


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names, with a number after one that was there before."""
    return [
        name if name not in names[:at] else f"{name}-{names[:at].count(name) + 1}"
        for at, name in enumerate(names)
    ]
