"""How weights are quantized, against sharding, device, and what they are already."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..spec import (
    BitsAndBytes,
    Eetq,
    Hqq,
    NoQuantization,
    Spec,
)
from .common import quantized_base, zero_stage
from .rule import Rule


def check_sharding(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Quantized weights are to be sharded over the processes.

    Stage 3 cuts every parameter into pieces and puts it together for each layer. Only 4-bit weights of bitsandbytes
    survive that; the others are more than one plain tensor.

    Fails:
    ```toml
    [quantization]
    type = "hqq"
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [quantization]
    type = "hqq"
    [deepspeed]
    zero_stage = 2
    ```
    """
    base = quantized_base(spec, facts)
    if base is None or zero_stage(spec) != 3:
        return
    if not (base.on_the_fly and base.name == "bitsandbytes" and base.bits == 4):
        bits = f" in {base.bits} bit" if base.name == "bitsandbytes" and base.bits else ""
        yield error(
            "Q606",
            f"weights quantized by `{base.name}`{bits} cannot be sharded by ZeRO stage 3",
            ("deepspeed", "zero_stage"),
            label="sharded here",
            labels=(base.label,),
            helps=("write `zero_stage = 2`: frozen quantized weights are small", *_four_bit(spec)),
        )


def check_twice(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The checkpoint is quantized already.

    Fails:
    ```toml
    [model]
    path = "quantized-model"
    [quantization]
    type = "bitsandbytes"
    ```
    Passes:
    ```toml
    [model]
    path = "quantized-model"
    ```
    """
    had = facts.model.quantized
    if had is not None and not isinstance(spec.quantization, NoQuantization):
        yield error(
            "Q607",
            f"the weights are quantized already ({had.name})",
            ("quantization", "type"),
            label="quantized once more",
            labels=(Label(("model", "path"), "already quantized"),),
            notes=("`quantization_config` of the model's config.json",),
            helps=("remove `[quantization]`, or start from the original weights",),
        )


RUNS = ("bitsandbytes", "torchao", "gptq", "fp8", "mxfp4")
"""Kinds of quantized checkpoints that train anywhere; fp8 and mxfp4 are widened as they are loaded."""

ON_GPUS = ("awq", "aqlm", "eetq")
"""Kinds whose layers have kernels for GPUs only."""


def check_kind(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The checkpoint is quantized in a way that nothing here can train beside.

    Fails:
    ```toml
    [model]
    path = "squeezed-model"
    ```
    Passes:
    ```toml
    [model]
    path = "quantized-model"
    ```
    """
    had = facts.model.quantized
    if had is None or had.method in RUNS:
        return
    if had.method not in ON_GPUS:
        known = ", ".join(f"`{name}`" for name in (*RUNS, *ON_GPUS))
        yield error(
            "Q612",
            f"the checkpoint is quantized by `{had.method[:40]}`, beside which nothing can be trained",
            ("model", "path"),
            label="already quantized",
            notes=("`quantization_config` of the model's config.json",),
            helps=("start from the original weights", f"known are {known}"),
        )
    elif spec.launch.device == "cpu":
        yield error(
            "Q612",
            f"a checkpoint quantized by `{had.method}` does not run on a CPU",
            ("model", "path"),
            label="already quantized",
            labels=(Label(("launch", "device"), "computed here"),),
            helps=("start from the original weights, and quantize with `bitsandbytes`",),
        )


def check_device(spec: Spec) -> Iterator[Diagnostic]:
    """This quantization has kernels for GPUs only.

    Fails:
    ```toml
    [quantization]
    type = "eetq"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [quantization]
    type = "quanto"
    [launch]
    device = "cpu"
    ```
    """
    if isinstance(spec.quantization, Eetq) and spec.launch.device == "cpu":
        yield error(
            "Q608",
            "`eetq` does not run on a CPU",
            ("quantization", "type"),
            labels=(Label(("launch", "device"), "computed here"),),
            helps=('write `type = "quanto"`, which does',),
        )


def check_group(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A layer does not divide into groups of this size.

    HQQ refuses such a layer when it quantizes it, after the weights were loaded.

    Fails:
    ```toml
    [quantization]
    type = "hqq"
    group_size = 96
    ```
    Passes:
    ```toml
    [quantization]
    type = "hqq"
    group_size = 64
    ```
    """
    chosen = spec.quantization
    if not isinstance(chosen, Hqq) or chosen.group_size < 1:
        return
    for name, tensor in facts.model.linear_modules().items():
        if tensor.count % chosen.group_size:
            yield error(
                "Q609",
                f"`group_size` is {chosen.group_size}, which does not divide the {tensor.count:,} weights of `{name}`",
                ("quantization", "group_size"),
                helps=("use 64 or 128, which divide almost every layer",),
            )
            return


def _four_bit(spec: Spec) -> tuple[str, ...]:
    chosen = spec.quantization
    if isinstance(chosen, NoQuantization):
        return ()
    kind = "" if isinstance(chosen, BitsAndBytes) else 'type = "bitsandbytes"` and `'
    return (f"or `{kind}bits = 4`",)


RULES = (
    Rule("Q606", "sharding quantized weights", factual=check_sharding),
    Rule("Q607", "quantized already", factual=check_twice),
    Rule("Q612", "kind of a quantized checkpoint", factual=check_kind),
    Rule("Q608", "quantization for another device", pure=check_device),
    Rule("Q609", "groups that do not divide", factual=check_group),
)
