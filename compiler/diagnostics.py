"""Diagnostics: what is wrong with a spec, said as plain values.

A diagnostic never prints and never raises. It names the value it is about by its *path* in the spec
(`("method", "rank")`); `report` looks the path up in the `Document` to find file, line and column.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from attrs import field, frozen

SpecPath = tuple[str | int, ...]
"""Keys and list indices that lead from the top of the spec to one value."""


class Level(Enum):
    """How much a finding matters: only errors stop a compilation."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@frozen
class Place:
    """A place in a file other than the spec, such as one row of a data file.

    `line` and `column` count from 1, columns in code points; `line` 0 means the file as a whole.
    """

    file: Path
    line: int = 0
    column: int = 0


@frozen
class Label:
    """A second place that explains a finding, such as "quantized here".

    `offsets` (start, end in code points) takes the place of `path` where the parser has no path yet.
    """

    path: SpecPath
    text: str
    offsets: tuple[int, int] | None = None


@frozen
class Rename:
    """A fix: the key at `path` gets the name `to`, and keeps its value and its place."""

    path: SpecPath
    to: str


@frozen
class Replace:
    """A fix: the value at `path` becomes `value` (plain data)."""

    path: SpecPath
    value: Any


@frozen
class Remove:
    """A fix: the key at `path` goes, with its value."""

    path: SpecPath


@frozen
class Move:
    """A fix: the key at `path` goes to `to`, with its value."""

    path: SpecPath
    to: SpecPath


@frozen
class Add:
    """A fix: a new key at `path` with `value` (plain data)."""

    path: SpecPath
    value: Any


Fix = Rename | Replace | Remove | Move | Add
"""A change to the spec that does what was meant beyond doubt; `tunec check --fix` makes it."""


@frozen
class Diagnostic:
    """One finding.

    `message` stands alone in lower case without a full stop; `label` is shown at the place; `notes` hold facts
    and `helps` the ways out. `on_key` underlines the key instead of the value. `place` moves the finding to
    another file; `offsets` (start, end in code points) is used by the parser, where no path exists yet.
    `fix` is given only where no one could mean anything else.
    """

    code: str
    level: Level
    message: str
    path: SpecPath = ()
    label: str = ""
    on_key: bool = False
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    place: Place | None = None
    offsets: tuple[int, int] | None = field(default=None)
    fix: Fix | None = None
    source: str = ""
    """Name of the text that `offsets` count in, where that is not the spec's main file."""

    def involves(self) -> tuple[SpecPath, ...]:
        """Return every path this finding talks about."""
        return (self.path, *(label.path for label in self.labels))


def error(
    code: str,
    message: str,
    path: SpecPath = (),
    *,
    label: str = "",
    on_key: bool = False,
    labels: tuple[Label, ...] = (),
    notes: tuple[str, ...] = (),
    helps: tuple[str, ...] = (),
    place: Place | None = None,
    offsets: tuple[int, int] | None = None,
    fix: Fix | None = None,
) -> Diagnostic:
    """Return an error; see `Diagnostic` for the parts."""
    return Diagnostic(
        code, Level.ERROR, message, path, label, on_key, labels, notes, helps, place, offsets, fix
    )


def warning(
    code: str,
    message: str,
    path: SpecPath = (),
    *,
    label: str = "",
    labels: tuple[Label, ...] = (),
    notes: tuple[str, ...] = (),
    helps: tuple[str, ...] = (),
    place: Place | None = None,
    fix: Fix | None = None,
) -> Diagnostic:
    """Return a warning; see `Diagnostic` for the parts."""
    return Diagnostic(
        code, Level.WARNING, message, path, label, False, labels, notes, helps, place, None, fix
    )
