"""Ranks and scales of their own: regular expressions over the names of modules."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from ..diagnostics import Diagnostic, SpecPath, error
from ..facts import Facts
from ..spec import Lora, Spec
from .method import targeted
from .rule import Rule

FIELDS = ("rank_pattern", "alpha_pattern")

_REPEAT = re.compile(r"[*+{]")


def check_syntax(spec: Spec) -> Iterator[Diagnostic]:
    """A pattern is no regular expression.

    Fails:
    ```toml
    [method]
    type = "lora"
    rank_pattern = { "(q_proj" = 16 }
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank_pattern = { "(q|k)_proj" = 16 }
    ```
    """
    for path, pattern in _patterns(spec):
        fault = _compile(pattern)[1]
        if fault is not None:
            yield error(
                "A815",
                f"`{pattern}` is no regular expression: {fault}",
                path,
                helps=("a plain name of a module is one too",),
            )


def check_matches(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A pattern matches no module that gets an adapter.

    PEFT compares the whole last part of a module's name, from a dot to the end, and says nothing when none fits.

    Fails:
    ```toml
    [method]
    type = "lora"
    rank_pattern = { "quary" = 16 }
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank_pattern = { "q_proj" = 16 }
    ```
    """
    patterns = _patterns(spec)
    if not patterns or not isinstance(spec.method, Lora):
        return
    modules = targeted(spec.method, facts.model.linear_modules())
    for path, pattern in patterns:
        compiled = _compile(pattern)[0]
        if not modules or compiled is None or may_take_for_ever(pattern):
            continue
        if not any(map(compiled.match, modules)):
            names = sorted({name.rsplit(".", 1)[-1] for name in modules})
            yield error(
                "A816",
                f"no adapted module matches `{pattern}`",
                path,
                helps=("adapted are " + ", ".join(f"`{name}`" for name in names[:30]),),
            )


def _patterns(spec: Spec) -> list[tuple[SpecPath, str]]:
    if not isinstance(spec.method, Lora):
        return []
    return [
        (("method", field, pattern), pattern)
        for field in FIELDS
        for pattern in getattr(spec.method, field)
    ]


def may_take_for_ever(pattern: str) -> bool:
    """Tell whether a search could go through exponentially many ways: repeated groups, or many repetitions."""
    return (
        ")*" in pattern or ")+" in pattern or "){" in pattern or len(_REPEAT.findall(pattern)) > 4
    )


def _compile(pattern: str) -> tuple[re.Pattern[str] | None, str | None]:
    """Return the pattern the way PEFT compiles it, or what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(rf"(.*\.)?({pattern})$"), None
    except (re.error, RecursionError, OverflowError) as fault:
        return None, fault.msg if isinstance(fault, re.error) else "it is too deep"


RULES = (
    Rule("A815", "no regular expression", pure=check_syntax),
    Rule("A816", "pattern matches nothing", factual=check_matches),
)
