"""GaLore and APOLLO: full training with optimizer state of low rank."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ...errors import ExitCode, UserError
from .base import Settings, layerwise

Targets = Sequence[str] | Literal["all-linear"]


@dataclass(frozen=True, kw_only=True)
class Galore(Settings):
    """GaLore: gradients projected to low rank (Zhao et al. 2024, arXiv:2403.03507), by galore-torch."""

    base: Literal["adamw", "adamw-8bit", "adafactor"] = "adamw"
    targets: Targets = "all-linear"
    rank: int = 16
    interval: int = 200
    scale: float = 2.0
    projection: Literal["std", "reverse-std", "right", "left", "full"] = "std"
    layerwise: bool = False

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return the base optimizer with projections for the targets."""
        projection = {
            "rank": self.rank,
            "update_proj_gap": self.interval,
            "scale": self.scale,
            "proj_type": self.projection.replace("-", "_"),
        }
        groups = split(self.groups(model, decayed), target_weights(model, self.targets), projection)
        return layerwise(self._create, groups) if self.layerwise else self._create(groups)

    def _create(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import galore_torch

        create, extra = {
            "adamw": (galore_torch.GaLoreAdamW, {"no_deprecation_warning": True}),
            "adamw-8bit": (galore_torch.GaLoreAdamW8bit, {}),
            "adafactor": (
                galore_torch.GaLoreAdafactor,
                {"scale_parameter": False, "relative_step": False},
            ),
        }[self.base]
        optimizer: torch.optim.Optimizer = create(groups, lr=self.learning_rate, **extra)
        return optimizer


@dataclass(frozen=True, kw_only=True)
class Apollo(Settings):
    """APOLLO: rates of channels or tensors from projected gradients (Zhu et al. 2024, arXiv:2412.05270)."""

    targets: Targets = "all-linear"
    rank: int = 16
    interval: int = 200
    scale: float = 32.0
    projection: Literal["random", "svd"] = "random"
    side: Literal["std", "right", "left"] = "std"
    scaling: Literal["channel", "tensor"] = "channel"
    layerwise: bool = False
    limit_after_scaling: bool = False

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return apollo-torch's AdamW."""
        projection = {
            "rank": self.rank,
            "update_proj_gap": self.interval,
            "scale": self.scale,
            "proj": self.projection,
            "proj_type": self.side,
            "scale_type": self.scaling,
        }
        groups = split(self.groups(model, decayed), target_weights(model, self.targets), projection)
        return layerwise(self._create, groups) if self.layerwise else self._create(groups)

    def _create(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import apollo_torch

        create: Callable[..., torch.optim.Optimizer] = _seeded(apollo_torch.APOLLOAdamW)
        # Its switch scales first, so that the limiter, which comes next, sees scaled gradients.
        return create(groups, lr=self.learning_rate, scale_front=self.limit_after_scaling)


def _seeded(parent: Any) -> Any:
    class ApolloAdamW(parent):  # type: ignore[misc]
        """APOLLO whose random projections do not depend on which object a parameter is.

        The library numbers parameters when it is made; DeepSpeed puts copies in fp32 in their place later.
        """

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.state.clear()

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            members = (p for group in self.param_groups for p in group["params"])
            for number, parameter in enumerate(members, start=1):
                self.state[parameter].setdefault("seed", number)
            return super().step(closure)

    return ApolloAdamW


def target_weights(model: Any, targets: Targets) -> set[int]:
    """Return the identities of the trainable weights of linear modules that `targets` means.

    `all-linear` is all but the head; a list holds names, or ends of names.

    Raises:
        UserError: nothing matches.
    """
    head = model.get_output_embeddings()
    found = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.weight.requires_grad
        and (module is not head if targets == "all-linear" else _is_named(name, targets))
    }
    if not found:
        raise UserError(
            f"optimizer.targets: no trained linear module matches {targets!r}",
            help='write `targets = "all-linear"`, or names such as `q_proj`',
            code=ExitCode.ENVIRONMENT,
        )
    return found


def _is_named(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def split(
    groups: Sequence[dict[str, Any]], targets: Collection[int], extra: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the groups with the targets in groups of their own, which are told `extra`."""
    found = []
    for group in groups:
        chosen = [p for p in group["params"] if id(p) in targets]
        others = [p for p in group["params"] if id(p) not in targets]
        found += [{**group, "params": others}] if others else []
        found += [{**group, **extra, "params": chosen}] if chosen else []
    return found
