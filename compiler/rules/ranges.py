"""Numbers that are out of their range, and texts that cannot be what they claim."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import attrs

from ..diagnostics import Diagnostic, SpecPath, error
from ..spec import Spec
from ..toml_words import dotted
from .bounds import ANY, BOUNDS, COUNT, NATURAL, PART, POSITIVE, SEED, SHARE, Range
from .rule import Rule
from .walk import kindless, tables, texts

RANGES: dict[str, Range] = {
    # By name without kinds, or with them (`method[oft].rank`) where kinds differ.
    **BOUNDS,
    "model.moe_aux_loss": Range("from 0 to 10", least=0, most=10),
    "model.rope.factor": Range("above 1 up to 1,024", above=1, most=1024),
    "model.rope.beta_fast": POSITIVE,
    "model.rope.beta_slow": POSITIVE,
    "model.rope.low_freq_factor": POSITIVE,
    "model.rope.high_freq_factor": POSITIVE,
    "adapters.weights.*": Range("from -100 to 100", least=-100, most=100),
    "quantization.group_size": Range("from 8 to 65,536", least=8, most=65536),
    "quantization_aware.group_size": Range("from 8 to 65,536", least=8, most=65536),
    "tokenizer.pad_to_multiple": Range("from 1 to 65,536", least=1, most=65536),
    "media.image_max_pixels": COUNT,
    "media.image_min_pixels": COUNT,
    "media.video_max_pixels": COUNT,
    "media.video_min_pixels": COUNT,
    "media.video_fps": Range("above 0 up to 240", above=0, most=240),
    "media.video_max_frames": COUNT,
    "media.audio_rate_hz": Range("from 1,000 to 768,000", least=1000, most=768000),
    "method.rank": COUNT,
    "method.alpha": POSITIVE,
    "method.dropout": SHARE,
    "method.alpha_pattern.*": POSITIVE,
    "method.b_rate_ratio": POSITIVE,
    "method.block_size": COUNT,
    "method.blocks": COUNT,
    "method.embedding_rate": Range("above 0 and below 1", above=0, below=1),
    "method.expanded_blocks": COUNT,
    "method.factors": COUNT,
    "method.final_steps": NATURAL,
    "method.init.batches": COUNT,
    "method.init.iterations": COUNT,
    "method.init.rho": Range("at least 1", least=1),
    "method.initial_rank": COUNT,
    "method.interval": COUNT,
    "method.layers.*": NATURAL,
    "method.num_blocks": COUNT,
    "method.num_tokens": COUNT,
    "method.rank_pattern.*": COUNT,
    "method.bank_bound": POSITIVE,
    "method.frequencies": COUNT,
    "method.group_size": COUNT,
    "method.hidden_size": COUNT,
    "method.init.gamma": POSITIVE,
    "method.logits_std": POSITIVE,
    "method.mini_rank": COUNT,
    "method.num_layers": COUNT,
    "method.num_vectors": COUNT,
    "method.scale": POSITIVE,
    "method.seed": SEED,
    "method.top_k": COUNT,
    "method.vector_length": COUNT,
    "method.warmup_steps": NATURAL,
    "optimizer.beta1": SHARE,
    "optimizer.beta2": SHARE,
    "optimizer.epsilon": POSITIVE,
    "optimizer.weight_decay": NATURAL,
    "optimizer.momentum": SHARE,
    "optimizer.newton_schulz_steps": Range("from 1 to 99", least=1, most=99),
    "optimizer.rank": COUNT,
    "optimizer.interval": COUNT,
    "optimizer.scale": POSITIVE,
    "optimizer.ratio": PART,
    "optimizer.start_block": NATURAL,
    "optimizer.options.*": ANY,
}

DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


PROMPTS = ("generation.system", "template.system")
"""Texts that a model is told: they can be empty, and have lines."""


def check_ranges(spec: Spec) -> Iterator[Diagnostic]:
    """A number outside the range its setting allows.

    Such a value fails at the first step at best, and trains nonsense at worst: a rank of 0 has no parameters,
    a learning rate of 10 destroys the weights.

    Fails:
    ```toml
    [training]
    learning_rate = 2.0
    ```
    Passes:
    ```toml
    [training]
    learning_rate = 2e-4
    ```
    """
    for path, name, value in _numbers(spec):
        allowed = RANGES.get(name) or RANGES.get(kindless(name))
        if allowed is not None and not allowed.holds(value):
            yield error(
                "T210",
                f"`{dotted(path)}` is {value}, allowed is {allowed.text}",
                path,
                label=f"must be {allowed.text}",
            )


def _numbers(spec: Spec) -> Iterator[tuple[SpecPath, str, int | float]]:
    """Yield every number with its path and its name; those of a list or mapping are named `*`."""
    for path, name, table in tables(spec):
        for field in attrs.fields(type(table)):
            value, here = getattr(table, field.name), f"{name}.{field.name}" if name else field.name
            if type(value) in (int, float):
                yield (*path, field.name), here, value
            elif isinstance(value, tuple | dict):
                items = enumerate(value) if isinstance(value, tuple) else value.items()
                for key, item in items:
                    if type(item) in (int, float):
                        yield (*path, field.name, key), f"{here}.*", item


def check_fraction(spec: Spec) -> Iterator[Diagnostic]:
    """A share of the rows is written as a number that is neither a count nor a fraction.

    `data.eval_rows` is a whole number of rows, or a fraction below 1 of all rows; `1.5` is neither.

    Fails:
    ```toml
    [data]
    eval_rows = 1.5
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 0.1
    ```
    """
    rows = spec.data.eval_rows
    if isinstance(rows, float) and rows >= 1:
        yield error(
            "T211",
            f"`data.eval_rows` is {rows}: not a count and not a fraction below 1",
            ("data", "eval_rows"),
            helps=(f"write `{rows:.0f}` for that many rows, or a fraction such as `0.1`",),
        )


def check_texts(spec: Spec) -> Iterator[Diagnostic]:
    """A text holds characters that no name or path should have.

    Control characters break logs and terminals, and direction marks make a path look like another one.

    Fails:
    ```toml
    [run]
    name = "a\\u202eb"
    ```
    Passes:
    ```toml
    [run]
    name = "früh 1"
    ```
    """
    for path, value in texts(spec):
        if _key(path) in PROMPTS:
            continue
        bad = next((c for c in value if _is_invisible(c)), None)
        if bad is not None:
            yield error(
                "T212",
                f"`{dotted(path)}` holds the invisible character U+{ord(bad):04X}",
                path,
                helps=("retype the text",),
            )


def check_empty(spec: Spec) -> Iterator[Diagnostic]:
    """A text or a list that must say something is empty.

    Fails:
    ```toml
    [model]
    path = ""
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    for path, value in texts(spec):
        if value == "" and _key(path) not in PROMPTS:
            yield error("T213", f"`{dotted(path)}` is empty", path)
    if not spec.data.sources:
        yield error(
            "T213", "`data.sources` is empty: there is nothing to learn from", ("data", "sources")
        )


def _is_invisible(character: str) -> bool:
    """Tell control characters, line and paragraph separators, and direction marks; joiners of emoji are fine."""
    return character in DIRECTIONS or unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _key(path: SpecPath) -> str:
    return ".".join("*" if isinstance(step, int) else step for step in path)


RULES = (
    Rule("T210", "out of range", pure=check_ranges),
    Rule("T211", "neither count nor fraction", pure=check_fraction),
    Rule("T212", "invisible characters", pure=check_texts),
    Rule("T213", "empty", pure=check_empty),
)
