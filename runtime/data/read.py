"""Reading: the rows of a source's files become items."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from ..errors import ExitCode, UserError
from .conversation import Conversation, place_of, row_error
from .files import Parsed, Raw, check_utf8, raw_rows
from .formats import Source
from .items import Item, Kind
from .remote import local_files, named
from .values import RowError, json_fault, kind_of

LARGEST_ROW = 2**25
"""Characters: some 8 million tokens, longer than the context of any model."""


def read(sources: Sequence[Source]) -> list[Conversation]:
    """Return the conversations of all sources, as `read_items` does the items of any kind."""
    return cast("list[Conversation]", read_items(sources, "answers"))


def read_items(sources: Sequence[Source], kind: Kind) -> list[Item]:
    """Return the items of all sources, in order; `sample` and `weight` are not looked at.

    Raises `UserError` (code DATA) with file and line for a missing file, broken JSON, a row without the
    needed columns, roles out of order, and a source without rows.
    """
    return [item for source in sources for item in _read_source(source, kind)]


def rows_of(source: Source, files: Sequence[Path]) -> Iterator[tuple[int, int, Raw]]:
    """Yield the rows that count, one file after the other: the number of the file, the line, and the row."""
    rows = (
        (number, line, raw) for number, file in enumerate(files) for line, raw in raw_rows(file)
    )
    return islice(rows, source.limit)


def _read_source(source: Source, kind: Kind) -> list[Item]:
    files = local_files(source)
    rows = [
        parse_row(source, line, raw, files[number], kind)
        for number, line, raw in rows_of(source, files)
    ]
    if not rows:
        raise UserError(f"{named(source)}: the data set is empty", code=ExitCode.DATA)
    return rows


def parse_row(
    source: Source, line: int, raw: Raw, file: Path | None = None, kind: Kind = "answers"
) -> Item:
    """Return the item of a row; raises `UserError` (code DATA) for one that cannot be used.

    `file` is the one of several that the row stands in.
    """
    place = place_of(file or Path(os.path.normpath(source.path)), line)
    row = _row(raw, place)
    if not isinstance(row, dict):
        raise row_error(place, f"the row is {kind_of(row)}, expected an object")
    try:
        return source.item(row, place, kind)
    except RowError as fault:
        raise row_error(place, fault.message, fault.help) from None


def _row(raw: Raw, place: str) -> Any:
    if isinstance(raw, str):
        _check_size(len(raw), place)
        return _parse_line(raw, place)
    if raw.fault:
        raise row_error(place, raw.fault)
    if isinstance(raw.row, dict):
        _check_size(sum(len(text) for text in raw.row.values() if isinstance(text, str)), place)
    return raw.row


def _check_size(size: int, place: str) -> None:
    """A file without line breaks is one row, which no process could tokenize in the memory there is."""
    if size > LARGEST_ROW:
        raise row_error(
            place,
            f"the row has {size:,} characters, more than the {LARGEST_ROW:,} that a row may have",
            "cut it into several rows",
        )


def _parse_line(text: str, place: str) -> Any:
    check_utf8(text, place)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        help = "in a .jsonl file each line is one row; in a .json file `[` and `]` enclose them"
        raise row_error(place, json_fault(fault), help) from None


__all__ = ["Parsed", "Raw", "Source", "parse_row", "raw_rows", "read", "rows_of"]
