"""Faster code for the same mathematics: compiled blocks, kernels of other libraries."""

from __future__ import annotations

from typing import Any

from ...errors import ExitCode, UserError

ATTENTION = {
    "flash2": "flash_attention_2",
    "flash3": "flash_attention_3",
    "flex": "flex_attention",
}
"""Implementations that transformers knows by another name."""


def check_attention(model: Any, attention: str) -> None:
    """Fail when the model does not attend as it was told to; the library may choose another way by itself.

    Raises:
        UserError: (ENVIRONMENT) it attends otherwise.
    """
    found = model.config._attn_implementation
    if attention != "auto" and found != ATTENTION.get(attention, attention):
        raise UserError(
            f"the model would attend by `{found}`, not by `{attention}`",
            help="name another `model.attention`",
            code=ExitCode.ENVIRONMENT,
        )


def compile_blocks(model: Any, *, backend: str = "inductor", mode: str = "default") -> None:
    """Compile each transformer block with `torch.compile`, in place: names of weights stay as they are.

    Blocks are alike, so that they share what is compiled once. It happens in the first steps.

    Raises:
        UserError: (ENVIRONMENT) there is no such backend, or the blocks of the model are not known.
    """
    import torch
    from transformers.modeling_layers import GradientCheckpointingLayer

    known = torch._dynamo.list_backends(exclude_tags=())
    if backend not in known:
        raise UserError(
            f"`torch.compile` has no backend `{backend}`",
            help="there are " + ", ".join(known),
            code=ExitCode.ENVIRONMENT,
        )
    blocks = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not blocks:
        raise UserError(
            "the blocks of this model are not known, so that they cannot be compiled",
            help="remove `kernels.compile`",
            code=ExitCode.ENVIRONMENT,
        )
    for block in blocks:
        block.compile(backend=backend, mode=None if mode == "default" else mode)


def use_liger(model: Any, **kernels: bool) -> None:
    """Put Liger's kernels into a loaded model: those that are named, else all it has for the family.

    Its kernels of the loss stay off: the loss is fused with the output head already.

    Raises:
        UserError: (ENVIRONMENT) the package is missing, or has nothing for this model.
    """
    try:
        from liger_kernel.transformers import monkey_patch
    except ImportError:
        raise UserError(
            "`kernels.liger` needs a package that is not installed",
            help="pip install liger-kernel",
            code=ExitCode.ENVIRONMENT,
        ) from None
    kind = model.config.model_type
    if kind not in monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise UserError(
            f"liger has no kernels for models of type `{kind}`",
            help="remove `kernels.liger`",
            code=ExitCode.ENVIRONMENT,
        )
    try:
        monkey_patch._apply_liger_kernel_to_instance(
            model=model, cross_entropy=False, fused_linear_cross_entropy=False, **kernels
        )
    except TypeError as fault:
        raise UserError(
            f"liger has no such kernel for models of type `{kind}`: {fault}",
            help="see `kernels.liger_ops`",
            code=ExitCode.ENVIRONMENT,
        ) from None
