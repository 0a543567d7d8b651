"""The tokenizer: which kind, and what it does with the text of special tokens."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..spec import Pretraining, Spec
from .loading import TRANSFORMERS
from .rule import Rule


def check_splitting(spec: Spec) -> Iterator[Diagnostic]:
    """Special tokens are to be split in conversations.

    A chat template writes its marks as text, so that they would be split like a mark that a user typed: no turn
    would begin or end with a token that the model knows. Plain texts have no marks of a template.

    Fails:
    ```toml
    [tokenizer]
    split_special_tokens = true
    [objective]
    type = "sft"
    ```
    Passes:
    ```toml
    [tokenizer]
    split_special_tokens = true
    [objective]
    type = "pretraining"
    [data]
    sources = [{ format = "text", path = "data/texts.jsonl" }]
    ```
    """
    if spec.tokenizer.split_special_tokens and not isinstance(spec.objective, Pretraining):
        yield error(
            "M622",
            "special tokens cannot be split in conversations: the template's own would be split, too",
            ("tokenizer", "split_special_tokens"),
            labels=(Label(("objective", "type"), "trains on conversations"),),
            helps=('remove it; plain texts can be split: `[objective] type = "pretraining"`',),
        )


def check_slow(spec: Spec) -> Iterator[Diagnostic]:
    """A slow tokenizer is wanted, but there is none any more.

    transformers 5 loads every tokenizer by its fast backend, whatever it is asked for. The loss mask needs the
    offsets that only this backend reports.

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
    if not spec.tokenizer.fast:
        yield error(
            "M623",
            f"there is no slow tokenizer: transformers {TRANSFORMERS} always uses the fast one",
            ("tokenizer", "fast"),
            helps=("remove `fast = false`",),
        )


RULES = (
    Rule("M622", "special tokens split in conversations", pure=check_splitting),
    Rule("M623", "no slow tokenizer", pure=check_slow),
)
