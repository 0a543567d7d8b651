"""TRL's side of GRPO's cases: one call of `GRPOTrainer`'s loss, with advantages by its own formula."""

# mypy finds the peer nowhere.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import measured
from online_cases import CLIP_HIGH, CLIP_LOW, GRPO, KL, LONGEST, TEMPERATURE, answered, known
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

Made = Callable[..., Any]


def online(folder: Path, made: Made) -> dict[str, Any]:
    """Compute all cases; `made` returns a trainer around the model."""
    return {case: grpo(folder, made, settings["trl"]) for case, settings in GRPO.items()}


def grpo(folder: Path, made: Made, settings: Any) -> dict[str, Any]:
    """Return what `GRPOTrainer` computes."""
    trainer = made(
        GRPOTrainer, GRPOConfig, folder, reward_funcs=[_nothing], beta=KL, epsilon=CLIP_LOW, epsilon_high=CLIP_HIGH,
        temperature=TEMPERATURE, max_completion_length=LONGEST, num_generations=2, num_iterations=2,
        # The divergence as in the paper, which is not weighed by the ratio.
        use_bias_correction_kl=False, **settings,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    prompts, answers = answered(folder)
    rewards, earlier, reference = known(answers)
    groups = rewards.view(-1, 2)
    advantages = groups - groups.mean(1, keepdim=True)
    if settings.get("scale_rewards") != "none":
        advantages = advantages / (groups.std(1, keepdim=True) + 1e-4)
    inputs = {
        "prompt_ids": padded([torch.tensor(one) for one in prompts], 2, left=True),
        "prompt_mask": padded([torch.ones(len(one)).long() for one in prompts], 0, left=True),
        "completion_ids": padded([torch.tensor(one) for one in answers], 2),
        "completion_mask": padded([torch.ones(len(one)).long() for one in answers], 0),
        "old_per_token_logps": padded(earlier, 0.0),
        "ref_per_token_logps": padded(reference, 0.0),
        "advantages": advantages.flatten(),
        # It counts all steps that a generation is used for.
        "num_items_in_batch": torch.tensor(sum(map(len, answers)) * trainer.args.steps_per_generation),
    }  # fmt: skip
    loss = trainer._compute_loss(trainer.model, inputs)
    noted = trainer._metrics["train"]
    # For a ratio of whole answers TRL counts the clipped answers, not their tokens.
    shares = {} if "importance_sampling_level" in settings else {"clip_share": noted["clip_ratio/region_mean"][-1]}  # fmt: skip
    return measured(loss, trainer.model, kl=noted["kl"][-1], entropy=noted["entropy"][-1], **shares)


def padded(rows: list[Tensor], fill: float, *, left: bool = False) -> Tensor:
    """Return rows as one tensor."""
    side = "left" if left else "right"
    found: Tensor = torch.nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=fill, padding_side=side
    )
    return found


def _nothing(completions: list[Any], **given: Any) -> list[float]:
    return [0.0] * len(completions)
