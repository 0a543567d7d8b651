"""A short name for what a model computes: its weights and its configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

PLACES = ("_name_or_path", "transformers_version")
"""Settings that do not change what is computed."""


def fingerprint(model: Any, *, trained: bool) -> str:
    """Return the SHA-256 of configuration, weights and buffers; without `trained`, of what is frozen.

    Where ZeRO-3 has spread the weights, every process looks at its share, and all must call it.
    """
    left_out = set() if trained else {n for n, p in model.named_parameters() if p.requires_grad}
    state = model.state_dict(keep_vars=True)
    names = [name for name in sorted(state) if name not in left_out]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: _digest(state[name]), names))
    config = {name: value for name, value in model.config.to_dict().items() if name not in PLACES}
    told = repr(
        (
            json.dumps(config, sort_keys=True, default=str),
            model.config._attn_implementation,
            list(zip(names, digests, strict=True)),
        )
    )
    mine = hashlib.sha256(told.encode()).hexdigest()
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return mine
    everyone = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    # Whole weights are the same everywhere.
    return hashlib.sha256("".join(dict.fromkeys(everyone)).encode()).hexdigest()


def _digest(value: Any) -> str:
    found = hashlib.sha256()
    for part in _plain(value):
        found.update(f"{part.dtype} {tuple(part.shape)}".encode())
        if part.numel():
            raw: Any = part.contiguous().view(torch.uint8).numpy()
            found.update(raw)
    if not isinstance(value, Tensor):
        found.update(repr(value).encode())
    return found.hexdigest()


def _plain(value: Any) -> Iterator[Tensor]:
    """Yield the plain tensors that a tensor is made of, on the CPU; quantized ones hold several."""
    if not isinstance(value, Tensor):
        return
    value = value.detach()
    shard = getattr(value, "ds_tensor", None)
    if hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from _plain(getattr(value, name))
    else:
        plain = (value if shard is None else shard).detach()
        yield plain.cpu().reshape(-1)
