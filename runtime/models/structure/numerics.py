"""The numbers a model computes with: which bits, where they are kept, and who looks when they overflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ExitCode, UserError

SMALL = 2**16
"""Tensors of fewer elements are not worth the way to host memory."""


def set_numerics(*, deterministic: bool = False, tf32: bool | None = None) -> None:
    """Choose for the whole process: only algorithms that give the same bits each time; fp32 products with fewer bits.

    An operation that has no deterministic form ends the run.
    """
    if tf32 is not None:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def keep_norms_in_fp32(model: Any) -> None:
    """Keep the frozen weights of normalisation layers in fp32, and compute these layers in it.

    DeepSpeed casts all weights when it takes the model over, so that they are put back at the first step.
    """
    for module in model.modules():
        if is_norm(module):
            kept = {name: p.detach().float() for name, p in module.named_parameters(recurse=False)}
            for name, parameter in module.named_parameters(recurse=False):
                parameter.data = kept[name]
            module.tunec_fp32 = kept
            module.register_forward_pre_hook(_into_fp32)
            module.register_forward_hook(_out_of_fp32)


def is_norm(module: Any) -> bool:
    """Tell whether a module is a normalisation layer with weights of its own."""
    named = type(module).__name__.endswith(("Norm", "LayerNorm1D"))
    return named and any(True for _ in module.parameters(recurse=False))


def _into_fp32(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dtype != torch.float32 and not parameter.requires_grad:
            kept = module.tunec_fp32[name].to(parameter.device)
            module.tunec_fp32[name] = parameter.data = kept
    hidden, *rest = inputs
    module.tunec_dtype = hidden.dtype
    return (hidden.float(), *rest)


def _out_of_fp32(module: Any, _inputs: Any, output: Tensor) -> Tensor:
    return output.to(module.tunec_dtype)


def compute_logits_in_fp32(model: Any) -> None:
    """Multiply the last hidden states with the output head in fp32, whatever both are stored in.

    Raises:
        UserError: (ENVIRONMENT) the head is more than a linear layer.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise UserError(
            "the output head of this model is no plain linear layer, so that it cannot compute in fp32",
            help="remove `model.fp32_logits`",
            code=ExitCode.ENVIRONMENT,
        )
    module: Any = head
    module.tunec_fp32 = True
    # Bound, so that a copy of the head computes with its own weights.
    module.forward = MethodType(_linear_fp32, head)


def _linear_fp32(head: Any, hidden: Tensor) -> Tensor:
    bias = None if head.bias is None else head.bias.float()
    return functional.linear(hidden.float(), head.weight.float(), bias)


def recompute_activations(model: Any, *, reentrant: bool = False) -> None:
    """Compute what a block needs for its backward pass once more then, and keep only its input (gradient checkpointing).

    `reentrant` picks the older of torch's two ways.
    """
    if reentrant or hasattr(model, "peft_config"):
        # The input of the first block must ask for a gradient where the embeddings are frozen, and always for the old way.
        model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})


def offload_activations(model: Any) -> None:
    """Keep what the forward pass saves for the backward pass in pinned host memory.

    With gradient checkpointing, that is the input of each block. What lies on the host already stays where it is.
    """
    inner = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _on_host():
            return inner(*args, **kwargs)

    model.forward = forward


@contextmanager
def _on_host() -> Iterator[None]:
    def pack(tensor: Tensor) -> Any:
        # Weights are leaves: they stay on the device anyway.
        if tensor.device.type == "cpu" or tensor.is_leaf or tensor.numel() < SMALL:
            return tensor
        on_host = torch.empty(
            tensor.size(), dtype=tensor.dtype, layout=tensor.layout, pin_memory=True
        )
        on_host.copy_(tensor, non_blocking=True)
        return tensor.device, on_host

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        device, on_host = packed
        moved: Tensor = on_host.to(device, non_blocking=True)
        return moved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def watch_overflow(model: Any) -> None:
    """End the run at the first module whose output, or parameter whose gradient, is infinite or not a number.

    Gradients in fp16 may overflow: the engine scales them up, and leaves out a step when that was too much.

    Raises:
        UserError: (TRAINING, while training) with the name of the module or the parameter.
    """
    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(_watch_output(name))
    is_scaled = any(parameter.dtype == torch.float16 for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not is_scaled:
            parameter.register_hook(_watch_gradient(name))


def _watch_output(name: str) -> Any:
    def look(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # Rows of padding alone may be anything in evaluation, which changes no weight.
        if module.training and not _is_finite(output):
            sound = all(map(_is_finite, inputs))
            raise _fault(
                f"`{name}` gives values that overflow"
                + (" from inputs that do not" if sound else ", as its inputs do already")
            )

    return look


def _watch_gradient(name: str) -> Any:
    def look(gradient: Tensor) -> None:
        if not _is_finite(gradient):
            raise _fault(f"the gradient of `{name}` overflows")

    return look


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, Tensor) and value.is_floating_point()
    return not is_number or bool(value.isfinite().all())


def _fault(message: str) -> UserError:
    return UserError(
        message,
        help="lower `training.learning_rate`, set `training.max_grad_norm`, or use fp32; "
        "the last checkpoint is kept",
        code=ExitCode.TRAINING,
    )
