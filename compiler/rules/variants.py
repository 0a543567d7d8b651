"""Variants of adapters: settings that exclude each other, sizes that must divide, schedules of ranks."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error, warning
from ..spec import AdaLora, Lora, PissaInit, Prefix, Spec
from .common import METHOD_TYPE, VIRTUAL
from .rule import Rule

EMBEDDINGS = ("embed", "wte", "embd")


def check_budget(spec: Spec) -> Iterator[Diagnostic]:
    """AdaLoRA has no steps left in which ranks can move.

    It starts with more ranks than wanted and takes some away, after the warm-up and before the final steps.

    Fails:
    ```toml
    [method]
    type = "adalora"
    warmup_steps = 3
    final_steps = 2
    [training]
    steps = 4
    ```
    Passes:
    ```toml
    [method]
    type = "adalora"
    warmup_steps = 1
    final_steps = 1
    [training]
    steps = 4
    ```
    """
    method, steps = spec.method, spec.training.steps
    if not isinstance(method, AdaLora):
        return
    if steps is not None and method.warmup_steps >= steps - method.final_steps:
        yield error(
            "A822",
            f"no step is left to move ranks: {method.warmup_steps:,} + {method.final_steps:,} of {steps:,}",
            ("method", "warmup_steps"),
            label="before",
            labels=(
                Label(("method", "final_steps"), "after"),
                Label(("training", "steps"), "in all"),
            ),
            helps=("make them fewer, or train longer",),
        )
    if method.initial_rank <= method.rank:
        yield warning(
            "A822",
            f"no rank can be taken away: {method.initial_rank} at the start, {method.rank} at the end",
            ("method", "initial_rank"),
            labels=(Label(("method", "rank"), "at the end"),),
            helps=(
                f"start with more, such as `initial_rank = {min(method.rank, 2**16) * 3 // 2}`",
            ),
        )


def check_rates(spec: Spec) -> Iterator[Diagnostic]:
    """LoRA+ sets the rates of A and B apart, LoRA-FA does not train A.

    Fails:
    ```toml
    [method]
    type = "lora"
    b_rate_ratio = 16.0
    freeze_a = true
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    b_rate_ratio = 16.0
    ```
    """
    method = spec.method
    if isinstance(method, Lora) and method.freeze_a and method.b_rate_ratio is not None:
        yield error(
            "A825",
            "there is no ratio of rates when A is frozen",
            ("method", "b_rate_ratio"),
            labels=(Label(("method", "freeze_a"), "A is frozen here"),),
            helps=("keep one of the two",),
        )


def check_conversion(spec: Spec) -> Iterator[Diagnostic]:
    """PiSSA cannot be converted to an ordinary adapter with these scales.

    The difference of two adapters is one of twice the rank only where all modules share one scale.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa", convert = true }
    rank_stabilized = true
    rank_pattern = { "q_proj" = 8 }
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa", convert = true }
    rank_pattern = { "q_proj" = 8 }
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, PissaInit):
        return
    pattern = next((f for f in ("rank_pattern", "alpha_pattern") if getattr(method, f)), None)
    if method.init.convert and method.rank_stabilized and pattern is not None:
        yield error(
            "A828",
            "an adapter with stabilized ranks and patterns cannot be converted",
            ("method", "init", "convert"),
            labels=(
                Label(("method", "rank_stabilized"), "stabilized here"),
                Label(("method", pattern), "scales of their own here"),
            ),
            helps=("leave one of the three out",),
        )


