"""The lines of a source that a finding is about, with what is underlined in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from attrs import frozen

from ..diagnostics import Level
from ..scanner import Span
from ..secret_texts import masked
from .cells import Cells, Shown, cut, shortened, visible
from .sources import Spot, is_flag

_RESET = "\x1b[0m"
LEVEL_COLORS = {Level.ERROR: "1;31", Level.WARNING: "1;33", Level.NOTE: "1;32"}
GUTTER_COLOR = "1;34"


@frozen
class Paint:
    color: bool

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}{_RESET}" if self.color and text else text


@frozen
class Mark:
    """An underlined place with its label."""

    spot: Spot
    text: str
    is_primary: bool

    @property
    def line(self) -> int:
        return self.spot.start[0]


@frozen
class Line:
    """A single line of another file, as a source."""

    name: str
    text: str


@frozen
class Excerpt:
    """The marked lines of one source."""

    marks: list[Mark]
    gutter: int
    paint: Paint
    width: int
    color: str
    lines_before: int = 0

    def render(self, is_main: bool) -> list[str]:
        """Return the line that names the place, and the excerpt."""
        arrow = self.paint("-->" if is_main else ":::", GUTTER_COLOR)
        name, (line, column) = visible(self.marks[0].spot.source.name), self.marks[0].spot.start
        where = name if is_flag(self.marks[0].spot.source) else f"{name}:{line}:{column}"
        lines = [f"{' ' * self.gutter}{arrow} {where}"]
        return lines + (self.body() if self._says_something() else [])

    def _says_something(self) -> bool:
        # What is missing altogether points at the start of the file, whose first line says nothing about it.
        spans = {mark.spot.span for mark in self.marks}
        return spans != {Span(0, 0)} and bool(self.marks[0].spot.source.text)

    def body(self) -> list[str]:
        """Return the excerpt with its gutter."""
        lines = [self._row("", "")]
        previous = 0
        ordered = sorted(
            self.marks, key=lambda mark: (mark.line, not mark.is_primary, mark.spot.span.start)
        )
        for number, marks in groupby(ordered, key=lambda mark: mark.line):
            if previous and number > previous + 1:
                lines.append(self.paint("...", GUTTER_COLOR))
            lines += self._marked_line(number, list(marks))
            previous = number
        return lines

    def _row(self, number: str, text: str) -> str:
        edge = self.paint(f"{number:>{self.gutter}} |", GUTTER_COLOR)
        return f"{edge} {text}" if text else edge

    def _marked_line(self, number: int, marks: list[Mark]) -> Iterator[str]:
        line = _source_line(marks[0].spot)
        room = max(self.width - self.gutter - 3, 20)
        is_long = len(line) > room or Cells.of(line).width() > room
        # A cut line shows the surroundings of one mark only.
        for view in [[mark] for mark in marks] if is_long else [marks]:
            start, end = _columns(view[0].spot, len(line))
            shown = cut(line, start, end, room) if is_long else Shown(line)
            is_numbered = not is_flag(marks[0].spot.source)
            yield self._row(str(number + self.lines_before) if is_numbered else "", shown.text())
            for mark in view:
                yield self._row("", self._underline(shown, mark, len(line)))

    def _underline(self, shown: Shown, mark: Mark, length: int) -> str:
        indent, size = shown.cells(*_columns(mark.spot, length))
        signs = ("^" if mark.is_primary else "-") * max(size, 1)
        text = f"{signs} {visible(shortened(mark.text))}" if mark.text else signs
        color = self.color if mark.is_primary else GUTTER_COLOR
        return " " * indent + self.paint(text, color)


def _source_line(spot: Spot) -> str:
    text = spot.source.text
    start = text.rfind("\n", 0, spot.span.start) + 1
    end = text.find("\n", spot.span.start)
    return masked(text[start : len(text) if end < 0 else end].removesuffix("\r"))


def _columns(spot: Spot, length: int) -> tuple[int, int]:
    """Return the part of the first line that the span covers, from 0."""
    start = min(spot.start[1] - 1, length)
    return start, max(min(start + spot.span.end - spot.span.start, length), start)
