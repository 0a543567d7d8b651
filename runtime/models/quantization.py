"""Frozen weights in fewer bits while training: quantized as they are loaded, by one library or another.

`dtype` of each kind is the number format the weights have before they are quantized, and the one its layers compute in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal

import torch

from ..errors import ExitCode, UserError
from .dtypes import DTYPES, Dtype
from .four_bit import decode_rightly, unpack_without_building
from .parts import score_head


@dataclass(frozen=True)
class BitsAndBytes:
    """8 bit (Dettmers et al. 2022, arXiv:2208.07339), or 4 bit (Dettmers et al. 2023, arXiv:2305.14314).

    `double` quantizes the scales of 4-bit weights as well. Products of 8-bit weights are taken of 8-bit inputs.
    """

    _: KW_ONLY
    bits: Literal[4, 8]
    format: Literal["nf4", "fp4"] = "nf4"
    double: bool = False
    dtype: Dtype

    def load_arguments(self) -> dict[str, Any]:
        """Return what `from_pretrained` is asked for."""
        from transformers import BitsAndBytesConfig

        if self.bits == 8:
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.format,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=DTYPES[self.dtype],
        )
        return {"quantization_config": config}


@dataclass(frozen=True)
class Hqq:
    """Half-quadratic quantization: scales and zeros by optimization, without data."""

    _: KW_ONLY
    bits: Literal[1, 2, 3, 4, 5, 6, 8]
    group_size: int
    dtype: Dtype

    def load_arguments(self) -> dict[str, Any]:
        """Return nothing: transformers does not load HQQ, so that layers are replaced after loading."""
        return {}


@dataclass(frozen=True)
class Eetq:
    """8-bit weights with fused kernels, on GPUs."""

    _: KW_ONLY
    dtype: Dtype

    def load_arguments(self) -> dict[str, Any]:
        """Return what `from_pretrained` is asked for."""
        from transformers import EetqConfig

        return {"quantization_config": EetqConfig("int8")}


@dataclass(frozen=True)
class Quanto:
    """optimum-quanto: weights as whole numbers, inputs as they are."""

    _: KW_ONLY
    bits: Literal[2, 4, 8]
    dtype: Dtype

    def load_arguments(self) -> dict[str, Any]:
        """Return what `from_pretrained` is asked for."""
        from transformers import QuantoConfig

        if self.bits != 8:
            unpack_without_building()
        return {"quantization_config": QuantoConfig(weights=f"int{self.bits}")}


@dataclass(frozen=True)
class TorchAo:
    """torchao: weights as whole numbers with a scale for each row, or in 4 bit for each group of a row."""

    _: KW_ONLY
    bits: Literal[4, 8]
    group_size: int = 64
    dtype: Dtype

    def load_arguments(self) -> dict[str, Any]:
        """Return what `from_pretrained` is asked for."""
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
        from transformers import TorchAoConfig

        kind = (
            Int8WeightOnlyConfig()
            if self.bits == 8
            else IntxWeightOnlyConfig(
                weight_dtype=torch.int4,  # type: ignore[attr-defined]
                granularity=PerGroup(self.group_size),
            )
        )
        return {"quantization_config": TorchAoConfig(kind)}


Quantization = BitsAndBytes | Hqq | Eetq | Quanto | TorchAo

EXTRAS = {BitsAndBytes: "bitsandbytes", Hqq: "hqq", Quanto: "quanto", TorchAo: "torchao"}
"""The extra of tunec that installs the library."""

WRAPPERS = ("torchao.", "optimum.quanto.")
"""Packages with weights that are tensors of a class of their own."""


def quantized_arguments(quantization: Quantization) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that quantize while loading.

    Raises:
        UserError: the library is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a warning for each product in 8 bit
    try:
        arguments = quantization.load_arguments()
    except ImportError as fault:
        name = type(quantization).__name__
        extra = EXTRAS.get(type(quantization))
        raise UserError(
            f"quantizing by {name} needs a package: {str(fault).strip().splitlines()[0]}",
            help=f"pip install 'tunec[{extra}]'" if extra else "install the package `eetq`",
            code=ExitCode.ENVIRONMENT,
        ) from None
    return arguments


def widened_arguments(place: str, hub: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that give weights in 8 bits or less of floating point plain numbers."""
    from transformers import FineGrainedFP8Config, Mxfp4Config, PreTrainedConfig

    config, _ = PreTrainedConfig.get_config_dict(place, **hub)
    kinds = {"fp8": FineGrainedFP8Config, "mxfp4": Mxfp4Config}
    kind = kinds.get(str((config.get("quantization_config") or {}).get("quant_method")))
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def finish_quantized(model: Any, quantization: Quantization | None) -> Any:
    """Return the loaded model with what its library leaves to do; one that was quantized already as well."""
    if isinstance(quantization, Hqq):
        _replace_by_hqq(model, quantization)
    layers = [module for module in model.modules() if dense_weight_of(module) is not None]
    decode_rightly([layer for layer in layers if type(layer).__name__ == "Linear4bit"])
    for layer in layers:
        # Their weights come from the model's files again; a checkpoint holds what is trained.
        layer.register_state_dict_post_hook(_leave_out)
        if type(layer).__name__ == "HQQLinear":
            layer.state_dict = _no_state  # its own asks no hook
        if type(layer).__name__ == "Linear4bit":
            # On some processors bitsandbytes would repack the weights in the first evaluation, and round their scales
            # for good: the model would no longer be the one that is trained.
            layer.support_avx512bf16_for_cpu = False
        elif type(layer).__name__ == "Linear8bitLt":
            layer.init_8bit_state = partial(_keep_scales, layer)
        elif type(getattr(layer, "weight", None)).__module__.startswith(WRAPPERS):
            layer._apply = partial(_move, layer)
            # Every process has read the same files. DeepSpeed would send the weights as bytes, which these are not;
            # it leaves alone what carries this mark.
            layer.weight.ds_optim_param = True
    if layers:
        # The trainer asks whether the library can train these weights; they stay frozen here.
        model.is_quantized = False
    return model


