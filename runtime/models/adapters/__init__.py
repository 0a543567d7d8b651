"""Adapters, by PEFT: small trained parts beside, in or before frozen weights."""

from .attach import is_adapted
from .calibration import first_batches
from .earlier import Merged, continue_adapter, merge_earlier
from .loftq import start_from_loss
from .lora import add_lora
from .newer import (
    add_c3a,
    add_fourierft,
    add_hra,
    add_miss,
    add_randlora,
    add_road,
    add_shira,
    add_vblora,
)
from .norms import add_ln_tuning
from .others import add_adalora, add_boft, add_ia3, add_loha, add_lokr, add_oft, add_vera
from .prompts import (
    add_p_tuning,
    add_prefix,
    add_prompt,
    num_virtual_tokens,
    text_ids,
    token_ids,
)

__all__ = [
    "Merged",
    "add_adalora",
    "add_boft",
    "add_c3a",
    "add_fourierft",
    "add_hra",
    "add_ia3",
    "add_ln_tuning",
    "add_loha",
    "add_lokr",
    "add_lora",
    "add_miss",
    "add_oft",
    "add_p_tuning",
    "add_prefix",
    "add_prompt",
    "add_randlora",
    "add_road",
    "add_shira",
    "add_vblora",
    "add_vera",
    "continue_adapter",
    "first_batches",
    "is_adapted",
    "merge_earlier",
    "num_virtual_tokens",
    "start_from_loss",
    "text_ids",
    "token_ids",
]
