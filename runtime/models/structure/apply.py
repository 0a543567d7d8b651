"""What the settings of a base model change: its configuration before the weights are read, its modules afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ExitCode, UserError
from ..parts import is_reward_model
from .kernels import check_attention
from .numerics import compute_logits_in_fp32, keep_norms_in_fp32
from .rope import forget_longer_texts, stretch
from .shifted import shift_attention

if TYPE_CHECKING:
    from ..load import Base

DEPTHS = "llama_mixture_of_depths"
"""Type of a model with routers, which only tunec knows."""


def configured(base: Base, hub: dict[str, Any]) -> dict[str, Any]:
    """Return the changed configuration as an argument of `from_pretrained`; nothing where the model stays as it is."""
    from transformers import AutoConfig

    if base.rope is None and base.mixture_of_depths == "off":
        return {}
    config = AutoConfig.from_pretrained(str(base.path), **hub)
    if base.mixture_of_depths == "load" and config.model_type != DEPTHS:
        raise UserError(
            f"a model of type `{config.model_type}` was not converted to mixture-of-depths",
            help='write `mixture_of_depths = "convert"`',
            code=ExitCode.ENVIRONMENT,
        )
    if base.mixture_of_depths == "convert":
        from .depths import with_routers

        config = with_routers(config)
    if base.rope is not None:
        stretch(config, base.rope)
    return {"config": config}


def is_expected(missing: str, base: Base) -> bool:
    """Tell whether a tensor that no file has is made anew."""
    return base.mixture_of_depths == "convert" and ".router." in missing


def finish(model: Any, base: Base) -> Any:
    """Return the loaded model with the modules that its settings ask for."""
    check_attention(model, base.attention)
    forget_longer_texts(model)
    if base.shifted_attention:
        shift_attention(model)
    if base.fp32_norms:
        keep_norms_in_fp32(model)
    if base.fp32_logits and not is_reward_model(model):
        compute_logits_in_fp32(model)
    return model
