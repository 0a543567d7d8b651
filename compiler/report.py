"""Diagnostics to text for people and to JSON for programs."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

from attrs import frozen

from .diagnostics import Diagnostic, Label, Level, Place, SpecPath
from .document import Document
from .files import UnreadableError, read_regular_file
from .scanner import Span, position

TAB_WIDTH = 4
FORMAT_VERSION = "1.0"


class Source(Protocol):
    """A named text: a `Document`, or a `DocumentError` for text that could not be parsed."""

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str: ...


@runtime_checkable
class Composed(Source, Protocol):
    """A spec made of several sources, which knows in which of them a value stands: a `Composition`."""

    @property
    def documents(self) -> Sequence[Source]: ...

    def place(self, path: SpecPath, on_key: bool = False) -> tuple[Source, Span]: ...


Documents = Mapping[str, Document] | Source
"""One source (perhaps composed of several), or several by name: a path is looked up in the first that has it."""


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
    sources = _sources(documents)
    found = _sorted(diagnostics, sources)
    if not found:
        return ""
    paint = _Paint(color)
    blocks = [_Block(finding, sources, paint, width).render() for finding in found]
    end = _allowed(allowed) + _fixes_available(found, documents)
    return "\n".join([*blocks, f"{_summary(found, paint)}{end}\n"])


def render_json(diagnostics: Iterable[Diagnostic], documents: Documents) -> str:
    """Return the findings as one JSON document.

    Lines and columns count from 1, columns in code points; ends are exclusive. `path` is a JSON pointer.
    """
    return render_json_of([(diagnostics, documents)])


def render_json_of(reports: Iterable[tuple[Iterable[Diagnostic], Documents]]) -> str:
    """Return the findings about several specs, each with its documents, as one JSON document."""
    listed = [(_sources(documents), diagnostics) for diagnostics, documents in reports]
    found = [(sources, item) for sources, items in listed for item in _sorted(items, sources)]
    document = {
        "format_version": FORMAT_VERSION,
        "error_count": _count((item for _, item in found), Level.ERROR),
        "warning_count": _count((item for _, item in found), Level.WARNING),
        "diagnostics": [_as_json(item, sources) for sources, item in found],
    }
    return json.dumps(document, indent=2) + "\n"


@frozen
class Region:
    """Where a finding or a label stands; lines and columns from 1, ends exclusive, None where unknown."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


def region_of(item: Diagnostic | Label, documents: Documents) -> Region:
    """Return the place of a finding, or of one of its labels."""
    sources = _sources(documents)
    if isinstance(item, Diagnostic) and item.place:
        return Region(**_place_json(item.place))
    spot = (
        _spot(sources, item.path, item.offsets)
        if isinstance(item, Label)
        else _own_spot(item, sources)
    )
    # A flag of the command line is no file that another tool could open.
    return Region() if spot is None or _is_flag(spot.source) else Region(**_spot_json(spot))


def main_document(documents: Documents) -> Document | None:
    """Return the spec's own file, if it could be parsed; bases and flags are others."""
    sources = _sources(documents)[isinstance(documents, Composed) :]
    first = sources[0] if sources else None
    return first if isinstance(first, Document) else None


def fixable(diagnostics: Iterable[Diagnostic], documents: Documents) -> list[Diagnostic]:
    """Return the findings with a fix about values that stand in the spec's own file."""
    main = main_document(documents)
    sources = _sources(documents)
    return [
        item
        for item in diagnostics
        if item.fix is not None
        and (spot := _own_spot(item, sources)) is not None
        and spot.source is main
    ]


def ordered(diagnostics: Iterable[Diagnostic], documents: Documents) -> list[Diagnostic]:
    """Return the findings by place, each once."""
    return _sorted(diagnostics, _sources(documents))


def sort_key(diagnostic: Diagnostic, documents: Documents) -> tuple[int, str, int, int, str, str]:
    """Return the order of findings: by file (those of the spec first), place, code and message."""
    return _sort_key(diagnostic, _sources(documents))


def suppress_cascades(
    diagnostics: Iterable[Diagnostic], broken: Iterable[SpecPath]
) -> tuple[Diagnostic, ...]:
    """Drop findings about a value that is broken, holds something broken, or is part of it.

    The empty path stands for the spec as a whole, and is never taken for broken.
    """
    roots = frozenset(path for path in broken if path)
    above = frozenset(path[:end] for path in roots for end in range(1, len(path)))

    def is_healthy(path: SpecPath) -> bool:
        return path not in above and not any(path[:end] in roots for end in range(1, len(path) + 1))

    return tuple(found for found in diagnostics if all(map(is_healthy, found.involves())))


