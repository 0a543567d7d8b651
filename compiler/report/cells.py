"""Text as a terminal shows it: how wide each character is, and which must not be obeyed."""

from __future__ import annotations

import unicodedata

from attrs import frozen

TAB_WIDTH = 4


@frozen
class Cells:
    """A source line as a terminal shows it: one piece of text a character, and its width."""

    pieces: list[str]
    widths: list[int]

    @classmethod
    def of(cls, line: str) -> Cells:
        pieces, widths, column = [], [], 0
        for character in line:
            piece, size = _cell(character, column)
            pieces.append(piece)
            widths.append(size)
            column += size
        return cls(pieces, widths)

    def width(self, start: int = 0, end: int | None = None) -> int:
        return sum(self.widths[start:end])


def _cell(character: str, column: int) -> tuple[str, int]:
    if character == "\t":
        size = TAB_WIDTH - column % TAB_WIDTH
        return " " * size, size
    escaped = visible(character)
    if escaped != character:
        return escaped, len(escaped)
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return character, 0
    return character, 2 if unicodedata.east_asian_width(character) in "WF" else 1


_JOINERS = "\u200c\u200d"


MAX_TEXT = 2000
"""Characters of a message that are shown: a name in it may be a mebibyte long."""


def shortened(text: str) -> str:
    """Return a message without the middle of what is too long to be read."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 200]} ... {text[-100:]}"


def visible(text: str) -> str:
    """Replace what a terminal would obey instead of show: control, direction and invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    is_special = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return is_special and character not in _JOINERS


def visible_lines(text: str) -> list[str]:
    """Return the lines of a text with everything spelled out that a terminal would obey."""
    return [visible(line) for line in text.split("\n")]


@frozen
class Shown:
    """The visible part of a source line."""

    line: str
    first: int = 0
    """How many characters are cut off before."""
    is_cut_before: bool = False
    is_cut_after: bool = False

    def text(self) -> str:
        head, tail = "..." * self.is_cut_before, "..." * self.is_cut_after
        return head + "".join(Cells.of(self.line).pieces) + tail

    def cells(self, start: int, end: int) -> tuple[int, int]:
        """Return indent and width of a part of the whole line."""
        cells = Cells.of(self.line)
        start, end = start - self.first, end - self.first
        return 3 * self.is_cut_before + cells.width(0, start), cells.width(start, end)


def cut(line: str, start: int, end: int, room: int) -> Shown:
    """Cut a line that is too long so that the part from `start` to `end` is seen, with some text before it."""
    room -= 6  # for an ellipsis on both sides
    behind = _fitting(line[start : start + room], room)
    wanted = min(behind, max(end - start, 1))
    # What the part itself leaves free goes to the text before it first, up to a third.
    spare = room - Cells.of(line[start : start + wanted]).width()
    keep = max(min(spare, room // 3), room - Cells.of(line[start : start + behind]).width())
    before = _fitting(line[max(start - room, 0) : start][::-1], keep)
    first = start - before
    last = first + _fitting(line[first : first + room], room)
    return Shown(line[first:last], first, first > 0, last < len(line))


def _fitting(text: str, room: int) -> int:
    """Return how many characters of the text fit into a number of cells."""
    used = 0
    for index, size in enumerate(Cells.of(text).widths):
        used += size
        if used > room:
            return index
    return len(text)
