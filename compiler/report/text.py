"""Findings as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from ..diagnostics import Diagnostic, Level, Place
from ..files import UnreadableError, read_regular_file
from ..scanner import Span
from .cells import shortened, visible, visible_lines
from .excerpts import GUTTER_COLOR, LEVEL_COLORS, Excerpt, Line, Mark, Paint
from .regions import file_name, fixable
from .sources import (
    Documents,
    Source,
    Spot,
    count_of,
    main_document,
    ordered,
    own_spot,
    sources_of,
    spot_of,
)


def render_text(
    diagnostics: Iterable[Diagnostic],
    documents: Documents,
    *,
    color: bool,
    width: int,
    allowed: int = 0,
) -> str:
    """Return the findings as a terminal shows them, sorted and counted; nothing for no findings.

    `width` is the terminal's, in cells: longer source lines are cut around what they are shown for. `allowed`
    is the number of warnings that the spec wants no more of.
    """
    found, sources = ordered(diagnostics, documents), sources_of(documents)
    if not found:
        return ""
    paint = Paint(color)
    blocks = [_Block(finding, sources, paint, width).render() for finding in found]
    end = _allowed(allowed) + _fixes_available(found, documents)
    return "\n".join([*blocks, f"{_summary(found, paint)}{end}\n"])


@frozen
class _Block:
    """One finding on its way to text."""

    diagnostic: Diagnostic
    sources: Sequence[Source]
    paint: Paint
    width: int

    def render(self) -> str:
        """Return the lines of the finding, each with its line break."""
        groups = self._marks()
        numbers = [mark.line for marks in groups for mark in marks]
        place = self.diagnostic.place
        gutter = len(str(max([*numbers, place.line if place else 0, 1])))
        lines = [self._headline(), *self._place_lines(gutter)]
        for index, marks in enumerate(groups):
            is_main = index == 0 and place is None
            lines += Excerpt(marks, gutter, self.paint, self.width, self._color).render(is_main)
        lines += self._remarks(gutter)
        return "\n".join(lines) + "\n"

    @property
    def _color(self) -> str:
        return LEVEL_COLORS[self.diagnostic.level]

    def _headline(self) -> str:
        found = self.diagnostic
        head = self.paint(f"{found.level.value}[{found.code}]", self._color)
        return head + self.paint(f": {visible(shortened(found.message))}", "1")

    def _marks(self) -> list[list[Mark]]:
        """Return the marks of each source, the finding's own source first."""
        found = self.diagnostic
        own = own_spot(found, self.sources)
        marks = [] if own is None else [Mark(own, found.label, True)]
        for label in found.labels:
            spot = spot_of(self.sources, label.path, label.offsets, name=found.source)
            # What stands nowhere explains nothing by its place.
            is_somewhere = spot is not None and spot.span != Span(0, 0)
            marks += [Mark(spot, label.text, False)] if spot and is_somewhere else []
        by_source: dict[int, list[Mark]] = {}
        for mark in marks:
            by_source.setdefault(id(mark.spot.source), []).append(mark)
        return list(by_source.values())

    def _place_lines(self, gutter: int) -> list[str]:
        place = self.diagnostic.place
        if place is None:
            return []
        numbers = [str(number) for number in (place.line, place.column) if number]
        where = ":".join([visible(file_name(place.file)), *numbers])
        lines = [f"{' ' * gutter}{self.paint('-->', GUTTER_COLOR)} {where}"]
        text = _line_of_file(place) if place.line else None
        if text is None:
            return lines
        start = min(max(place.column - 1, 0), len(text))
        source = Line(str(place.file), text)
        mark = Mark(Spot(source, Span(start, start + 1)), self.diagnostic.label, True)
        excerpt = Excerpt([mark], gutter, self.paint, self.width, self._color, place.line - 1)
        body = excerpt.body()
        # Without a column the whole line is meant, and nothing is underlined.
        return lines + (body if place.column else body[:2])

    def _remarks(self, gutter: int) -> list[str]:
        remarks = [("note", note) for note in self.diagnostic.notes]
        remarks += [("help", help_) for help_ in self.diagnostic.helps]
        if not remarks:
            return []
        lines = [f"{' ' * gutter} {self.paint('|', GUTTER_COLOR)}"]
        for kind, text in remarks:
            first, *rest = visible_lines(shortened(text))
            equals = self.paint("=", GUTTER_COLOR)
            lines.append(f"{' ' * gutter} {equals} {self.paint(kind, '1')}: {first}")
            lines += [f"{' ' * (gutter + 9)}{line}".rstrip() for line in rest]
        return lines


def _line_of_file(place: Place) -> str | None:
    """Return a line of a small text file; nothing when that is not to be had cheaply."""
    try:
        lines = read_regular_file(place.file).decode(errors="replace").split("\n")
    except UnreadableError:
        return None
    return lines[place.line - 1].removesuffix("\r") if place.line <= len(lines) else None


def _summary(found: Sequence[Diagnostic], paint: Paint) -> str:
    counts = [(level, count_of(found, level)) for level in Level]
    words = [
        paint(f"{count} {level.value}{'s' if count > 1 else ''}", LEVEL_COLORS[level])
        for level, count in counts
        if count
    ]
    return ", ".join(words)


def _allowed(count: int) -> str:
    return f", {count} allowed" if count else ""


def _fixes_available(found: Sequence[Diagnostic], documents: Documents) -> str:
    main = main_document(documents)
    candidates = fixable(found, documents)
    if main is None or not candidates:
        return ""
    from ..fix import with_edits  # most specs have nothing to fix

    count = len(with_edits(candidates, main))
    name = "fix" if count == 1 else f"{count} fixes"
    return f" ({name} available: tunec check --fix)" if count else ""
