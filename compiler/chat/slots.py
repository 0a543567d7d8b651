"""Slots: how a template of the library writes a turn, and how that becomes a Jinja expression."""

from __future__ import annotations

import re

CONTENT = "{{content}}"
_MARKS = {"{{bos}}": "bos_token", "{{eos}}": "eos_token"}
_PIECES = re.compile("(" + "|".join(re.escape(mark) for mark in _MARKS) + ")")
_BRACE = re.compile(r"(?<=\{)(?=[{%#])|(?<=[}%#])(?=\})")
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def split(slot: str) -> tuple[str, str]:
    """Return what a slot writes before and after the content."""
    before, _, after = slot.partition(CONTENT)
    return before, after


def literal(text: str) -> str:
    """Return `text` as a Jinja expression; the only way for a value into a template.

    Two braces that Jinja could read as a tag never stand side by side, so that nothing that searches a
    template for tags, such as for `{% generation %}`, finds one in a value.
    """
    parts = _BRACE.split(text)
    shown = " ~ ".join("'" + part.translate(_ESCAPES) + "'" for part in parts)
    return shown if len(parts) == 1 else f"({shown})"


def expression(text: str, *, mark: str = CONTENT, content: str = "text") -> str:
    """Return the part of a slot as a Jinja expression: '' for nothing; `content` is written for `mark`."""
    before, found, after = text.partition(mark)
    terms = _terms(before) + ([content] if found else []) + _terms(after)
    return " ~ ".join(terms)


def _terms(text: str) -> list[str]:
    return [_MARKS.get(piece) or literal(piece) for piece in _PIECES.split(text) if piece]
