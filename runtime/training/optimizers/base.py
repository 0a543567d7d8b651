"""What optimizers have in common: their settings, groups of parameters, and optimizers made of several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import torch

from .lora_plus import LoraPlus
from .parameter_groups import ParameterGroup, grouped


class Optimizer(Protocol):
    """The settings of an optimizer."""

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""
        ...

    def create(
        self, model: Any, *, decayed: Collection[str], deepspeed: Mapping[str, Any]
    ) -> torch.optim.Optimizer:
        """Return the optimizer over the trainable parameters of the model.

        Parameters named in `decayed` get weight decay. `deepspeed` is the engine's configuration.
        """
        ...


@dataclass(frozen=True)
class Settings:
    """What every optimizer is told."""

    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    lora_plus: LoraPlus | None = None
    parameter_groups: Sequence[ParameterGroup] = ()

    def groups(self, model: Any, decayed: Collection[str]) -> list[dict[str, Any]]:
        """Return the trainable parameters: with weight decay and without, by names, or as LoRA+ has them."""
        if self.lora_plus is not None:
            return self.lora_plus.groups(
                model, decayed, rate=self.learning_rate, weight_decay=self.weight_decay
            )
        return grouped(
            trained(model),
            decayed,
            self.parameter_groups,
            rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )


def trained(model: Any) -> list[tuple[str, Any]]:
    """Return the trainable parameters with their names."""
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


def is_offloaded(deepspeed: Mapping[str, Any]) -> bool:
    """Tell whether the optimizer works on the host."""
    return "offload_optimizer" in deepspeed.get("zero_optimization", {})


class Combined(torch.optim.Optimizer):
    """Several optimizers as one; groups of parameters are theirs, so that a rate that is set here is set there."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Combine `parts`."""
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Let each optimizer do its step."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each part its state; loading makes new groups, which are looked up again."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


class Layerwise(Combined):
    """One optimizer a parameter, which does its step in the backward pass and throws the gradient away."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Let each of `parts`, which has a single parameter, follow that parameter's gradient."""
        super().__init__(parts)
        for part in self.parts:
            (parameter,) = part.param_groups[0]["params"]
            parameter.register_post_accumulate_grad_hook(_update_with(part))

    @property
    def names(self) -> set[str]:
        """The classes of the optimizers inside."""
        return {type(part).__name__ for part in self.parts}

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Do nothing: the backward pass did."""


def _update_with(optimizer: torch.optim.Optimizer) -> Callable[[Any], None]:
    def update(parameter: Any) -> None:
        optimizer.step()
        parameter.grad = None

    return update


def layerwise(
    create: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    groups: Iterable[dict[str, Any]],
) -> Layerwise:
    """Return `create` for each parameter of `groups` by itself."""
    return Layerwise(
        [
            create([{**group, "params": [parameter]}])
            for group in groups
            for parameter in group["params"]
        ]
    )
