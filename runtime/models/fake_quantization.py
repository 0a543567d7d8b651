"""Quantization-aware training: layers that compute with rounded weights and inputs, and learn in full precision.

Gradients pass the rounding as if it were not there (Bengio et al. 2013, arXiv:1308.3432); it is done by torchao.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..errors import ExitCode, UserError
from .quantization import linear_layers

Kind = Literal["int8-dynamic-int4", "int4"]


def fake_quantize(model: Any, *, kind: Kind, group_size: int) -> Any:
    """Return the model whose linear layers, but the output head, compute as quantized ones do.

    Parameters stay the ones they were, under the names they had.

    Raises:
        UserError: torchao is not installed, or groups do not fill the rows of a layer.
    """
    config = quantized_config(kind, group_size)
    from torchao.quantization import quantize_
    from torchao.quantization.qat import QATConfig

    chosen = set()
    for _, name, layer in linear_layers(model):
        if layer.in_features % group_size:
            raise UserError(
                f"groups of {group_size} weights do not divide the {layer.in_features:,} inputs of `{name}`",
                help="see `quantization_aware.group_size`",
                code=ExitCode.SPEC,
            )
        chosen.add(layer)
    with torch.random.fork_rng(devices=[]):  # torchao draws weights that are thrown away
        quantize_(
            model, QATConfig(config, step="prepare"), filter_fn=lambda each, _: each in chosen
        )
    return model


def quantized_config(kind: Kind, group_size: int) -> Any:
    """Return torchao's configuration of the quantized model that is trained for.

    Raises:
        UserError: torchao is not installed.
    """
    try:
        from torchao import quantization as torchao
    except ImportError:
        raise UserError(
            "quantization-aware training needs the package `torchao`",
            help="pip install 'tunec[torchao]'",
            code=ExitCode.ENVIRONMENT,
        ) from None
    int4, groups = torch.int4, torchao.PerGroup(group_size)  # type: ignore[attr-defined]
    if kind == "int4":
        return torchao.IntxWeightOnlyConfig(weight_dtype=int4, granularity=groups)
    return torchao.Int8DynamicActivationIntxWeightConfig(
        weight_dtype=int4, weight_granularity=groups
    )


def fake_layers(model: Any) -> list[Any]:
    """Return the layers that compute with rounded numbers."""
    found = [each for each in model.modules() if type(each).__name__ == "FakeQuantizedLinear"]
    return [each for each in found if type(each).__module__.startswith("torchao.")]


def told(model: Any) -> str | None:
    """Return a line for the log; None for a model that computes as it is."""
    layers = fake_layers(model)
    if not layers:
        return None
    weights = layers[0].weight_fake_quantizer.config
    inputs = layers[0].activation_fake_quantizer
    return (
        f"quantization-aware: {len(layers)} layers compute with weights rounded to "
        f"{str(weights.dtype).removeprefix('torch.')} in groups of {weights.group_size}"
        + (", inputs to int8 token by token" if inputs is not None else "")
        + "; losses are those of the rounded model, final/ holds the weights as they are"
    )
