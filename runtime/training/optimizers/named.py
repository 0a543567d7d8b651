"""Optimizers by their names in transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from ...errors import ExitCode, UserError
from .adam import keep_embeddings
from .base import Settings

Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Named(Settings):
    """The optimizer that transformers makes for a name, with options handed on to its class."""

    name: str
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return the optimizer.

        Raises:
            UserError: its package is missing, or it does not know an option.
        """
        from transformers import Trainer

        try:
            create, chosen = Trainer.get_optimizer_cls_and_kwargs(self._arguments(), model)
        except (ImportError, ValueError, RuntimeError) as fault:
            raise self._fault(fault, ExitCode.ENVIRONMENT) from None
        if chosen.get("optim_bits") == 8:
            keep_embeddings(model)
        try:
            optimizer: torch.optim.Optimizer = create(
                self.groups(model, decayed), **{**chosen, **self.options}
            )
        except (TypeError, ValueError) as fault:
            raise self._fault(fault, ExitCode.SPEC) from None
        return optimizer

    def _arguments(self) -> Any:
        """Return what transformers reads of its training arguments here."""
        return SimpleNamespace(
            optim=self.name,
            optim_args=None,
            optim_target_modules=None,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-8,
            warmup_steps=0,
            gradient_accumulation_steps=1,
            parallel_mode=None,
        )

    def _fault(self, fault: Exception, code: ExitCode) -> UserError:
        return UserError(
            f"optimizer `{self.name}`: {str(fault).splitlines()[0]}",
            help="see `optimizer.options`; `tunec check` names the package it needs",
            code=code,
        )
