"""Columns of data files: those a source reads, and those the first rows have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from .media import MEDIA
from .row_checks import label_of
from .sample_kinds import FileSource, SampleKind, TalkSource

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
    unnamed_media: tuple[tuple[str, str], ...] = ()
    """Columns that hold media and are not named, where texts have marks for them: setting and column."""


def named_columns(source: FileSource, kind: SampleKind | None = None) -> dict[str, str]:
    """Return the columns that rows must have: setting to column; `kind` is what is learned."""
    cls = type(source)
    settings = list(_OWN[cls])
    if cls is AlpacaSource and kind in ("pairs", "prompts"):
        settings.remove("output")
    # A preference without a prompt is two whole conversations; another name of the column was meant.
    if isinstance(source, PreferenceSource) and source.prompt == "prompt":
        settings.remove("prompt")
    may_be_absent = ("system",) if cls is AlpacaSource else ()
    settings += [name for name in _BESIDE if name not in (*settings, *may_be_absent)]
    found = {name: getattr(source, name, None) for name in settings}
    return {name: column for name, column in found.items() if isinstance(column, str)}


def columns_of(rows: Iterable[Any], source: FileSource, known: Iterable[str] = ()) -> Columns:
    """Return the columns of the first rows, those `known` without them first, and how many are labelled good and bad."""
    objects = [row for row in rows if isinstance(row, dict)]
    names = dict.fromkeys([*known, *(str(name) for row in objects for name in row)])
    label = getattr(source, "label", None)
    labels = [label_of(row.get(label)) for row in objects] if label is not None else []
    media = tuple(_unnamed_media(objects, source))
    return Columns(tuple(names), labels.count(True), labels.count(False), media)


def _unnamed_media(rows: Iterable[dict[str, Any]], source: FileSource) -> Iterator[tuple[str, str]]:
    if not isinstance(source, TalkSource):
        return
    for setting, word in MEDIA.items():
        columns = [name for name in (setting, word) if any(row.get(name) for row in rows)]
        if columns and getattr(source, setting) is None and _says(list(rows), f"<{word}>"):
            yield setting, columns[0]


def _says(value: Any, mark: str) -> bool:
    """Tell whether a text in a value holds a mark; what is nested deeply is no conversation."""
    level = [value]
    for _ in range(5):
        if any(isinstance(item, str) and mark in item for item in level):
            return True
        inner = [
            i.values() if isinstance(i, dict) else i for i in level if isinstance(i, dict | list)
        ]
        level = [item for items in inner for item in items]
    return False
