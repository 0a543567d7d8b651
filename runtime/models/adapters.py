"""Low-rank adapters, by PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Sequence[str],
    gradient_checkpointing: bool = False,
    reentrant: bool = False,
) -> Any:
    """Return the model with LoRA adapters on the modules named `targets`; only the adapters are trainable.

    `targets` may be `all-linear`: every linear layer but the output head. `reentrant` picks the older kind of
    gradient checkpointing.

    The update of a module is `alpha / rank * B A x` (Hu et al. 2021, arXiv:2106.09685), A drawn at random
    and B zero, so that training starts from the model as it was.

    Raises:
        UserError: a target matches no module.
    """
    from peft import LoraConfig, get_peft_model

    try:
        adapted = get_peft_model(
            model,
            LoraConfig(
                task_type="CAUSAL_LM",
                r=rank,
                lora_alpha=alpha,
                lora_dropout=dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
            ),
        )
    except ValueError as fault:
        raise UserError(
            f"cannot add adapters: {str(fault).splitlines()[0]}", help="see `method.targets`"
        ) from None
    _check_matched(adapted, targets)
    if gradient_checkpointing:
        adapted.enable_input_require_grads()
        adapted.gradient_checkpointing_enable({"use_reentrant": reentrant})
    return adapted


def _check_matched(adapted: Any, targets: Sequence[str]) -> None:
    """PEFT complains only when no target at all matches."""
    names = adapted.targeted_module_names
    for target in [] if isinstance(targets, str) else targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise UserError(
                f"cannot add adapters: the model has no module `{target}`",
                help="see `method.targets`",
            )


def is_adapted(model: Any) -> bool:
    """Tell whether the model carries PEFT adapters."""
    return hasattr(model, "peft_config")
