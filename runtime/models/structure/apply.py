"""What the settings of a base model change: its configuration before the weights are read, its modules afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .kernels import check_attention
from .numerics import compute_logits_in_fp32, keep_norms_in_fp32
from .rope import forget_longer_texts, stretch
from .shifted import shift_attention

if TYPE_CHECKING:
    from ..load import Base


def configured(base: Base, hub: dict[str, Any]) -> dict[str, Any]:
    """Return the changed configuration as an argument of `from_pretrained`; nothing where the model stays as it is."""
    from transformers import AutoConfig

    if base.rope is None:
        return {}
    config = AutoConfig.from_pretrained(str(base.path), **hub)
    stretch(config, base.rope)
    return {"config": config}


def finish(model: Any, base: Base) -> Any:
    """Return the loaded model with the modules that its settings ask for."""
    check_attention(model, base.attention)
    forget_longer_texts(model)
    if base.shifted_attention:
        shift_attention(model)
    if base.fp32_norms:
        keep_norms_in_fp32(model)
    if base.fp32_logits:
        compute_logits_in_fp32(model)
    return model
