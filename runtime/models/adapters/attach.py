"""Putting PEFT adapters on a model: what all methods have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import UserError
from ..parts import has_tower, is_reward_model, without_towers
from ..quantization import visible

Targets = Sequence[str] | str
"""Names of modules, or `all-linear`: every linear layer but the output head."""


def attach(
    model: Any,
    config: Any,
    *,
    targets: Targets = "all-linear",
) -> Any:
    """Return the model with the adapters that `config` describes; only they are trainable.

    Raises:
        UserError: PEFT refuses, or a target matches no module.
    """
    from peft import get_peft_model

    try:
        adapted = get_peft_model(model, config)
    except (ValueError, TypeError, AssertionError, NotImplementedError) as fault:
        cause = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(f"cannot add adapters: {cause}", help="see `method.targets`") from None
    _check_matched(adapted, targets)
    return adapted


def listed(targets: Targets) -> list[str] | str:
    """Return targets the way PEFT takes them."""
    return targets if isinstance(targets, str) else list(targets)


def common(
    model: Any, targets: Targets, layers: Sequence[int], full_modules: Sequence[str]
) -> dict[str, Any]:
    """Return what the configurations of all methods with targets are told."""
    towers = without_towers(model)
    return {
        "task_type": task_of(model),
        "target_modules": visible(model, listed(targets)),
        **({} if towers is None else {"exclude_modules": towers}),
        "layers_to_transform": list(layers) or None,
        "modules_to_save": list(full_modules) or None,
    }


def task_of(model: Any) -> str:
    """Return PEFT's name of what the model does; the head that scores is trained and saved with every adapter."""
    return "SEQ_CLS" if is_reward_model(model) else "CAUSAL_LM"


def refuse_towers(model: Any, method: str) -> None:
    """Raise `UserError` for a method that cannot leave out what a model sees or hears with, where it has such a part."""
    if has_tower(model):
        raise UserError(
            f"{method} cannot leave out the towers of a multimodal model",
            help='use another method, such as `method.type = "lora"`',
        )


def is_adapted(model: Any) -> bool:
    """Tell whether the model carries PEFT adapters."""
    return hasattr(model, "peft_config")


def is_tied(model: Any) -> bool:
    """Tell whether output head and input embeddings are one."""
    if is_reward_model(model):
        return False
    # Models that see say it of the whole, and some say nothing of the language model.
    for config in (model.config, model.config.get_text_config()):
        if hasattr(config, "tie_word_embeddings"):
            return bool(config.tie_word_embeddings)
    return False


def _check_matched(adapted: Any, targets: Targets) -> None:
    """PEFT complains only when no target at all matches."""
    for target in [] if isinstance(targets, str) else targets:
        names = adapted.targeted_module_names
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise UserError(
                f"cannot add adapters: the model has no module `{target}`",
                help="see `method.targets`",
            )
