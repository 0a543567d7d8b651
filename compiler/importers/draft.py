"""A spec in the making: values by path, each with the comment that says where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from attrs import Factory, define, frozen

from ..diagnostics import SpecPath


class Kind(Enum):
    """What a remark of the report is about."""

    LOST = "no counterpart"
    DO = "to do by hand"
    DIFFERS = "another result"
    IDLE = "left out, changes nothing"
    LATER = "not available yet"


@frozen
class Remark:
    """A line of the report: what, about which key, and why."""

    kind: Kind
    key: str
    text: str


@frozen
class Entry:
    """A value and its comment."""

    value: Any
    comment: str


@define
class Draft:
    """Values, notes and remarks, gathered while a file is read."""

    entries: dict[SpecPath, Entry] = Factory(dict)
    notes: dict[SpecPath, list[str]] = Factory(dict)
    """Comments that stand at the head of a table."""
    remarks: list[Remark] = Factory(list)

    def put(self, path: SpecPath, value: Any, comment: str) -> None:
        """Set a value."""
        self.entries[path] = Entry(value, comment)

    def value(self, *path: str | int, default: Any = None) -> Any:
        """Return the value at a path."""
        entry = self.entries.get(path)
        return default if entry is None else entry.value

    def note(self, path: SpecPath, text: str) -> None:
        """Write a comment at the head of a table."""
        self.notes.setdefault(path, []).append(text)

    def remark(self, kind: Kind, key: str, text: str) -> None:
        """Add a line to the report, once."""
        found = Remark(kind, key, text)
        if found not in self.remarks:
            self.remarks.append(found)

    def below(self, path: SpecPath) -> bool:
        """Return whether anything stands at or below a path."""
        return any(key[: len(path)] == path for key in [*self.entries, *self.notes])

    def items(self, path: SpecPath) -> Iterator[SpecPath]:
        """Yield the paths of the tables in the list at a path, in order."""
        size = len(path)
        found = {
            key[size] for key in [*self.entries, *self.notes] if key[:size] == path and key[size:]
        }
        yield from ((*path, index) for index in sorted(i for i in found if isinstance(i, int)))
