"""Columns of data files: those a source reads, and those the first rows have."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from .rows import FileSource

FIRST_ROWS = 100
"""Rows whose columns are looked at; a column that none of them has is missing."""

_OWN: dict[type, tuple[str, ...]] = {
    # The settings of each format that name a column every row must have.
    AlpacaSource: ("instruction", "output"),
    MessagesSource: ("messages",),
    ShareGptSource: ("messages",),
    TextSource: ("text",),
    PreferenceSource: ("prompt", "chosen", "rejected"),
    PromptSource: ("prompt",),
}
_BESIDE = (
    *("chosen", "rejected", "label", "tools", "images", "videos", "audios"),
    *("system", "margin", "answer"),
)
"""Settings that name a column only where they are given."""


@frozen
class Columns:
    """What the first rows hold."""

    names: tuple[str, ...]
    """Every column that one of them has, in the order of their first appearance."""
    num_good: int = 0
    """Rows whose `label` column is true."""
    num_bad: int = 0
    """Rows whose `label` column is false."""


def named_columns(source: FileSource) -> dict[str, str]:
    """Return the columns that every row must have: setting to column."""
    kind = type(source)
    settings = list(_OWN[kind])
    if getattr(source, "chosen", None) is not None and kind is AlpacaSource:
        settings.remove("output")
    may_be_absent = ("system",) if kind is AlpacaSource else ()
    settings += [name for name in _BESIDE if name not in (*settings, *may_be_absent)]
    found = {name: getattr(source, name, None) for name in settings}
    return {name: column for name, column in found.items() if isinstance(column, str)}


def columns_of(rows: list[Any], source: FileSource) -> Columns:
    """Return the columns of the first rows, and how many of them are labelled good and bad."""
    objects = [row for row in rows if isinstance(row, dict)]
    names = dict.fromkeys(str(name) for row in objects for name in row)
    label = getattr(source, "label", None)
    labels = [row.get(label) for row in objects] if label is not None else []
    good = sum(value is True for value in labels)
    return Columns(tuple(names), good, sum(value is False for value in labels))


def csv_columns(head: str) -> Columns | None:
    """Return the columns that the first line of a CSV file names; None where it cannot be read."""
    import csv  # few specs name such files

    try:
        header = next(csv.reader(head.splitlines()), None)
    except csv.Error:
        return None
    return None if header is None else Columns(tuple(name.strip() for name in header))