def _move(
    layer: Any, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
) -> Any:
    """Move a layer to another device: torch would exchange the insides of its weight, which nothing may refer to."""
    weight = layer._parameters.pop("weight")
    torch.nn.Module._apply(layer, function, recurse)  # type: ignore[no-untyped-call]
    moved = function(weight)
    if moved.device != weight.device:
        weight = torch.nn.Parameter(moved, requires_grad=False)
        weight.ds_optim_param = True  # type: ignore[attr-defined]
    layer._parameters["weight"] = weight
    return layer


def _keep_scales(layer: Any) -> None:
    """Hand the scales to the layer's state once: PEFT makes a new weight without any where it reads the old one."""
    if layer.weight.SCB is None:
        layer.weight.CB = None
    else:
        type(layer).init_8bit_state(layer)


def _no_state(destination: dict[str, Any] | None = None, **_: Any) -> dict[str, Any]:
    return {} if destination is None else destination


def _leave_out(_: Any, state: dict[str, Any], prefix: str, __: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]


def is_quantized(model: Any) -> bool:
    """Tell whether some layer of the model has quantized weights, of a kind that is known here or not."""
    if getattr(model.config, "quantization_config", None) is not None:
        return True
    return any(dense_weight_of(module) is not None for module in model.modules())


def linear_layers(model: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield parent, name and module of every plain linear layer but the output head."""
    head = score_head(model) or model.get_output_embeddings()
    heads = set() if head is None else set(head.modules())
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is torch.nn.Linear and module not in heads:
                yield parent, name, module


def visible(model: Any, targets: list[str] | str) -> list[str] | str:
    """Return targets of PEFT, which takes layers of HQQ for no linear layers when it looks for all of them."""
    kinds = [(name, type(module).__name__) for name, module in model.named_modules()]
    replaced = {name.rpartition(".")[2] for name, kind in kinds if kind == "HQQLinear"}
    return sorted(replaced) if replaced and targets == "all-linear" else targets


def _replace_by_hqq(model: Any, quantization: Hqq) -> None:
    try:
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    except ImportError:
        raise UserError(
            "quantizing by Hqq needs the package `hqq`",
            help="pip install 'tunec[hqq]'",
            code=ExitCode.ENVIRONMENT,
        ) from None
    config = BaseQuantizeConfig(nbits=quantization.bits, group_size=quantization.group_size)
    for parent, name, module in linear_layers(model):
        device = module.weight.device
        setattr(
            parent,
            name,
            HQQLinear(module, config, compute_dtype=DTYPES[quantization.dtype], device=str(device)),
        )


def dense_weight_of(module: Any) -> Callable[[], torch.Tensor] | None:
    """Return a function for the weight `[out, in]` that a quantized layer computes with; None for any other layer."""
    kind, weight = type(module).__name__, getattr(module, "weight", None)
    # PEFT has layers of the same names around those of the libraries.
    library = type(module).__module__.partition(".")[0]
    if (library, kind) == ("hqq", "HQQLinear"):
        return lambda: module.dequantize()
    if (library, kind) == ("bitsandbytes", "Linear4bit"):
        return lambda: _four_bit(weight)
    if (library, kind) == ("bitsandbytes", "Linear8bitLt"):
        return lambda: _eight_bit(module)
    if isinstance(module, torch.nn.Linear) and type(weight).__module__.startswith(WRAPPERS):
        return weight.dequantize  # type: ignore[union-attr, no-any-return]
    return None


def _four_bit(weight: Any) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    dense: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return dense


def _eight_bit(module: Any) -> torch.Tensor:
    from bitsandbytes.functional import int8_vectorwise_dequant

    # The scales go from the weight to the layer's state in its first forward pass.
    scales = module.state.SCB if module.weight.SCB is None else module.weight.SCB
    dense: torch.Tensor = int8_vectorwise_dequant(module.weight.data, scales)
    return dense


def dequantize(model: Any) -> Any:
    """Return the model, not yet adapted, with plain layers in fp32: what the quantized ones compute with, exactly.

    Raises:
        UserError: its kind of quantized weights cannot be turned into plain ones.
    """
    if not any(dense_weight_of(module) is not None for module in model.modules()):
        raise UserError(
            "an adapter cannot be merged into weights that are quantized this way",
            help="serve the base model and the adapter in `final/` together",
            code=ExitCode.CHECKPOINT,
        )
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if (weight_of := dense_weight_of(module)) is not None:
                setattr(parent, name, _plain(weight_of(), getattr(module, "bias", None)))
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    for name in ("quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        if hasattr(model, name):
            delattr(model, name)
    return model.float()


@torch.no_grad()
def _plain(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    rows, columns = weight.shape
    layer = torch.nn.Linear(columns, rows, bias=bias is not None, device="meta")
    layer.weight = torch.nn.Parameter(weight.detach().float(), requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.detach().float(), requires_grad=False)
    return layer


def num_parameters(model: Any) -> tuple[int, int]:
    """Return the trainable and all parameters: of packed weights the numbers they stand for, whole sizes under ZeRO-3."""
    trained = total = 0
    packed: set[int] = set()
    for module in model.modules():
        if dense_weight_of(module) is not None:
            packed |= {id(p) for p in module.parameters(recurse=False)}
            bias = getattr(module, "bias", None)
            total += module.in_features * module.out_features + (
                0 if bias is None else bias.numel()
            )
    for parameter in model.parameters():
        if id(parameter) not in packed:
            size = getattr(parameter, "ds_numel", parameter.numel())
            total += size
            trained += size if parameter.requires_grad else 0
    return trained, total
