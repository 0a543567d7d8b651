"""Sizes of adapters against the layers they go to, and layers that a method cannot adapt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import (
    C3a,
    FourierFt,
    Hra,
    LnTuning,
    Lora,
    LoraGaInit,
    Miss,
    OrthogonalInit,
    Prefix,
    PTuning,
    Road,
    Shira,
    Spec,
    Targeted,
    VbLora,
)
from .adapted import adapted, norms
from .common import METHOD_TYPE, similar
from .modules import ends_module
from .rule import Rule

PLAIN_LINEAR = (Hra, Miss, Shira, C3a, Road)
"""Methods that PEFT does not put on the transposed layers of GPT-2."""


def check_widths(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A size of the method does not fit the widths of a layer that it goes to.

    Blocks, groups, shards and vectors divide inputs or outputs; a layer has no more numbers to train than it has.

    Fails:
    ```toml
    [method]
    type = "c3a"
    block_size = 24
    ```
    Passes:
    ```toml
    [method]
    type = "c3a"
    block_size = 16
    ```
    """
    method = spec.method
    if not isinstance(method, Targeted) or facts.model.model_type == "gpt2":
        return
    for name, tensor in adapted(method, facts.model).items():
        if len(tensor.shape) != 2:
            continue
        out, into = tensor.shape
        for setting, reason in _faults(method, into, out):
            yield error(
                "A851",
                f"`{'.'.join(map(str, setting))}` {reason} of `{name}`",
                setting,
                label=f"{into:,} inputs, {out:,} outputs",
            )
            return


def _faults(method: Any, into: int, out: int) -> Iterator[tuple[SpecPath, str]]:
    """Yield the setting that does not fit, and in what way."""
    both = (("inputs", into), ("outputs", out))
    match method:
        case C3a():
            yield from _undivided(("method", "block_size"), method.block_size, *both)
        case VbLora():
            yield from _undivided(("method", "vector_length"), method.vector_length, *both)
        case Road():
            yield from _undivided(("method", "group_size"), method.group_size, ("outputs", out))
        case Miss(variant="bat"):
            yield from _undivided(("method", "rank"), method.rank, *both)
        case Miss():
            if method.rank > into:
                yield ("method", "rank"), f"is more than the {into:,} inputs"
            if method.variant == "mini":
                size = ("outputs", out)
                yield from _undivided(("method", "mini_rank"), method.mini_rank, size)
        case Shira() if method.rank * (into + out) > into * out:
            yield ("method", "rank"), f"asks for more than the {into * out:,} weights"
        case FourierFt() if method.frequencies > into * out:
            yield ("method", "frequencies"), f"is more than the {into * out:,} weights"
        case Lora(init=LoraGaInit()) if 2 * method.rank > min(into, out):
            yield (
                ("method", "rank"),
                f"is more than half of the {min(into, out):,} singular vectors",
            )


def _undivided(
    path: SpecPath, size: int, *widths: tuple[str, int]
) -> Iterator[tuple[SpecPath, str]]:
    for what, width in widths:
        if size >= 1 and width % size:
            yield path, f"does not divide the {width:,} {what}"


def check_even(spec: Spec) -> Iterator[Diagnostic]:
    """A number that must be even is odd.

    The reflections of HRA start as pairs of equal ones, orthogonal A and B share the rows of one matrix, and RoAd pairs
    one half of a group with the other.

    Fails:
    ```toml
    [method]
    type = "hra"
    rank = 3
    ```
    Passes:
    ```toml
    [method]
    type = "hra"
    rank = 4
    ```
    """
    method = spec.method
    sizes: dict[SpecPath, int] = {}
    if isinstance(method, Hra):
        sizes = {("method", "rank"): method.rank}
    elif isinstance(method, Road):
        sizes = {("method", "group_size"): method.group_size}
    elif isinstance(method, Lora) and isinstance(method.init, OrthogonalInit):
        sizes = {("method", "rank"): method.rank}
        sizes |= {("method", "rank_pattern", n): rank for n, rank in method.rank_pattern.items()}
    for path, size in sizes.items():
        if size % 2:
            init = Label(("method", "init", "type"), "orthogonal here")
            yield error(
                "A852",
                f"`{path[1]}` is {size:,}, which is odd",
                path,
                label="must be even",
                labels=(init,) if isinstance(method, Lora) else (),
            )


