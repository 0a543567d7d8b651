"""Which modules of the model a method puts something beside, by the rules PEFT goes by."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..facts import ModelFacts
from ..facts.config import BESIDE_LANGUAGE, sees_or_hears
from ..facts.weights import TensorFacts
from ..spec import LnTuning, Targeted, Targets
from .modules import BLOCK, HEADS, layers_of

EXPERT = re.compile(r"\.experts\.\d+\.")


def adapted(
    method: Targeted, model: ModelFacts, others: Targets | None = None
) -> dict[str, TensorFacts]:
    """Return the modules that get an adapter with the shapes of their weights; `others` replace the targets."""
    modules, layers = model.linear_modules(), layers_of(method, model)
    targets = method.targets if others is None else others
    if targets != "all-linear":
        every = _two_dimensional(model)
        modules = {n: t for n, t in every.items() if any(is_called(n, w) for w in targets)}
    return {
        name: tensor
        for name, tensor in modules.items()
        if not any(name.endswith(full) for full in method.full_modules)
        and (not layers or _block(name) in layers)
    }


def norms(method: LnTuning, model: ModelFacts) -> dict[str, int]:
    """Return the normalisation layers that are trained, with the number of their parameters."""
    tensors = model.tensors or {}
    sees = sees_or_hears(model.config)
    found = (
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if name.endswith(".weight")
        and len(tensor.shape) == 1
        and not (sees and BESIDE_LANGUAGE.search(name))
    )
    return {
        name: sum(tensors[t].count for t in (f"{name}.weight", f"{name}.bias") if t in tensors)
        for name in found
        if method.norms == "all" or any(is_called(name, wanted) for wanted in method.norms)
    }


def has_experts_apart(model: ModelFacts) -> bool:
    """Tell whether the file has each expert by itself: transformers stacks them, under other names, when it loads."""
    return any(EXPERT.search(name) for name in model.tensors or ())


def is_called(name: str, wanted: str) -> bool:
    """Tell whether a module is called `wanted`, or ends in `.wanted`."""
    return name == wanted or name.endswith(f".{wanted}")


def in_full(model: ModelFacts, modules: Sequence[str]) -> int:
    """Return the number of parameters of the modules that are trained in full."""
    tensors = model.tensors or {}
    found = {n for n in tensors for wanted in modules if f"{wanted}." in f"{n}."}
    count = sum(tensors[name].count for name in found)
    embeds = embedding(model)
    if embeds is not None and model.is_tied and HEADS & set(modules):
        # The head is trained in the embeddings' place, once.
        count += 0 if embeds[0] in found else embeds[1].count
    return count


def embedding(model: ModelFacts) -> tuple[str, TensorFacts] | None:
    """Return the input embeddings: the first two-dimensional weight that has a row for each token."""
    rows = model.embedding_rows
    for name, tensor in (model.tensors or {}).items():
        if len(tensor.shape) == 2 and tensor.shape[0] == rows and not _is_head(name):
            return name, tensor
    return None


def _two_dimensional(model: ModelFacts) -> dict[str, TensorFacts]:
    found = {
        name.removesuffix(".weight"): tensor
        for name, tensor in (model.tensors or {}).items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }
    embeds = embedding(model)
    if model.is_tied and embeds is not None:
        found.setdefault("lm_head", embeds[1])
    return found


def _is_head(name: str) -> bool:
    return name.removesuffix(".weight").rsplit(".", 1)[-1] in HEADS


def _block(name: str) -> int | None:
    found = BLOCK.search(f"{name}.")
    return int(found[1]) if found else None
