"""Which modules a model has, read from the names of its tensors the way PEFT reads those of its modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..facts import ModelFacts

BLOCK = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.(.+)$")
HEADS = frozenset(("lm_head", "embed_out", "output"))
"""Names of the output head, which has no tensor of its own where it is tied to the embeddings."""


def has_module(model: ModelFacts, name: str) -> bool:
    """Tell whether a module is called `name`, or ends in `.name`."""
    wanted = f".{name}."
    return _is_tied_head(model, name) or any(wanted in f".{t}" for t in model.tensors or ())


def ends_module(model: ModelFacts, name: str) -> bool:
    """Tell whether the name of a module ends in `name`, as PEFT asks for modules that are trained in full."""
    wanted = f"{name}."
    return _is_tied_head(model, name) or any(wanted in tensor for tensor in model.tensors or ())


def has_parameter(model: ModelFacts, name: str) -> bool:
    """Tell whether a parameter is called `name`, or ends in `.name`."""
    wanted = f".{name}"
    return any(f".{tensor}".endswith(wanted) for tensor in model.tensors or ())


def num_blocks(model: ModelFacts) -> int | None:
    """Return the number of transformer blocks."""
    if model.num_layers is not None:
        return model.num_layers
    numbers = [int(number[:9]) for number, _ in _in_blocks(model)]
    return max(numbers) + 1 if numbers else None


def expanded_blocks(total: int, added: int) -> tuple[int, ...]:
    """Return the numbers of the blocks that block expansion added: the last of each group."""
    size = total // max(added, 1)
    return tuple(range(size - 1, total, max(size, 1)))


def layers_of(method: Any, model: ModelFacts) -> tuple[int, ...]:
    """Return the numbers of the blocks that get adapters; none for all of them."""
    added, total = getattr(method, "expanded_blocks", None), num_blocks(model)
    if added is not None and total is not None:
        return expanded_blocks(total, added)
    layers: tuple[int, ...] = getattr(method, "layers", ())
    return layers


def block_modules(model: ModelFacts) -> set[str]:
    """Return the names of the modules that a block is made of, such as `mlp`."""
    return {inner.partition(".")[0] for _, inner in _in_blocks(model) if "." in inner}


def is_in_block(model: ModelFacts, name: str) -> bool:
    """Tell whether a block has a module of this name, at any depth."""
    wanted = f".{name}."
    return any(wanted in f".{inner}" for _, inner in _in_blocks(model))


def outer_modules(model: ModelFacts) -> set[str]:
    """Return the names of the modules outside of the blocks, such as `embed_tokens`."""
    outside = (tensor for tensor in model.tensors or () if not BLOCK.search(tensor))
    names = {tensor.rsplit(".", 2)[-2] for tensor in outside if "." in tensor}
    return names | ({"lm_head"} if model.is_tied else set())


def _in_blocks(model: ModelFacts) -> Iterator[tuple[str, str]]:
    for tensor in model.tensors or ():
        if found := BLOCK.search(tensor):
            yield found[1], found[2]


def _is_tied_head(model: ModelFacts, name: str) -> bool:
    return name in HEADS and model.is_tied is not False
