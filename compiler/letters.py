"""Letters that look like others: what a reader takes for a known name, and the program does not."""

from __future__ import annotations

import unicodedata


def odd_letters(text: str) -> str:
    """Return the first few letters of a name that are not ASCII, in words; nothing where there are none."""
    found = dict.fromkeys(letter for letter in text if not letter.isascii())
    return ", ".join(f"`{letter}` is {_words(letter)}" for letter in [*found][:3])


def _words(letter: str) -> str:
    name = unicodedata.name(letter, "").lower()
    return f"U+{ord(letter):04X}{f', {name}' if name else ''}"
