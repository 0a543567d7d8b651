"""Rotary positions for longer texts than the model was made for."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..facts.config import rope_kind, rope_kinds, shows_rope
from ..spec import DynamicRope, Llama3Rope, Spec, YarnRope
from .rule import Rule

ROPE_TYPE: SpecPath = ("model", "rope", "type")

_OTHERS = """
gpt2 gpt_bigcode gpt_neo opt bloom mpt openai-gpt xglm biogpt mamba mamba2 falcon_mamba rwkv ctrl bart xlnet
"""
WITHOUT_ROPE = frozenset(_OTHERS.split())
"""Model types with learned, sinusoidal, linear-bias or no positions."""


def check_rope(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Rotary positions are to be stretched, but the model has none, or several kinds.

    Models with sliding windows may have positions of their own for each kind of layer; which of them to stretch, no
    single factor says.

    Fails:
    ```toml
    [model]
    path = "absolute-model"
    rope = { type = "linear", factor = 2.0 }
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    rope = { type = "linear", factor = 2.0 }
    [data]
    max_length = 1024
    ```
    """
    kind, config = facts.model.text_type, facts.model.config
    if spec.model.rope is None:
        return
    if rope_kinds(config) > 1:
        has = f"{rope_kinds(config)} kinds of rotary positions, which one factor does not fit"
    elif kind in WITHOUT_ROPE and not shows_rope(config):
        has = "no rotary positions to stretch"
    else:
        return
    yield error(
        "M613",
        f"a model of type `{kind}` has {has}",
        ("model", "rope"),
        labels=(Label(("model", "path"), f"`{kind}`"),),
        helps=("remove `model.rope`",),
    )


def check_rope_needed(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Rotary positions are to be stretched, but the texts fit as it is.

    Stretching costs quality on short texts and buys nothing here.

    Fails:
    ```toml
    [model]
    rope = { type = "yarn" }
    [data]
    max_length = 128
    ```
    Passes:
    ```toml
    [model]
    rope = { type = "yarn" }
    [data]
    max_length = 1024
    ```
    """
    limit = facts.model.number("max_position_embeddings")
    if spec.model.rope is not None and limit is not None and spec.data.max_length <= limit:
        yield warning(
            "M614",
            f"there is nothing to stretch: the model has {limit:,} positions",
            ("model", "rope"),
            labels=(Label(("data", "max_length"), f"at most {spec.data.max_length:,} are used"),),
            helps=("remove `model.rope`, or raise `data.max_length`",),
        )


def check_rope_twice(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model comes with stretched positions, and they are stretched another way.

    Two scalings do not add up: the one of the spec takes the place of the one the model was trained with.

    Fails:
    ```toml
    [model]
    path = "stretched-model"
    rope = { type = "linear", factor = 4.0 }
    [data]
    max_length = 1024
    ```
    Passes:
    ```toml
    [model]
    path = "stretched-model"
    ```
    """
    had = rope_kind(facts.model.config)
    if spec.model.rope is not None and had is not None:
        yield warning(
            "M615",
            f"the model has positions scaled by `{had}` already, which `{spec.model.rope.type}` replaces",
            ROPE_TYPE,
            notes=("`rope_scaling` or `rope_parameters` of the model's config.json",),
            helps=("remove `model.rope` unless that is what you want",),
        )


def check_rope_dynamic(spec: Spec) -> Iterator[Diagnostic]:
    """Scaling that depends on the length of the text, while training.

    Each length has positions of its own, so that what is learned on one does not carry over to another.

    Fails:
    ```toml
    [model]
    rope = { type = "dynamic", factor = 2.0 }
    [data]
    max_length = 1024
    ```
    Passes:
    ```toml
    [model]
    rope = { type = "yarn", factor = 2.0 }
    [data]
    max_length = 1024
    ```
    """
    if isinstance(spec.model.rope, DynamicRope):
        yield warning(
            "M616",
            "`dynamic` scaling moves positions with the length of each text, which training suffers from",
            ROPE_TYPE,
            helps=("train with `linear`, `yarn` or `llama3`",),
        )


def check_rope_bands(spec: Spec) -> Iterator[Diagnostic]:
    """The bands of frequencies are the wrong way round.

    Fails:
    ```toml
    [model]
    rope = { type = "llama3", factor = 2.0, low_freq_factor = 4.0, high_freq_factor = 1.0 }
    [data]
    max_length = 1024
    ```
    Passes:
    ```toml
    [model]
    rope = { type = "llama3", factor = 2.0, low_freq_factor = 1.0, high_freq_factor = 4.0 }
    [data]
    max_length = 1024
    ```
    """
    rope = spec.model.rope
    if isinstance(rope, Llama3Rope):
        low, high, names = rope.low_freq_factor, rope.high_freq_factor, ("low_freq_factor", "high_freq_factor")  # fmt: skip
    elif isinstance(rope, YarnRope):
        low, high, names = rope.beta_slow, rope.beta_fast, ("beta_slow", "beta_fast")
    else:
        return
    if low >= high:
        yield error(
            "M617",
            f"`{names[0]}` is {low:g}, it must be below `{names[1]}`, which is {high:g}",
            ("model", "rope", names[0]),
            labels=(Label(("model", "rope", names[1]), "the upper end"),),
        )


RULES = (
    Rule("M613", "no rotary positions", factual=check_rope),
    Rule("M614", "nothing to stretch", factual=check_rope_needed),
    Rule("M615", "stretched twice", factual=check_rope_twice),
    Rule("M616", "dynamic scaling in training", pure=check_rope_dynamic),
    Rule("M617", "bands the wrong way round", pure=check_rope_bands),
)
