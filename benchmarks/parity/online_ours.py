"""Our side of GRPO's cases."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from cases import measured
from online_cases import CLIP_HIGH, CLIP_LOW, GRPO, KL, LONGEST, TEMPERATURE, answered, known
from peft import PeftModel
from transformers import LlamaForCausalLM

from tunec.runtime.objectives import Grpo, Sampling
from tunec.runtime.objectives.online import Experience
from tunec.runtime.training.experience import micro_batch


def online(folder: Path) -> dict[str, Any]:
    """Compute all cases."""
    return {case: grpo(folder, settings["loss"]) for case, settings in GRPO.items()}


def grpo(folder: Path, loss: Any) -> dict[str, Any]:
    """Return the loss, its gradients and what is measured beside it."""
    model = PeftModel.from_pretrained(
        LlamaForCausalLM.from_pretrained(folder / "model"), folder / "adapter", is_trainable=True
    )
    given: Any = SimpleNamespace(name="given", weight=1.0)
    objective = Grpo(
        rewards=[given], sampling=Sampling(max_new_tokens=LONGEST, temperature=TEMPERATURE), group_size=2,
        loss=loss, beta=KL, clip_low=CLIP_LOW, clip_high=CLIP_HIGH, updates=2,
    )  # fmt: skip
    objective.attach(model)
    prompts, answers = answered(folder)
    rewards, earlier, reference = known(answers)
    found = Experience(list(range(len(answers))), prompts, answers, rewards[None])
    found.tokens = {"log_probs": earlier, "reference": reference}
    objective.judge(found)
    batch = micro_batch(found, range(len(answers)), pad_token_id=2, pad_multiple=1)
    total = objective.loss_sum(model, batch) / objective.num_items(batch)
    means = objective.tally.means(objective.tally.take(torch.device("cpu")))
    names = ("kl", "entropy", "clip_share")
    return measured(total, model, **{name: means[name] for name in names if name in means})
