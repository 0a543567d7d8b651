"""Saving adapters in PEFT's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .conversion import converted, is_converted


def belongs_to_adapter(model: Any) -> Any:
    """Return what tells by name and value whether a parameter of an adapted model is saved with its adapter."""
    prefix = getattr(model.base_model, "prefix", "")

    def belongs(name: str, parameter: Any) -> bool:
        return bool(parameter.requires_grad or (prefix and prefix in name))

    return belongs


def prompt_parameters(model: Any) -> list[Any]:
    """Return the parameters that PEFT reads from the model itself when it saves a prompt or a prefix."""
    encoder = getattr(model, "prompt_encoder", None)
    return [] if encoder is None else list(encoder.parameters())


def write_adapter(model: Any, folder: Path, state: dict[str, Tensor]) -> None:
    """Write configuration and tensors of the adapter to `folder`; `state` is that of the adapted model."""
    configs = model.peft_config
    trained = configs["default"]
    if is_converted(model):
        configs["default"], state = converted(model, state)
    try:
        # Beside the adapter that is trained there may be one that scores.
        model.save_pretrained(str(folder), state_dict=state, selected_adapters=["default"])
    finally:
        configs["default"] = trained
