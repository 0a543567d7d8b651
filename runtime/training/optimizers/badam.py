"""BAdam: Adam on one block of layers, or on a share of every matrix, at a time (Luo et al. 2024, arXiv:2404.02827)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from .base import Settings, trained


@dataclass(frozen=True, kw_only=True)
class BAdam(Settings):
    """BAdam by layers, by the badam package."""

    order: Literal["ascending", "descending", "random", "fixed"] = "ascending"
    start_block: int | None = None
    interval: int = 50
    verbose: int = 0

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return AdamW that looks at one block at a time; embeddings, last norm and head stay as they are."""
        parameters = [parameter for _, parameter in trained(model)]
        adamw = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        optimizer: torch.optim.Optimizer = _block_optimizer()(
            adamw,
            list(model.named_parameters()),
            switch_block_every=self.interval,
            start_block=0
            if self.order == "fixed" and self.start_block is None
            else self.start_block,
            switch_mode=self.order,
            verbose=self.verbose,
        )
        return optimizer


@dataclass(frozen=True, kw_only=True)
class BAdamRatio(Settings):
    """BAdam by shares of matrices, by the badam package; it has no weight decay."""

    ratio: float = 0.05
    mask: Literal["adjacent", "scatter"] = "adjacent"
    interval: int = 50
    verbose: int = 0

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return sparse Adam on a share of each parameter; embeddings and head stay as they are."""
        optimizer: torch.optim.Optimizer = _ratio_optimizer()(
            [{"params": [parameter for _, parameter in trained(model)]}],
            list(model.named_parameters()),
            update_ratio=self.ratio,
            mask_mode=self.mask,
            switch_every=self.interval,
            verbose=self.verbose,
            lr=self.learning_rate,
            # A head that is the embedding has no name of its own, and the package would look for it.
            include_lm_head=_is_tied(model),
        )
        return optimizer


def _nothing(parameter: Any) -> None:
    """Do nothing."""


def _is_tied(model: Any) -> bool:
    return not any("lm_head" in name for name, _ in model.named_parameters())


@cache
def _block_optimizer() -> Any:
    from badam import BlockOptimizer

    class BlockAdamW(BlockOptimizer):  # type: ignore[misc]
        """`BlockOptimizer` whose state says which block is trained, so that a run can go on."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # The package puts the state of AdamW in place of its own.
            del self.__dict__["state_dict"]

        def switch_trainable_params(self, verbose: int | None = None) -> None:
            """Go to the next block; the package would say so whatever `verbose` is."""
            self.active_block = self.current_block_idx
            super().switch_trainable_params(self.verbose)

        def state_dict(self) -> dict[str, Any]:
            """Return the state of AdamW, the block, and its weights in fp32."""
            return {
                "base": self.base_optimizer.state_dict(),
                "global_step": self.global_step,
                "active_block": self.active_block,
                "next_block": self.current_block_idx,
                "block_order": getattr(self, "block_order", None),
                "weights": [copy.detach() for copy in self.param_idx2hp.values()],
                "rates": [group["lr"] for group in self.param_groups],
            }

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Go on with the block of the state."""
            self.current_block_idx = state_dict["active_block"]
            if state_dict["block_order"] is not None:
                # Not empty, so that the switch draws no new order.
                self.block_order = [0]
            self.switch_trainable_params()
            self.current_block_idx = state_dict["next_block"]
            self.block_order = state_dict["block_order"]
            self.global_step = state_dict["global_step"]
            self.base_optimizer.load_state_dict(state_dict["base"])
            for copy, saved in zip(self.param_idx2hp.values(), state_dict["weights"], strict=True):
                copy.data.copy_(saved)
            for group, rate in zip(self.param_groups, state_dict["rates"], strict=True):
                group["lr"] = rate

    return BlockAdamW


@cache
def _ratio_optimizer() -> Any:
    from badam import BlockOptimizerRatio

    class RatioAdam(BlockOptimizerRatio):  # type: ignore[misc]
        """`BlockOptimizerRatio` whose state says which entries are trained, so that a run can go on."""

        def sparse_update_hook(self) -> Any:
            """Leave gradients whole in the backward pass: they are added up and clipped first."""
            self.make_sparse = super().sparse_update_hook()
            return _nothing

        def step(self, closure: Any = None) -> None:
            """Keep the chosen entries of each gradient, and update them."""
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.make_sparse(parameter)
            super().step(closure)

        def _generate_mask_scatter(self, *args: Any) -> Any:
            # The package seeds torch for its mask, and dropout would repeat itself.
            with torch.random.fork_rng(devices=[]):
                return super()._generate_mask_scatter(*args)

        def state_dict(self) -> dict[str, Any]:
            """Return the state of Adam and of the masks."""
            places = [self.sparse_dict[parameter] for _, parameter in self.named_parameters_list]
            masks = {tuple(shape): mask for shape, mask in self.mask_dict.items()}
            ratio = {"step": self.global_step, "places": places, "masks": masks}
            return {**super().state_dict(), "ratio": ratio}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Go on with the entries of the state."""
            ratio = state_dict["ratio"]
            self.global_step = ratio["step"]
            for (_, parameter), place in zip(
                self.named_parameters_list, ratio["places"], strict=True
            ):
                self.sparse_dict[parameter] = dict(place)
            self.mask_dict = {torch.Size(shape): mask for shape, mask in ratio["masks"].items()}
            super().load_state_dict({k: v for k, v in state_dict.items() if k != "ratio"})

    return RatioAdam