# --- places ----------------------------------------------------------------------------------------------


@frozen
class _Spot:
    """A span in a source."""

    source: Source
    span: Span

    @property
    def start(self) -> tuple[int, int]:
        return position(self.source.text, self.span.start)

    @property
    def end(self) -> tuple[int, int]:
        return position(self.source.text, self.span.end)


def _sources(documents: Documents) -> tuple[Source, ...]:
    if isinstance(documents, Mapping):
        return tuple(documents.values())
    return (documents, *documents.documents) if isinstance(documents, Composed) else (documents,)


def _spot(
    sources: Sequence[Source],
    path: SpecPath,
    offsets: tuple[int, int] | None,
    on_key: bool = False,
    name: str = "",
) -> _Spot | None:
    """Return where a value stands. Offsets count in the source of that name, else in the first one."""
    if not sources:
        return None
    first, *others = sources
    if offsets is not None:
        named = (source for source in others if source.name == name)
        return _Spot(
            next(named, others[0] if others and isinstance(first, Composed) else first),
            Span(*offsets),
        )
    if isinstance(first, Composed):
        return _Spot(*first.place(path, on_key))
    documents = [source for source in sources if isinstance(source, Document)]
    if not documents:
        return _Spot(sources[0], Span(0, 0))
    for end in range(len(path), 0, -1):
        for document in documents:
            if path[:end] in document.keys or path[:end] in document.values:
                return _Spot(document, document.locate(path, on_key))
    return _Spot(documents[0], Span(0, 0))


def _own_spot(diagnostic: Diagnostic, sources: Sequence[Source]) -> _Spot | None:
    if diagnostic.place is not None:
        return None
    return _spot(sources, diagnostic.path, diagnostic.offsets, diagnostic.on_key, diagnostic.source)


def _sort_key(
    diagnostic: Diagnostic, sources: Sequence[Source]
) -> tuple[int, str, int, int, str, str]:
    tail = (diagnostic.code, diagnostic.message)
    place = diagnostic.place
    if place is not None:
        return (len(sources), str(place.file), place.line, place.column, *tail)
    spot = _own_spot(diagnostic, sources)
    if spot is None:
        return (0, "", 0, 0, *tail)
    rank = next(i for i, source in enumerate(sources) if source is spot.source)
    return (rank, spot.source.name, spot.span.start, spot.span.end, *tail)


def _sorted(diagnostics: Iterable[Diagnostic], sources: Sequence[Source]) -> list[Diagnostic]:
    """Sort the findings and keep one of those that say the same about the same place."""
    by_key: dict[object, Diagnostic] = {}
    for found in diagnostics:
        by_key.setdefault(_sort_key(found, sources), found)
    return [by_key[key] for key in sorted(by_key)]  # type: ignore[type-var]


def _count(diagnostics: Iterable[Diagnostic], level: Level) -> int:
    return sum(found.level is level for found in diagnostics)


# --- cells -----------------------------------------------------------------------------------------------


@frozen
class _Cells:
    """A source line as a terminal shows it: one piece of text a character, and its width."""

    pieces: list[str]
    widths: list[int]

    @classmethod
    def of(cls, line: str) -> _Cells:
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
    escaped = _visible(character)
    if escaped != character:
        return escaped, len(escaped)
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return character, 0
    return character, 2 if unicodedata.east_asian_width(character) in "WF" else 1


_JOINERS = "\u200c\u200d"


