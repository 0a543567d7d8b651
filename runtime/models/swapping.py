"""Other values in the place of parameters for a while, without a copy and without a trace afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .sharded import gathered


def trained_values(model: Any) -> dict[str, Tensor]:
    """Return copies of the parameters that are trained, whole also where ZeRO-3 has spread them."""
    copies = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with gathered(parameter):
                copies[name] = parameter.detach().clone()
    return copies


class Swap:
    """Values that take the place of parameters of the same names and shapes.

    What parameters point to is exchanged, not what they hold: a graph that still waits for its backward pass sees
    what it saw before. Under ZeRO-3 this process's share is exchanged, and what is gathered at the time.
    """

    def __init__(self, model: Any, values: Mapping[str, Tensor]) -> None:
        """Remember both; the engine may still move or cast the parameters."""
        parameters = dict(model.named_parameters())
        self._pairs = [(parameters[name], value) for name, value in values.items()]
        self._ready: list[tuple[Any, Tensor, Tensor | None]] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, the parameters have the other values."""
        if not self._ready:
            self._ready = [_fitted(parameter, value) for parameter, value in self._pairs]
        before = [_put(*each) for each in self._ready]
        try:
            yield
        finally:
            for (parameter, _, _), (whole, shard) in zip(self._ready, before, strict=True):
                _take_back(parameter, whole, shard)


def _fitted(parameter: Any, value: Tensor) -> tuple[Any, Tensor, Tensor | None]:
    """Return parameter, value and this process's share of it, in the format and on the device that it has now."""
    shard = getattr(parameter, "ds_tensor", None)
    if shard is None:
        return parameter, value.to(parameter.device, parameter.dtype), None
    size = shard.ds_numel
    start = size * torch.distributed.get_rank(parameter.ds_process_group)
    mine = value.flatten()[start : start + size].to(shard.device, shard.dtype)
    share = torch.zeros_like(shard)
    share[: len(mine)] = mine
    return parameter, value.to(_device(parameter, shard), shard.dtype), share


def _device(parameter: Any, shard: Tensor) -> torch.device:
    return parameter.device if parameter.numel() else shard.device


def _is_whole(parameter: Any) -> bool:
    return not hasattr(parameter, "ds_id") or parameter.ds_status.name == "AVAILABLE"


def _put(
    parameter: Any, value: Tensor, share: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Put a value in place; return what was there: the whole where it was there, and the share."""
    whole = shard = None
    if share is not None:
        shard = parameter.ds_tensor.data
        parameter.ds_tensor.data = share
    if _is_whole(parameter):
        whole = parameter.data
        parameter.data = value.to(whole.device)
    return whole, shard


def _take_back(parameter: Any, whole: Tensor | None, shard: Tensor | None) -> None:
    if shard is not None:
        parameter.ds_tensor.data = shard
    if whole is not None:
        parameter.data = whole
    elif _is_whole(parameter) and shard is not None:
        # Gathered inside, and kept for the next pass.
        world = torch.distributed.get_world_size(parameter.ds_process_group)
        parts = [torch.empty_like(shard) for _ in range(world)]
        torch.distributed.all_gather(parts, shard.contiguous(), group=parameter.ds_process_group)
        gathered_again = torch.cat(parts)[: parameter.ds_numel]
        parameter.data = gathered_again.view(parameter.ds_shape).to(parameter.device)
