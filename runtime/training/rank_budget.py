"""AdaLoRA's ranks while training (Zhang et al. 2023, arXiv:2303.10512).

PEFT's allocator is told gradients that DeepSpeed does not keep until the step ends, and zeroes singular values that
DeepSpeed holds a second copy of. Both are seen to here; scores and budget are PEFT's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

FILE = "rank_budget.pt"


class RankBudget:
    """Moves the ranks of an AdaLoRA model after each step; does nothing for another model."""

    def __init__(self, model: Any, *, num_steps: int, num_ranks: int) -> None:
        """Watch the gradients of the adapters.

        Raises:
            UserError: no step is left between the warm-up and the final steps.
        """
        config: Any = getattr(model, "peft_config", {}).get("default")
        self.is_used = config is not None and config.peft_type == "ADALORA"
        self.config: Any = config
        self.num_ranks = num_ranks
        self.micro_batches = 1
        if not self.is_used:
            return
        config.total_step = num_steps
        if config.tinit >= num_steps - config.tfinal:
            raise UserError(
                f"no step of {num_steps} is left to move ranks",
                help="lower `method.warmup_steps` or `method.final_steps`, or train longer",
            )
        self.model = model.base_model.model
        self.allocator = model.base_model.rankallocator
        self.adapters = {n: p for n, p in self.model.named_parameters() if "lora_" in n}
        self.gradients: dict[str, Tensor] = {}
        for name, parameter in self.adapters.items():
            parameter.register_hook(self._keep(name))

    def _keep(self, name: str) -> Any:
        def keep(gradient: Tensor) -> None:
            seen = self.gradients.get(name)
            found = gradient.detach().float()
            self.gradients[name] = found.clone() if seen is None else seen + found

        return keep

    def penalty(self) -> Tensor | float:
        """Return what keeps the singular vectors orthogonal, for one micro batch of the step (equation 4)."""
        if not self.is_used:
            return 0.0
        parts = []
        for name, value in self.adapters.items():
            if "lora_A" in name or "lora_B" in name:
                product = value @ value.T if "lora_A" in name else value.T @ value
                parts.append(torch.linalg.norm(product - torch.eye(*product.shape).to(product)))
        weight = float(self.config.orth_reg_weight) / self.micro_batches
        return torch.stack(parts).mean() * weight

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Move the ranks after the optimizer's step of that number."""
        if not self.is_used:
            return
        config, allocator = self.config, self.allocator
        last = config.total_step - config.tfinal
        if number < last:
            self._score()
        if number <= last:
            budget, is_due = allocator.budget_schedule(number)
            # Without ranks to take away there is no score that separates any.
            if (is_due or number == last) and budget < allocator.init_bgt:
                config.rank_pattern = allocator.mask_to_budget(self.model, budget)
                self._write_through()
            if number == last:
                allocator.reset_ipt()
        elif config.rank_pattern:
            allocator.mask_using_rank_pattern(self.model, config.rank_pattern)
            self._write_through()
        self.gradients = {}

    def _score(self) -> None:
        """Update sensitivity and uncertainty of every number (equations 8 to 10), the same on every process."""
        allocator = self.allocator
        for name, parameter in self.adapters.items():
            gradient = self.gradients.get(name, torch.zeros_like(parameter))
            if self.num_ranks > 1:
                torch.distributed.all_reduce(gradient)
                gradient = gradient / self.num_ranks
            sensitivity = (parameter * gradient).abs()
            for kept in (allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc):
                kept.setdefault(name, torch.zeros_like(sensitivity))
            allocator.ipt[name] = sensitivity
            mean = allocator.exp_avg_ipt[name].lerp_(sensitivity, 1 - allocator.beta1)
            allocator.exp_avg_unc[name].lerp_((sensitivity - mean).abs(), 1 - allocator.beta2)

    def _write_through(self) -> None:
        """Give the optimizer's own copy of the singular values the zeros, or its next step would undo them."""
        from deepspeed.utils import safe_set_full_fp32_param

        for name, parameter in self.adapters.items():
            if "lora_E" in name and getattr(parameter, "_hp_mapping", None) is not None:
                safe_set_full_fp32_param(parameter, parameter.detach().float())

    def save(self, folder: Path) -> None:
        """Write what a resumed run needs."""
        if self.is_used:
            kept = self.allocator
            scores = (kept.ipt, kept.exp_avg_ipt, kept.exp_avg_unc)
            torch.save({"scores": scores, "pattern": self.config.rank_pattern}, folder / FILE)

    def load(self, folder: Path | None) -> None:
        """Go on from what `save` wrote."""
        if self.is_used and folder is not None:
            found = torch.load(folder / FILE, weights_only=True)
            kept = self.allocator
            kept.ipt, kept.exp_avg_ipt, kept.exp_avg_unc = found["scores"]
            self.config.rank_pattern = found["pattern"]