def _visible(text: str) -> str:
    """Replace what a terminal would obey instead of show: control, direction and invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    is_special = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return is_special and character not in _JOINERS


def visible_lines(text: str) -> list[str]:
    """Return the lines of a text with everything spelled out that a terminal would obey."""
    return [_visible(line) for line in text.split("\n")]


# --- text ------------------------------------------------------------------------------------------------


_RESET = "\x1b[0m"
_LEVEL_COLORS = {Level.ERROR: "1;31", Level.WARNING: "1;33", Level.NOTE: "1;32"}
_GUTTER_COLOR = "1;34"


@frozen
class _Paint:
    color: bool

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}{_RESET}" if self.color and text else text


@frozen
class _Mark:
    """An underlined place with its label."""

    spot: _Spot
    text: str
    is_primary: bool

    @property
    def line(self) -> int:
        return self.spot.start[0]


@frozen
class _Block:
    """One finding on its way to text."""

    diagnostic: Diagnostic
    sources: Sequence[Source]
    paint: _Paint
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
            lines += _Excerpt(marks, gutter, self.paint, self.width, self._color).render(is_main)
        lines += self._remarks(gutter)
        return "\n".join(lines) + "\n"

    @property
    def _color(self) -> str:
        return _LEVEL_COLORS[self.diagnostic.level]

    def _headline(self) -> str:
        found = self.diagnostic
        head = self.paint(f"{found.level.value}[{found.code}]", self._color)
        return head + self.paint(f": {_visible(found.message)}", "1")

    def _marks(self) -> list[list[_Mark]]:
        """Return the marks of each source, the finding's own source first."""
        found = self.diagnostic
        own = _own_spot(found, self.sources)
        marks = [] if own is None else [_Mark(own, found.label, True)]
        for label in found.labels:
            spot = _spot(self.sources, label.path, label.offsets, name=found.source)
            # What stands nowhere explains nothing by its place.
            is_somewhere = spot is not None and spot.span != Span(0, 0)
            marks += [_Mark(spot, label.text, False)] if spot and is_somewhere else []
        by_source: dict[int, list[_Mark]] = {}
        for mark in marks:
            by_source.setdefault(id(mark.spot.source), []).append(mark)
        return list(by_source.values())

    def _place_lines(self, gutter: int) -> list[str]:
        place = self.diagnostic.place
        if place is None:
            return []
        numbers = [str(number) for number in (place.line, place.column) if number]
        where = ":".join([_visible(str(place.file)), *numbers])
        lines = [f"{' ' * gutter}{self.paint('-->', _GUTTER_COLOR)} {where}"]
        text = _line_of_file(place) if place.line else None
        if text is None:
            return lines
        start = min(max(place.column - 1, 0), len(text))
        source = _Line(str(place.file), text)
        mark = _Mark(_Spot(source, Span(start, start + 1)), self.diagnostic.label, True)
        excerpt = _Excerpt([mark], gutter, self.paint, self.width, self._color, place.line - 1)
        body = excerpt.body()
        # Without a column the whole line is meant, and nothing is underlined.
        return lines + (body if place.column else body[:2])

    def _remarks(self, gutter: int) -> list[str]:
        remarks = [("note", note) for note in self.diagnostic.notes]
        remarks += [("help", help_) for help_ in self.diagnostic.helps]
        if not remarks:
            return []
        lines = [f"{' ' * gutter} {self.paint('|', _GUTTER_COLOR)}"]
        for kind, text in remarks:
            first, *rest = visible_lines(text)
            equals = self.paint("=", _GUTTER_COLOR)
            lines.append(f"{' ' * gutter} {equals} {self.paint(kind, '1')}: {first}")
            lines += [f"{' ' * (gutter + 9)}{line}".rstrip() for line in rest]
        return lines


@frozen
class _Line:
    """A single line of another file, as a source."""

    name: str
    text: str


@frozen
class _Excerpt:
    """The marked lines of one source."""

    marks: list[_Mark]
    gutter: int
    paint: _Paint
    width: int
    color: str
    lines_before: int = 0

    def render(self, is_main: bool) -> list[str]:
        """Return the line that names the place, and the excerpt."""
        arrow = self.paint("-->" if is_main else ":::", _GUTTER_COLOR)
        name, (line, column) = _visible(self.marks[0].spot.source.name), self.marks[0].spot.start
        where = name if _is_flag(self.marks[0].spot.source) else f"{name}:{line}:{column}"
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
                lines.append(self.paint("...", _GUTTER_COLOR))
            lines += self._marked_line(number, list(marks))
            previous = number
        return lines

    def _row(self, number: str, text: str) -> str:
        edge = self.paint(f"{number:>{self.gutter}} |", _GUTTER_COLOR)
        return f"{edge} {text}" if text else edge

    def _marked_line(self, number: int, marks: list[_Mark]) -> Iterator[str]:
        line = _source_line(marks[0].spot)
        room = max(self.width - self.gutter - 3, 20)
        is_long = len(line) > room or _Cells.of(line).width() > room
        # A cut line shows the surroundings of one mark only.
        for view in [[mark] for mark in marks] if is_long else [marks]:
            start, end = _columns(view[0].spot, len(line))
            shown = _cut(line, start, end, room) if is_long else _Shown(line)
            is_numbered = not _is_flag(marks[0].spot.source)
            yield self._row(str(number + self.lines_before) if is_numbered else "", shown.text())
            for mark in view:
                yield self._row("", self._underline(shown, mark, len(line)))

    def _underline(self, shown: _Shown, mark: _Mark, length: int) -> str:
        indent, size = shown.cells(*_columns(mark.spot, length))
        signs = ("^" if mark.is_primary else "-") * max(size, 1)
        text = f"{signs} {_visible(mark.text)}" if mark.text else signs
        color = self.color if mark.is_primary else _GUTTER_COLOR
        return " " * indent + self.paint(text, color)


