"""The only ways for a value into generated text: Python literals, shell words, TOML values, plain words."""

from __future__ import annotations

import math
import re
import shlex
from typing import Any

from ..toml_text import toml_key, toml_literal

__all__ = ["plain_words", "python_literal", "shell_word", "toml_key", "toml_literal"]


def python_literal(value: Any) -> str:
    """Return `value` as a Python literal, the way ruff would write it.

    Raises:
        TypeError: for anything but None, booleans, finite numbers, text, and lists and dictionaries of these.
    """
    if value is None or type(value) in (bool, int):
        return repr(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    if type(value) is str:
        return _python_text(value)
    if type(value) in (list, tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if type(value) is dict:
        items = (f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    raise TypeError(f"no Python literal for {value!r}")


def shell_word(value: str) -> str:
    """Return `value` as one word of a shell command.

    Raises:
        ValueError: for a NUL, which no argument can hold.
    """
    if "\0" in value:
        raise ValueError("a shell word cannot hold NUL")
    return shlex.quote(value)


def plain_words(value: str) -> str:
    """Return `value` fit for a comment: letters, digits, blanks and a few marks; all else becomes `_`."""
    return re.sub(r"[^\w .,:;'+@=()/-]", "_", value)


def _python_text(text: str) -> str:
    """Prefer double quotes, as ruff does, unless that needs more escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_python_character(c, quote) for c in text) + quote


def _python_character(character: str, quote: str) -> str:
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", quote: "\\" + quote}
    if character in named:
        return named[character]
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
