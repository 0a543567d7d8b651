"""What adapters start from: decompositions that need whole weights, a GPU, or a look at the data."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..spec import (
    AdaLora,
    CordaInit,
    Eetq,
    EvaInit,
    LnTuning,
    LoftqInit,
    Loha,
    Lora,
    LoraGaInit,
    NoQuantization,
    OloraInit,
    PissaInit,
    Spec,
    VbLora,
)
from .common import METHOD_TYPE, quantized_base, stage_label, zero_stage
from .rule import Rule

LOOKING = (EvaInit, CordaInit, LoraGaInit)
"""Starts from a look at training data."""

WHOLE = (PissaInit, OloraInit, LoftqInit, *LOOKING)
"""Starts from whole weights."""


def check_sharded(spec: Spec) -> Iterator[Diagnostic]:
    """The adapters start from whole weights, which no process has.

    Under ZeRO stage 3 each process holds a piece of every weight, and a piece cannot be decomposed.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa" }
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa" }
    [deepspeed]
    zero_stage = 2
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or zero_stage(spec) != 3:
        return
    if isinstance(method.init, WHOLE):
        yield error(
            "A826",
            f"`{method.init.type}` needs whole weights, stage 3 shards them",
            ("method", "init", "type"),
            labels=(stage_label(spec),),
            helps=('write `zero_stage = 2`, or `init = { type = "default" }`',),
        )


def check_pieces(spec: Spec) -> Iterator[Diagnostic]:
    """The method does not run on pieces of matrices.

    Under ZeRO stage 3 each process holds a piece of every matrix, adapters included. AdaLoRA weighs whole adapters
    against each other, the products of LoHa are made from shapes that pieces do not have, trained tokens start
    from rows of whole embeddings, and LN tuning from copies of whole layers. All modules of VB-LoRA share one bank;
    where that is in pieces, several processes wait for one another for ever.

    Fails:
    ```toml
    [method]
    type = "loha"
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [method]
    type = "loha"
    [deepspeed]
    zero_stage = 2
    ```
    """
    method, path, name = spec.method, METHOD_TYPE, str(spec.method.type)
    if zero_stage(spec) != 3:
        return
    if isinstance(method, Lora) and method.trainable_tokens:
        path, name = ("method", "trainable_tokens"), "trainable_tokens"
    elif not isinstance(method, AdaLora | Loha | LnTuning | VbLora):
        return
    yield error(
        "A835",
        f"`{name}` needs whole matrices, stage 3 shards them",
        path,
        labels=(stage_label(spec),),
        helps=("write `zero_stage = 2`",),
    )


def check_look(spec: Spec) -> Iterator[Diagnostic]:
    """The adapters start from training data, which come as a stream.

    The first rows of a stream are trained on once; they cannot be looked at before.

    Fails:
    ```toml
    [data]
    streaming = true
    [method]
    type = "lora"
    init = { type = "eva" }
    [training]
    steps = 4
    ```
    Passes:
    ```toml
    [data]
    streaming = false
    [method]
    type = "lora"
    init = { type = "eva" }
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, LOOKING):
        return
    if spec.data.streaming:
        yield error(
            "A840",
            f"`{method.init.type}` looks at the data before the training, a stream comes once",
            ("method", "init", "type"),
            labels=(Label(("data", "streaming"), "a stream"),),
            helps=("write `streaming = false`, or start from the weights alone, as `pissa` does",),
        )


def check_loftq(spec: Spec) -> Iterator[Diagnostic]:
    """LoftQ starts from what quantizing loses, which only `[quantization]` here can tell.

    A checkpoint that is quantized already does not say what its weights were before. Weights of EETQ cannot be read
    back, so nobody knows what it lost.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq" }
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq" }
    [quantization]
    type = "bitsandbytes"
    ```
    """
    if not _is_loftq(spec):
        return
    base = spec.quantization
    if isinstance(base, NoQuantization | Eetq):
        unread = isinstance(base, Eetq)
        yield error(
            "A827",
            "`loftq` cannot tell what `eetq` loses: its weights cannot be read back"
            if unread
            else "`loftq` makes up for what quantizing loses, and nothing is quantized here",
            ("method", "init", "type"),
            labels=(Label(("quantization", "type"), "quantized here"),) if unread else (),
            helps=('write `[quantization] type = "bitsandbytes"`, or `init = { type = "pissa" }`',),
        )


def check_loftq_base(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of a checkpoint that was quantized before."""
    found = quantized_base(spec, facts)
    if _is_loftq(spec) and found is not None and not found.on_the_fly:
        yield error(
            "A827",
            "`loftq` needs the weights from before they were quantized, which this checkpoint does not have",
            ("method", "init", "type"),
            labels=(found.label,),
            helps=('start from the original model with `[quantization] type = "bitsandbytes"`',),
        )


def check_alternation(spec: Spec) -> Iterator[Diagnostic]:
    """LoftQ with what would not reload: more than one step, or magnitudes.

    The second step of the alternation rounds `W - BA` instead of `W`. The frozen weights would no longer be those that
    a program gets by quantizing the model's files, and the saved adapter would belong to none. DoRA divides by norms of
    the frozen weights that it takes before the adapter has a start.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq", iterations = 5 }
    [quantization]
    type = "bitsandbytes"
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq", iterations = 1 }
    [quantization]
    type = "bitsandbytes"
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, LoftqInit):
        return
    if method.init.iterations > 1:
        yield error(
            "A841",
            f"{method.init.iterations:,} steps of LoftQ leave frozen weights that no file holds",
            ("method", "init", "iterations"),
            helps=(
                "write `iterations = 1`: the adapter then makes up for the rounding of the files' weights",
            ),
        )
    if method.dora:
        yield error(
            "A841",
            "LoftQ does not go with DoRA, whose magnitudes are taken before the adapter has a start",
            ("method", "dora"),
            labels=(Label(("method", "init", "type"), "started here"),),
            helps=('remove `dora`, or write `init = { type = "default" }`',),
        )


def _is_loftq(spec: Spec) -> bool:
    return isinstance(spec.method, Lora) and isinstance(spec.method.init, LoftqInit)


RULES = (
    Rule("A826", "decomposing sharded weights", pure=check_sharded),
    Rule("A835", "method on sharded weights", pure=check_pieces),
    Rule("A840", "looking at a stream", pure=check_look),
    Rule("A827", "nothing lost to quantization", pure=check_loftq, factual=check_loftq_base),
    Rule("A841", "start that does not reload", pure=check_alternation),
)
