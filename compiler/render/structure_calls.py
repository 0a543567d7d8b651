"""The structure of the model in programs: positions, attention, blocks, and the numbers it computes with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..facts.config import rope_length
from ..field_types import class_of, fields_of
from ..plan import Plan
from ..spec import Lora
from .calls import Arg, Call, nested
from .literals import python_literal

LOSS_OPS = ("cross_entropy", "fused_linear_cross_entropy")
"""Kernels of liger for a loss that the runtime computes itself."""


def structure_args(plan: Plan, indent: int) -> Iterator[Arg]:
    """Yield the arguments of `models.Base` that change the model itself; they stand `indent` columns deep."""
    rope = plan.spec.model.rope
    if rope is not None:
        call, reason = _rope(plan, rope)
        yield Arg("rope", nested(call, indent + 4), reason)
    if plan.spec.model.mixture_of_depths != "off":
        yield Arg("mixture_of_depths", python_literal(plan.spec.model.mixture_of_depths))
    for name in ("shifted_attention", "fp32_norms", "fp32_logits"):
        if getattr(plan.spec.model, name):
            yield Arg(name, "True")


def before_loading(plan: Plan) -> Iterator[Call]:
    """Yield the calls of the training program that choose how the process computes."""
    training = plan.spec.training
    args = [Arg("deterministic", "True")] if training.deterministic else []
    if training.tf32 is not None and plan.spec.launch.device == "gpu":
        args.append(Arg("tf32", python_literal(training.tf32)))
    if args:
        yield Call("models.set_numerics", tuple(args))


def after_loading(plan: Plan) -> Iterator[Call]:
    """Yield the calls of the training program that put other code into the loaded model."""
    kernels = plan.spec.kernels
    if kernels.liger:
        ops = [Arg(name, python_literal(on)) for name, on in kernels.liger_ops.items()]
        named = (arg for arg in ops if arg.name not in LOSS_OPS)
        yield Call("models.use_liger", (Arg("", "model"), *named))


def after_adapting(plan: Plan) -> Iterator[Call]:
    """Yield the calls of the training program that change how the model is trained, not what it is."""
    training, model = plan.spec.training, Arg("", "model")
    if training.gradient_checkpointing:
        old = [Arg("reentrant", "True")] if training.checkpointing_reentrant else []
        yield Call("models.recompute_activations", (model, *old))
    if training.precision == "fp8":
        yield Call("models.use_fp8", (model,))
    if plan.spec.quantization_aware is not None:
        yield Call("models.fake_quantize", (model, *rounding_args(plan)))
    if isinstance(plan.spec.method, Lora) and plan.spec.method.freeze_a:
        yield Call("training.freeze_a", (model,))
    if training.neftune_alpha is not None:
        alpha = Arg("alpha", python_literal(float(training.neftune_alpha)))
        yield Call("models.add_embedding_noise", (model, alpha))
    if training.detect_anomalies:
        yield Call("models.watch_overflow", (model,))
    kernels = plan.spec.kernels
    if kernels.compile:
        args = [model]
        if kernels.compile_backend is not None:
            args.append(Arg("backend", python_literal(kernels.compile_backend)))
        if kernels.compile_mode != "default":
            args.append(Arg("mode", python_literal(kernels.compile_mode)))
        yield Call("models.compile_blocks", tuple(args))
    # On a CPU the activations are in host memory already.
    is_moved = training.offload_activations and training.gradient_checkpointing
    if is_moved and plan.spec.launch.device == "gpu":
        yield Call("models.offload_activations", (model,))


def rounding_args(plan: Plan) -> Iterator[Arg]:
    """Yield what a program is told about the quantized model that was trained for."""
    chosen = plan.spec.quantization_aware
    if chosen is not None:
        yield Arg("kind", python_literal(chosen.type))
        yield Arg("group_size", python_literal(chosen.group_size))


def _rope(plan: Plan, rope: Any) -> tuple[Call, str]:
    """Return the stretched positions, with the factor that the longest text needs where none is given."""
    names = [name for name in fields_of(class_of(rope)) if name != "type"]
    numbers = {name: value for name in names if (value := getattr(rope, name)) is not None}
    reason, longest = "", plan.spec.data.max_length
    if rope.factor is None:
        length = rope_length(plan.facts.model.config)
        if length is None:
            numbers["max_length"] = longest
        else:
            numbers["factor"] = float(max(1, -(-longest // length)))
            reason = f"{longest:,} / {length:,} positions, rounded up"
    args = [Arg("", python_literal(rope.type))]
    args += [
        Arg(name, python_literal(value)) for name, value in sorted(numbers.items(), key=_by_place)
    ]
    return Call("models.Rope", tuple(args)), reason


def _by_place(item: tuple[str, float]) -> bool:
    return item[0] not in ("factor", "max_length")
