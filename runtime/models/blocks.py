"""Training some blocks of a model and leaving the rest as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from ..errors import UserError
from .parts import score_head


def train_blocks(
    model: Any,
    *,
    blocks: Sequence[int],
    modules: Literal["all"] | Sequence[str] = "all",
    extra_modules: Sequence[str] = (),
) -> Any:
    """Return the model with only the transformer blocks of these numbers trainable, or only `modules` of them.

    Numbers below 0 count from the end. `extra_modules` are modules outside of the blocks that are trained as well. The head of a
    reward model is always trained.

    Raises:
        UserError: a block or a module does not exist.
    """
    prefix, layers = _layers(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for number in blocks:
        if not -len(layers) <= number < len(layers):
            raise UserError(
                f"there is no block {number}: the model has {len(layers)}",
                help="see `method.blocks`",
            )
        parts = [layers[number]] if modules == "all" else _named(layers[number], modules)
        _train(parts)
    outside = [
        (name, module)
        for name, module in model.named_modules()
        if not name.startswith(f"{prefix}.")
    ]
    for wanted in extra_modules:
        _train([module for name, module in outside if _is_called(name, wanted)], wanted)
    head = score_head(model)
    _train([] if head is None else [head])
    return model


def blocks_of(model: Any) -> nn.ModuleList:
    """Return the blocks of the language model."""
    return _layers(model)[1]


def _layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Return name and list of the language model's blocks: as many as its configuration says."""
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    count = model.config.get_text_config().num_hidden_layers
    for name, module in found:
        if len(module) == count or len(found) == 1:
            return name, module
    raise UserError("the blocks of this model are not known", help="use another `method.type`")


def _named(block: nn.Module, wanted: Sequence[str]) -> list[nn.Module]:
    parts = []
    for word in wanted:
        named = [module for name, module in block.named_modules() if _is_called(name, word)]
        if not named:
            raise UserError(f"the blocks have no module `{word}`", help="see `method.modules`")
        parts += named
    return parts


def _is_called(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _train(parts: Sequence[nn.Module], wanted: str | None = None) -> None:
    if not parts and wanted is not None:
        raise UserError(
            f"there is no module `{wanted}` outside of the blocks",
            help="see `method.extra_modules`",
        )
    for part in parts:
        for parameter in part.parameters():
            parameter.requires_grad_(True)
