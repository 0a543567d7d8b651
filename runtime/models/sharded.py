"""Whole tensors of a model whose weights may be spread over the processes (ZeRO stage 3)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def gathered(*parameters: Any) -> Any:
    """Return a context in which the parameters are whole on every process, and what rank 0 changes is kept."""
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0)


def is_sharded(engine: Any) -> bool:
    """Tell whether an engine spreads the weights over the processes."""
    spread = getattr(engine, "zero_optimization_partition_weights", None)
    return spread is not None and bool(spread())


def sharded_beside(model: Any, engine: Any) -> Any:
    """Return an engine for a frozen model that gathers the weights of each layer when needed, as that of the policy does."""
    import deepspeed

    config = copy.deepcopy(engine.config)
    for name in ("optimizer", "scheduler"):
        config.pop(name, None)
    # What is offloaded belongs to an optimizer, and there is none.
    config["zero_optimization"].pop("offload_optimizer", None)
    found = deepspeed.initialize(model=model, config=config)[0]
    found.eval()
    return found


@torch.no_grad()
def whole_state(model: Any, wanted: Callable[[str, Any], bool]) -> dict[str, Tensor]:
    """Return the state of a sharded model with the parameters that are `wanted`, by name, and all buffers.

    One parameter is gathered at a time, by all processes together; only rank 0 keeps it.
    """
    state: dict[str, Tensor] = {}
    keeps = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        if wanted(name, parameter):
            with gathered(parameter):
                if keeps:
                    state[name] = parameter.detach().cpu().clone()
    if keeps:
        kept = model.state_dict(keep_vars=True)
        state |= {n: v.detach() for n, v in kept.items() if n not in parameters}
    return state
