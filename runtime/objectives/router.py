"""The loss that keeps the experts of a mixture-of-experts model equally busy, as transformers computes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ExitCode, UserError


class RouterLoss:
    """Load balancing (Fedus et al. 2021, arXiv:2101.03961, eq. 4 to 6), added to the loss of each micro batch.

    A micro batch counts by the items of its own loss. With one micro batch a step, the result is the loss that
    transformers returns for it.
    """

    def __init__(self, weight: float | None = None) -> None:
        """Take the weight; None for what the model's configuration says."""
        self.weight = weight or 0.0
        self._asked = weight
        self._sums: Tensor | None = None

    def attach(self, model: Any) -> None:
        """Look up what the model says where nothing was asked for.

        Raises:
            UserError: (ENVIRONMENT) a loss was asked for that this model does not compute.
        """
        own = getattr(model, "router_aux_loss_coef", None)
        if self._asked and own is None:
            raise UserError(
                f"a model of type `{model.config.model_type}` computes no loss for its router",
                help="remove `model.moe_aux_loss`",
                code=ExitCode.ENVIRONMENT,
            )
        if self._asked is None and own is not None:
            text = model.config.get_text_config()
            self.weight = float(own) if getattr(text, "output_router_logits", False) else 0.0

    @property
    def inputs(self) -> dict[str, bool]:
        """What the model is called with beside its batch."""
        return {"output_router_logits": True} if self._is_on else {}

    @property
    def _is_on(self) -> bool:
        # An evaluation measures the texts, not how the work on them is spread.
        return self.weight > 0 and torch.is_grad_enabled()

    def added(self, loss_sum: Tensor, outputs: Any, num_items: Tensor) -> Tensor:
        """Return the summed loss of a micro batch with this loss in it.

        Raises:
            UserError: (INTERNAL) no gradient would reach the routers.
        """
        if not self._is_on:
            return loss_sum
        loss: Tensor = outputs.aux_loss
        if loss_sum.requires_grad and not loss.requires_grad:
            raise UserError(
                "no gradient reaches the routers of this model",
                help="set `training.checkpointing_reentrant = false`, or remove `model.moe_aux_loss`",
                code=ExitCode.INTERNAL,
            )
        items = num_items.to(loss.device, torch.float32)
        seen = torch.stack([loss.detach().float() * items, items])
        self._sums = seen if self._sums is None else self._sums + seen
        return loss_sum + self.weight * items * loss.to(loss_sum.device)

    def take(self) -> Tensor | None:
        """Return the sum over the micro batches since the last call, and their items, fp32 `[2]`; None without any."""
        sums, self._sums = self._sums, None
        return sums
