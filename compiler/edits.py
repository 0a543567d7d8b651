"""A fix as edits of the text: what is not meant to change keeps every byte, comments included.

An edit is only given when the edited text is TOML again and says exactly what the fix says, so that no layout
(dotted keys, inline tables, repeated headers) can turn a fix into another change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import tomli
from attrs import frozen

from .diagnostics import Fix, Move, Remove, Rename, Replace, SpecPath
from .document import Document
from .fix_data import NotPossibleError, applied
from .toml_text import toml_key, toml_literal


@frozen(order=True)
class Edit:
    """The code points from `start` to `end` become `text`."""

    start: int
    end: int
    text: str


def edits_of(fix: Fix, document: Document) -> tuple[Edit, ...]:
    """Return the edits that make a fix, by place; none where it cannot be made in this text."""
    try:
        edits = tuple(sorted(_edits(fix, document)))
        wanted = applied(fix, tomli.loads(document.text))
        made = tomli.loads(edited(document.text, edits))
    except (NotPossibleError, KeyError, ValueError):
        return ()
    return edits if _same(made, wanted) else ()


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made; they must not overlap."""
    parts, done = [], 0
    for edit in sorted(edits):
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


def _same(one: Any, other: Any) -> bool:
    """Compare data with their types: for TOML `1`, `1.0` and `true` are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _edits(fix: Fix, document: Document) -> list[Edit]:
    if isinstance(fix, Rename):
        span = document.keys[fix.path]
        return [Edit(span.start, span.end, toml_key(fix.to))]
    if isinstance(fix, Replace):
        return [_replacement(fix, document)]
    if isinstance(fix, Remove):
        return [_removal(_statement(document, fix.path), document.text)]
    if isinstance(fix, Move):
        return _move(fix, document)
    line = f"{toml_key(str(fix.path[-1]))} = {toml_literal(fix.value)}"
    return [_insertion(document, fix.path[:-1], line)]


def _replacement(fix: Replace, document: Document) -> Edit:
    span = document.values[fix.path]
    old = tomli.loads(f"x = {document.text[span.start : span.end]}")["x"]
    if isinstance(fix.value, list) and len(fix.value) == 1 and _same(fix.value[0], old):
        # The value goes into brackets as it is written, with its own quotes.
        return Edit(span.start, span.end, f"[{document.text[span.start : span.end]}]")
    return Edit(span.start, span.end, toml_literal(fix.value))


# --- whole lines -----------------------------------------------------------------------------------------


@frozen
class _Statement:
    """A `key = value` that has its lines for itself: offsets of its lines, key and value."""

    start: int
    key: int
    key_end: int
    end: int
    """Where the value ends."""
    line_end: int
    """Where the line ends, before its line break."""
    next: int
    """Where the next line starts."""


_BLANKS = re.compile(r"[ \t]*")
_TAIL = re.compile(r"[ \t]*(?:#[^\n]*?)?(?=\r?\n|\Z)")


def _statement(document: Document, path: SpecPath) -> _Statement:
    """Return the statement of a key; refuse dotted keys, inline tables and headers."""
    text, key, value = document.text, document.keys[path], document.values[path]
    start = text.rfind("\n", 0, key.start) + 1
    tail = _TAIL.match(text, value.end)
    is_header = value.start <= key.start
    if is_header or not _BLANKS.fullmatch(text[start : key.start]) or tail is None:
        raise NotPossibleError
    if not re.fullmatch(r"[ \t]*=[ \t]*", text[key.end : value.start]):
        raise NotPossibleError
    return _Statement(
        start, key.start, key.end, value.end, tail.end(), _next_line(text, tail.end())
    )


def _next_line(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end + 1


def _removal(statement: _Statement, text: str) -> Edit:
    """Remove a statement with its line, but leave a comment behind it where it is."""
    comment = text[statement.end : statement.line_end].strip()
    if comment:
        return Edit(statement.key, statement.line_end, comment)
    return Edit(statement.start, statement.next, "")


def _move(fix: Move, document: Document) -> list[Edit]:
    """Move a statement with the comment behind it; comments above it stay."""
    text = document.text
    statement = _statement(document, fix.path)
    line = toml_key(str(fix.to[-1])) + text[statement.key_end : statement.line_end]
    return [
        Edit(statement.start, statement.next, ""),
        _insertion(document, fix.to[:-1], line),
    ]


def _insertion(document: Document, table: SpecPath, line: str) -> Edit:
    """Add a line as the last one of a table, or with a new table at the end of the text."""
    text = document.text
    newline = "\r\n" if "\r\n" in text else "\n"
    if table not in document.values:
        if any(key[: len(table)] == table for key in document.keys) or not table:
            raise NotPossibleError  # written with dotted keys, or as headers of its tables only
        header = ".".join(toml_key(str(name)) for name in table)
        return _appended(text, newline, f"[{header}]{newline}{line}")
    end = _end_of_table(document, table)
    if end > 0 and text[end - 1] != "\n":  # the last line of the file has no line break
        return Edit(end, end, newline + line)
    return Edit(end, end, line + newline)


def _appended(text: str, newline: str, lines: str) -> Edit:
    end = len(text)
    glue = "" if not text or text.endswith("\n") else newline
    return Edit(end, end, f"{glue}{newline if text else ''}{lines}{newline}")


def _end_of_table(document: Document, table: SpecPath) -> int:
    """Return where the line after the last statement of a table starts."""
    header = document.values[table]
    ends = [header.end]
    for path, span in document.values.items():
        is_key = len(path) > len(table) and path[: len(table)] == table
        if is_key and span.start > header.end and not _is_below_header(document, path, table):
            ends.append(span.end)
    return _next_line(document.text, max(ends))


def _is_below_header(document: Document, path: SpecPath, table: SpecPath) -> bool:
    """Tell whether a value is, or stands in, a table with a header of its own inside `table`."""
    steps = (path[:end] for end in range(len(table) + 1, len(path) + 1))
    return any(
        step in document.keys
        and step in document.values
        and document.values[step].start <= document.keys[step].start
        for step in steps
    )
