"""Text of strangers made harmless: what a terminal or a reader would obey is written out instead."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible and needed: Persian words and many emoji fall apart without them."""
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def visible(text: str) -> str:
    """Return the text with control, direction and other invisible characters as escapes; line breaks too."""
    return _SUSPECT.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _JOINERS or character == "\ufffd":
        return character
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return ascii(character)[1:-1] if hidden else character


def with_breaks(text: str) -> str:
    """Return visible text in which line breaks and tabs are shown as `↵` and `→` and kept."""
    return "↵\n".join("→\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))