def check_bank(spec: Spec) -> Iterator[Diagnostic]:
    """More vectors are to be mixed than the bank has.

    Fails:
    ```toml
    [method]
    type = "vblora"
    vector_length = 8
    num_vectors = 4
    top_k = 5
    ```
    Passes:
    ```toml
    [method]
    type = "vblora"
    vector_length = 8
    num_vectors = 4
    top_k = 2
    ```
    """
    method = spec.method
    if isinstance(method, VbLora) and method.top_k > method.num_vectors:
        yield error(
            "A853",
            f"{method.top_k:,} vectors cannot be mixed out of {method.num_vectors:,}",
            ("method", "top_k"),
            labels=(Label(("method", "num_vectors"), "so many in the bank"),),
        )


def check_transposed(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The layers of GPT-2 lie transposed, where PEFT does not know the method.

    Fails:
    ```toml
    [model]
    path = "absolute-model"
    [method]
    type = "hra"
    ```
    Passes:
    ```toml
    [model]
    path = "absolute-model"
    [method]
    type = "randlora"
    ```
    """
    if facts.model.model_type == "gpt2" and isinstance(spec.method, PLAIN_LINEAR):
        yield error(
            "A854",
            f"`{spec.method.type}` cannot be put on the layers of GPT-2",
            METHOD_TYPE,
            labels=(Label(("model", "path"), "its layers lie transposed"),),
            helps=('train by `type = "lora"`',),
        )


def check_norms(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A normalisation layer that is to be trained does not exist.

    Fails:
    ```toml
    [method]
    type = "ln-tuning"
    norms = ["input_norm"]
    ```
    Passes:
    ```toml
    [method]
    type = "ln-tuning"
    norms = ["input_layernorm"]
    ```
    """
    method, model = spec.method, facts.model
    if not isinstance(method, LnTuning) or not model.known or not model.tensors:
        return
    names = sorted({name.rsplit(".", 1)[-1] for name in norms(LnTuning(type="ln-tuning"), model)})
    listed = "its layers are " + ", ".join(f"`{name}`" for name in names)
    if method.norms == "all" or not method.norms:
        if not norms(method, model):
            yield error("A855", "there is no normalisation layer to train", ("method", "norms"))
        return
    for index, wanted in enumerate(method.norms):
        if not norms(LnTuning(type="ln-tuning", norms=(wanted,)), model):
            near = similar(wanted, names)
            helps = (listed,) if near is None else (f"a similar name is `{near}`", listed)
            what = "is no normalisation layer" if ends_module(model, wanted) else "does not exist"
            yield error("A855", f"`{wanted}` {what}", ("method", "norms", index), helps=helps)


def check_twice(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A normalisation layer is trained by itself and in full.

    PEFT takes the end of a name for a module that is trained in full: `norm` is `input_layernorm`, too.

    Fails:
    ```toml
    [method]
    type = "ln-tuning"
    full_modules = ["norm"]
    ```
    Passes:
    ```toml
    [method]
    type = "ln-tuning"
    full_modules = ["o_proj"]
    ```
    """
    method = spec.method
    if not isinstance(method, LnTuning):
        return
    trained = norms(method, facts.model)
    for index, full in enumerate(method.full_modules):
        clash = next((name for name in trained if name.endswith(full)), None)
        if clash is not None:
            yield error(
                "A857",
                f"`{full}` also means `{clash}`, which is trained already",
                ("method", "full_modules", index),
                labels=(Label(("method", "norms"), "trained here"),),
                helps=("name it in one of the two",),
            )


def check_network(spec: Spec) -> Iterator[Diagnostic]:
    """Training is to go on with virtual tokens whose network was not kept.

    What is saved are the tokens that the network made. They can be used, but what made them is gone.

    Fails:
    ```toml
    [adapters]
    paths = ["tuned-prompt"]
    [method]
    type = "p-tuning"
    ```
    Passes:
    ```toml
    [method]
    type = "p-tuning"
    ```
    """
    method, adapters = spec.method, spec.adapters
    has_network = isinstance(method, PTuning) or (isinstance(method, Prefix) and method.projection)
    if has_network and adapters.paths and adapters.then == "continue":
        yield error(
            "A856",
            f"`{method.type}` saves what its network made, not the network: nothing can be continued",
            ("adapters", "paths", len(adapters.paths) - 1),
            label="continued here",
            labels=(Label(METHOD_TYPE, "needs the network"),),
        )


RULES = (
    Rule("A851", "sizes and widths", factual=check_widths),
    Rule("A852", "odd size", pure=check_even),
    Rule("A853", "too few vectors", pure=check_bank),
    Rule("A854", "transposed layers", factual=check_transposed),
    Rule("A855", "norm matches nothing", factual=check_norms),
    Rule("A857", "norm trained twice", factual=check_twice),
    Rule("A856", "network not kept", pure=check_network),
)