def check_tokens(spec: Spec) -> Iterator[Diagnostic]:
    """The embeddings are trained in full, and some of them by themselves.

    Fails:
    ```toml
    [method]
    type = "lora"
    full_modules = ["embed_tokens"]
    trainable_tokens = ["<|im_end|>"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    trainable_tokens = ["<|im_end|>"]
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not method.trainable_tokens:
        return
    for index, name in enumerate(method.full_modules):
        if any(word in name for word in EMBEDDINGS):
            yield error(
                "A829",
                f"`{name}` is trained in full, with all its tokens",
                ("method", "trainable_tokens"),
                labels=(Label(("method", "full_modules", index), "in full here"),),
                helps=("keep one of the two",),
            )


def check_bare(spec: Spec) -> Iterator[Diagnostic]:
    """An adapter on a bare parameter knows neither dropout nor magnitudes of its own.

    Fails:
    ```toml
    [model]
    path = "expert-model"
    [method]
    type = "lora"
    parameters = ["experts.gate_up_proj"]
    dropout = 0.1
    ```
    Passes:
    ```toml
    [model]
    path = "expert-model"
    [method]
    type = "lora"
    parameters = ["experts.gate_up_proj"]
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not method.parameters:
        return
    against = {"dropout": method.dropout > 0, "dora": method.dora}
    for name in (name for name, is_given in against.items() if is_given):
        yield error(
            "A832",
            f"adapters on bare parameters do not go with `{name}`",
            ("method", name),
            labels=(Label(("method", "parameters"), "bare parameters here"),),
            helps=("leave one of the two out",),
        )


def check_prefix(spec: Spec) -> Iterator[Diagnostic]:
    """Prefix tuning while activations are recomputed.

    The prefix lives in the cache of keys and values, which recomputing does not keep; PEFT refuses the pair.

    Fails:
    ```toml
    [method]
    type = "prefix"
    [training]
    gradient_checkpointing = true
    ```
    Passes:
    ```toml
    [method]
    type = "prefix"
    [training]
    gradient_checkpointing = false
    ```
    """
    if isinstance(spec.method, Prefix) and spec.training.gradient_checkpointing:
        yield error(
            "A833",
            "prefix tuning does not go with gradient checkpointing",
            METHOD_TYPE,
            labels=(Label(("training", "gradient_checkpointing"), "activations are recomputed"),),
            helps=("write `gradient_checkpointing = false`",),
        )


def check_start(spec: Spec) -> Iterator[Diagnostic]:
    """A PiSSA adapter that nobody could load again.

    It belongs to the weights without their principal part, which whoever loads it computes anew. The fast decomposition
    draws at random and finds another part each time.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa", convert = false }
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa", convert = false, exact = true }
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, PissaInit):
        return
    if not method.init.convert and not method.init.exact:
        yield error(
            "A836",
            "the adapter could not be loaded again: its start is drawn at random",
            ("method", "init", "convert"),
            label="saved as it is trained",
            helps=("write `convert = true`, or `exact = true`",),
        )


def check_apart(spec: Spec) -> Iterator[Diagnostic]:
    """Virtual tokens stand in front of a row, not in front of each sample in it.

    Samples that share a row are kept apart by their positions, which PEFT drops where it adds virtual tokens.

    Fails:
    ```toml
    [data]
    packing = "padding-free"
    [method]
    type = "prompt"
    ```
    Passes:
    ```toml
    [data]
    packing = "off"
    [method]
    type = "prompt"
    ```
    """
    method, chosen = spec.method, spec.data.packing
    if isinstance(method, VIRTUAL) and chosen in ("padding-free", "isolated"):
        yield error(
            "A837",
            f"`{method.type}` does not go with samples that share a row",
            METHOD_TYPE,
            label="virtual tokens stand in front of a row",
            labels=(Label(("data", "packing"), "rows of several samples"),),
            helps=('write `packing = "off"`',),
        )


RULES = (
    Rule("A822", "no steps for ranks", pure=check_budget),
    Rule("A825", "rates of a frozen matrix", pure=check_rates),
    Rule("A828", "adapter not convertible", pure=check_conversion),
    Rule("A829", "embeddings trained twice", pure=check_tokens),
    Rule("A832", "bare parameters", pure=check_bare),
    Rule("A833", "prefix while recomputing", pure=check_prefix),
    Rule("A836", "adapter that cannot be loaded", pure=check_start),
    Rule("A837", "virtual tokens and packing", pure=check_apart),
)
