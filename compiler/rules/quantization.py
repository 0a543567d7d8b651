"""Quantized frozen weights: what can be trained beside them, and where they can live."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, SpecPath, error
from ..facts import Facts
from ..spec import (
    AdaLora,
    C3a,
    CordaInit,
    FourierFt,
    Hra,
    Ia3,
    Loha,
    Lokr,
    Lora,
    LoraGaInit,
    Miss,
    OloraInit,
    PissaInit,
    RandLora,
    Road,
    Shira,
    Spec,
    VbLora,
)
from .common import METHOD_TYPE, WHOLE, quantized_base
from .rule import Rule

READABLE = ("bitsandbytes", "hqq", "quanto", "torchao")
"""Libraries whose quantized weights can be turned into plain ones."""

LINEAR_ONLY = (FourierFt, Hra, RandLora, C3a, Road, VbLora)
"""Methods that PEFT puts on linear layers only, which those of most libraries are not."""

FORWARD_ONLY = ("eetq", "gptq", "awq", "aqlm")
"""Libraries that give PEFT no weights back."""

PLAIN_ONLY: dict[str, tuple[type, ...]] = {
    "hqq": (Ia3, AdaLora, Loha, Lokr, Shira, *LINEAR_ONLY),
    "eetq": (Ia3, AdaLora, Loha, Lokr, *LINEAR_ONLY),
    "gptq": (Ia3, Loha, Lokr, *LINEAR_ONLY),
    "awq": (Ia3, AdaLora, Loha, Lokr, *LINEAR_ONLY),
    "aqlm": (Ia3, AdaLora, Loha, Lokr, *LINEAR_ONLY),
    "quanto": (AdaLora, C3a),
    "torchao": (Hra,),
    "bitsandbytes": (Loha, Lokr, Hra),
}
"""Methods that PEFT cannot put beside weights of a library."""


def check_method(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Quantized weights are to be trained themselves.

    They are whole numbers with scales, which no gradient can move; only adapters beside them learn.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "full"
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "lora"
    ```
    """
    base = quantized_base(spec, facts)
    if base is None or not isinstance(spec.method, WHOLE):
        return
    what = {"full": "full training", "freeze": "training of blocks"}
    named = what.get(spec.method.type, f"`{spec.method.type}`")
    yield error(
        "Q601",
        f"{named} cannot update quantized weights",
        METHOD_TYPE,
        label=f"{named} here",
        labels=(base.label,),
        helps=('train adapters: `type = "lora"`',)
        if not base.on_the_fly
        else ('train adapters: `type = "lora"`', "or remove `[quantization]`"),
    )


def check_resize(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The embeddings of a quantized model are to grow.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [tokenizer]
    add_special_tokens = ["<step>"]
    resize = true
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [tokenizer]
    resize = false
    ```
    """
    base = quantized_base(spec, facts)
    if base is not None and spec.tokenizer.resize:
        yield error(
            "Q602",
            "the embeddings of a quantized model cannot grow",
            ("tokenizer", "resize"),
            label="grown here",
            labels=(base.label,),
            helps=("grow them once without quantization, save that model, and start from it",),
        )


def check_merge(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Adapters are to be merged into quantized weights.

    The merged weights would be rounded again, and what the adapters learned is lost in the rounding. One adapter can
    be continued, because it is not merged.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [adapters]
    paths = ["adapter"]
    then = "new"
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [adapters]
    paths = ["adapter"]
    ```
    """
    base, adapters = quantized_base(spec, facts), spec.adapters
    if base is None or not adapters.paths:
        return
    path: SpecPath = ("adapters", "then" if adapters.then == "new" else "paths")
    if adapters.then == "new" or len(adapters.paths) > 1:
        yield error(
            "Q603",
            "adapters cannot be merged into quantized weights",
            path,
            label="merged here",
            labels=(base.label,),
            helps=(
                "merge them first with `tunec export`, and start from the result",
                "or continue a single one",
            ),
        )


def check_init(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The adapters start from a decomposition that quantized weights do not have.

    PiSSA, OLoRA, CorDA and LoRA-GA change the frozen weights before training, and what they leave would be quantized once
    more: the adapters would no longer make up for what was taken out.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "lora"
    init = { type = "pissa" }
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "lora"
    init = { type = "gaussian" }
    ```
    """
    base, method = quantized_base(spec, facts), spec.method
    if base is None or not isinstance(method, Lora):
        return
    if isinstance(method.init, PissaInit | CordaInit | LoraGaInit | OloraInit):
        yield error(
            "Q604",
            f"`{method.init.type}` cannot start from quantized weights",
            ("method", "init", "type"),
            label="decomposes the weights",
            labels=(base.label,),
            helps=('write `init = { type = "default" }`, or train without quantization',),
        )


def check_dora(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """DoRA on weights that it cannot read.

    It needs the norm of the whole weight at each step, and so a library that gives the weight back.

    Fails:
    ```toml
    [quantization]
    type = "eetq"
    [launch]
    device = "gpu"
    [method]
    type = "lora"
    dora = true
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "lora"
    dora = true
    ```
    """
    base = quantized_base(spec, facts)
    if base is None or base.name in READABLE:
        return
    if isinstance(spec.method, Lora) and spec.method.dora:
        yield error(
            "Q605",
            f"weight decomposition (DoRA) does not work on weights quantized by `{base.name}`",
            ("method", "dora"),
            labels=(base.label,),
            helps=('remove `dora`, or quantize with `type = "bitsandbytes"`',)
            if base.on_the_fly
            else ("remove `dora`, or start from the original weights",),
        )


def check_beside(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A method that cannot be put beside these quantized weights.

    PEFT looks into the weights for it, and finds numbers that are packed.

    Fails:
    ```toml
    [quantization]
    type = "bitsandbytes"
    [method]
    type = "lokr"
    ```
    Passes:
    ```toml
    [quantization]
    type = "bitsandbytes"
    bits = 8
    [method]
    type = "lokr"
    ```
    """
    base, method = quantized_base(spec, facts), spec.method
    if base is None:
        return
    in_four = base.name == "bitsandbytes" and isinstance(method, Loha | Lokr)
    if in_four and base.bits == 8:
        return
    # `bat` multiplies the weights, which these libraries do not give back.
    is_bat = isinstance(method, Miss) and method.variant == "bat" and base.name in FORWARD_ONLY
    if isinstance(method, PLAIN_ONLY.get(base.name, ())) or is_bat:
        bits = " in 4 bit" if in_four else ""
        yield error(
            "Q611",
            f"`{method.type}` does not work beside weights quantized by `{base.name}`{bits}",
            METHOD_TYPE,
            labels=(base.label,),
            helps=('train by `type = "lora"` or `"oft"`',)
            if not base.on_the_fly
            else ('train by `type = "lora"` or `"oft"`, or quantize with `torchao`',),
        )


RULES = (
    Rule("Q601", "training quantized weights", factual=check_method),
    Rule("Q602", "growing quantized embeddings", factual=check_resize),
    Rule("Q603", "merging into quantized weights", factual=check_merge),
    Rule("Q604", "decomposing quantized weights", factual=check_init),
    Rule("Q605", "magnitudes of quantized weights", factual=check_dora),
    Rule("Q611", "method beside quantized weights", factual=check_beside),
)