def _is_flag(source: Source) -> bool:
    """Tell whether a source is a flag of the command line, which has no lines to count."""
    return getattr(source, "is_flag", False)


def _source_line(spot: _Spot) -> str:
    text = spot.source.text
    start = text.rfind("\n", 0, spot.span.start) + 1
    end = text.find("\n", spot.span.start)
    return text[start : len(text) if end < 0 else end].removesuffix("\r")


def _columns(spot: _Spot, length: int) -> tuple[int, int]:
    """Return the part of the first line that the span covers, from 0."""
    start = min(spot.start[1] - 1, length)
    return start, max(min(start + spot.span.end - spot.span.start, length), start)


@frozen
class _Shown:
    """The visible part of a source line."""

    line: str
    first: int = 0
    """How many characters are cut off before."""
    is_cut_before: bool = False
    is_cut_after: bool = False

    def text(self) -> str:
        head, tail = "..." * self.is_cut_before, "..." * self.is_cut_after
        return head + "".join(_Cells.of(self.line).pieces) + tail

    def cells(self, start: int, end: int) -> tuple[int, int]:
        """Return indent and width of a part of the whole line."""
        cells = _Cells.of(self.line)
        start, end = start - self.first, end - self.first
        return 3 * self.is_cut_before + cells.width(0, start), cells.width(start, end)


def _cut(line: str, start: int, end: int, room: int) -> _Shown:
    """Cut a line that is too long so that the part from `start` to `end` is seen, with some text before it."""
    room -= 6  # for an ellipsis on both sides
    behind = _fitting(line[start : start + room], room)
    wanted = min(behind, max(end - start, 1))
    # What the part itself leaves free goes to the text before it first, up to a third.
    spare = room - _Cells.of(line[start : start + wanted]).width()
    keep = max(min(spare, room // 3), room - _Cells.of(line[start : start + behind]).width())
    before = _fitting(line[max(start - room, 0) : start][::-1], keep)
    first = start - before
    last = first + _fitting(line[first : first + room], room)
    return _Shown(line[first:last], first, first > 0, last < len(line))


def _fitting(text: str, room: int) -> int:
    """Return how many characters of the text fit into a number of cells."""
    used = 0
    for index, size in enumerate(_Cells.of(text).widths):
        used += size
        if used > room:
            return index
    return len(text)


def _line_of_file(place: Place) -> str | None:
    """Return a line of a small text file; nothing when that is not to be had cheaply."""
    try:
        lines = read_regular_file(place.file).decode(errors="replace").split("\n")
    except UnreadableError:
        return None
    return lines[place.line - 1].removesuffix("\r") if place.line <= len(lines) else None


def _summary(found: Sequence[Diagnostic], paint: _Paint) -> str:
    counts = [(level, _count(found, level)) for level in Level]
    words = [
        paint(f"{count} {level.value}{'s' if count > 1 else ''}", _LEVEL_COLORS[level])
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
    from .fix import with_edits  # most specs have nothing to fix

    count = len(with_edits(candidates, main))
    name = "fix" if count == 1 else f"{count} fixes"
    return f" ({name} available: tunec check --fix)" if count else ""


# --- JSON ------------------------------------------------------------------------------------------------


def _as_json(found: Diagnostic, sources: Sequence[Source]) -> dict[str, Any]:
    where = _place_json(found.place) if found.place else _spot_json(_own_spot(found, sources))
    return {
        "code": found.code,
        "level": found.level.value,
        "message": found.message,
        "path": pointer(found.path),
        **where,
        "label": found.label,
        "notes": list(found.notes),
        "helps": list(found.helps),
        "labels": [_label_json(label, sources, found.source) for label in found.labels],
    }


def _label_json(label: Label, sources: Sequence[Source], name: str) -> dict[str, Any]:
    spot = _spot(sources, label.path, label.offsets, name=name)
    return {"text": label.text, "path": pointer(label.path), **_spot_json(spot)}


def _place_json(place: Place) -> dict[str, Any]:
    line, column = place.line or None, place.column or None
    return {
        "file": str(place.file),
        "line": line,
        "column": column,
        "end_line": None,
        "end_column": None,
    }


def _spot_json(spot: _Spot | None) -> dict[str, Any]:
    names = ("file", "line", "column", "end_line", "end_column")
    if spot is None:
        return dict.fromkeys(names)
    return dict(zip(names, (spot.source.name, *spot.start, *spot.end), strict=True))


def pointer(path: SpecPath) -> str:
    """Return a path as JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
