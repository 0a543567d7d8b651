"""The tokenizer: which kind, and tokens that are added to it."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..spec import Spec
from .rule import Rule


def check_splitting(spec: Spec) -> Iterator[Diagnostic]:
    """Special tokens cannot be split by a fast tokenizer.

    A fast tokenizer finds special tokens before anything else. The slow one reports no offsets, from which the loss
    mask of conversations is cut.

    Fails:
    ```toml
    [tokenizer]
    split_special_tokens = true
    ```
    Passes:
    ```toml
    [tokenizer]
    split_special_tokens = false
    ```
    """
    tokenizer = spec.tokenizer
    if tokenizer.split_special_tokens and tokenizer.fast:
        yield error(
            "M622",
            "a fast tokenizer does not split special tokens",
            ("tokenizer", "split_special_tokens"),
            labels=(Label(("tokenizer", "fast"), "fast here"),),
            helps=("remove `split_special_tokens`, or write `fast = false`",),
        )


def check_slow(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A slow tokenizer is wanted, but its files are not there.

    Fails:
    ```toml
    [tokenizer]
    fast = false
    ```
    Passes:
    ```toml
    [tokenizer]
    fast = true
    ```
    """
    facts_here = facts.tokenizer
    if spec.tokenizer.fast or facts_here.state != "folder" or facts_here.has_slow_tokenizer:
        return
    yield error(
        "M623",
        f"`{spec.tokenizer.path or spec.model.path}` has no files of a slow tokenizer",
        ("tokenizer", "fast"),
        labels=(_source(spec),),
        helps=("remove `fast = false`: a fast tokenizer is there",)
        if facts_here.has_tokenizer
        else (),
    )


def _source(spec: Spec) -> Label:
    section = "model" if spec.tokenizer.path is None else "tokenizer"
    return Label((section, "path"), "the tokenizer's folder")


RULES = (
    Rule("M622", "splitting by a fast tokenizer", pure=check_splitting),
    Rule("M623", "no slow tokenizer", factual=check_slow),
)
