"""Matrix products in 8-bit floating point: weights, inputs and gradients are scaled and cast for each product.

Formats as in Micikevicius et al. 2022 (arXiv:2209.05433); scales follow from each tensor at each use, by torchao.
"""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ExitCode, UserError
from .quantization import linear_layers

MULTIPLE = 16
"""Matrix units take sizes that this divides."""


def use_fp8(model: Any, *, emulate: bool = False) -> Any:
    """Return the model whose linear layers, but the output head, multiply in fp8; parameters keep names and formats.

    Layers whose sizes 16 does not divide stay as they are, and so do adapters. `emulate` computes the same numbers
    where there are no such units.

    Raises:
        UserError: torchao is not installed, the GPU has no units for fp8, or no layer has sizes for them.
    """
    _check_device(emulate)
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError:
        raise UserError(
            "fp8 needs the package `torchao`",
            help="pip install 'tunec[torchao]'",
            code=ExitCode.ENVIRONMENT,
        ) from None
    chosen = {
        layer
        for _, name, layer in linear_layers(model)
        if layer.in_features % MULTIPLE == 0 and layer.out_features % MULTIPLE == 0
    }
    chosen -= {layer for name, layer in model.named_modules() if ".lora_" in name}
    if not chosen:
        raise UserError(
            f"no linear layer has sizes that {MULTIPLE} divides, which fp8 needs",
            help='write `training.precision = "bf16"`',
            code=ExitCode.SPEC,
        )
    convert_to_float8_training(
        model,
        config=Float8LinearConfig(emulate=emulate),
        module_filter_fn=lambda module, _: module in chosen,
    )
    return model


def fp8_layers(model: Any) -> int:
    """Return how many layers multiply in fp8."""
    return sum(type(module).__name__ == "Float8Linear" for module in model.modules())


def _check_device(emulate: bool) -> None:
    if emulate:
        return
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
    if capability < (8, 9):
        raise UserError(
            "this device has no units for fp8: they came with compute capability 8.9 (Ada, Hopper)",
            help='write `training.precision = "bf16"`',
            code=ExitCode.ENVIRONMENT,
        )
