"""`[tokenizer]` and `[template]`: how text becomes tokens."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Tokenizer:
    """The tokenizer that belongs to the model."""

    path: str | None = None
    """Folder or hub id of the tokenizer. Default: `model.path`."""


@frozen(kw_only=True)
class TokenizerTemplate:
    """The chat template that ships with the tokenizer."""

    type: Literal["tokenizer"] = "tokenizer"
    """`tokenizer`: use the tokenizer's own chat template."""


@frozen(kw_only=True)
class FileTemplate:
    """A chat template of your own; it is saved with the trained model."""

    type: Literal["file"]
    """`file`: use a Jinja file in the Hugging Face convention."""

    path: str
    """The Jinja file, relative to the spec."""


Template = TokenizerTemplate | FileTemplate
