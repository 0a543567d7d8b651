"""Optimizers with little state: SGD, Adafactor and Lion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from .adam import State, keep_embeddings
from .base import Settings


@dataclass(frozen=True, kw_only=True)
class Sgd(Settings):
    """Stochastic gradient descent."""

    momentum: float = 0.0

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        return torch.optim.SGD(
            self.groups(model, decayed), lr=self.learning_rate, momentum=self.momentum
        )


@dataclass(frozen=True, kw_only=True)
class AdaFactor(Settings):
    """Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) with the learning rate of the schedule."""

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return transformers' Adafactor, which does not choose rates of its own."""
        from transformers.optimization import Adafactor

        optimizer: torch.optim.Optimizer = Adafactor(
            self.groups(model, decayed),
            lr=self.learning_rate,
            scale_parameter=False,
            relative_step=False,
        )
        return optimizer


@dataclass(frozen=True, kw_only=True)
class Lion(Settings):
    """Lion (Chen et al. 2023, arXiv:2302.06675)."""

    beta1: float = 0.9
    beta2: float = 0.99
    state: State = "fp32"

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return Lion, or that of bitsandbytes for other forms of state."""
        create: Any = SignMomentum
        if self.state != "fp32":
            from bitsandbytes import optim

            keep_embeddings(model)
            bits = 32 if self.state == "paged-32bit" else 8
            create = partial(optim.Lion, optim_bits=bits, is_paged=self.state.startswith("paged"))
        optimizer: torch.optim.Optimizer = create(
            self.groups(model, decayed), lr=self.learning_rate, betas=(self.beta1, self.beta2)
        )
        return optimizer


class SignMomentum(torch.optim.Optimizer):
    """Lion: the sign of a mix of momentum and gradient, with decoupled weight decay (algorithm 2 of the paper)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float]) -> None:
        """Take groups of parameters that say their `weight_decay`."""
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update each parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                momentum, gradient = state["exp_avg"], parameter.grad
                direction = momentum.lerp(gradient, 1 - beta1).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(direction, alpha=-group["lr"])
                momentum.lerp_(gradient, 1 - beta2)
