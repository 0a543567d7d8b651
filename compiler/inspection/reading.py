"""The first rows of a file, each with its line; broken ones too."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from ..facts.files import open_regular
from ..facts.rows import RowError, is_array, numbered_rows

HEAD_BYTES = 8 * 2**20
"""How much of a file is looked at; of larger ones the lines are counted."""
COUNT_BYTES = 2**32
KINDS = (".json", ".jsonl", ".csv")


class NotLookedInto(Exception):  # noqa: N818 - no fault: a kind of file that is for others to read
    """A file that is not looked into, and why."""


@frozen
class Row:
    """A row, or what is wrong with it."""

    line: int
    value: Any
    fault: str = ""


@frozen
class Rows:
    """What was read of a file."""

    path: Path
    kind: str
    """`JSON Lines`, `JSON array` or `CSV`."""
    rows: tuple[Row, ...]
    num_rows: int | None
    """Rows of the whole file; None where they were not counted."""
    num_bytes: int
    whole: bool
    """Whether `rows` are all of them."""


def read_rows(path: Path) -> Rows:
    """Return the first rows of a file.

    Raises:
        NotLookedInto: it is of another kind, or no text.
        OSError: it cannot be read.
    """
    if path.suffix not in KINDS:
        known = ", ".join(KINDS)
        raise NotLookedInto(f"files `{path.suffix}` are not looked into, only {known}")
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES + 1)
    whole = len(head) <= HEAD_BYTES
    size = len(head) if whole else path.stat().st_size
    text = _text(head if whole else head[: head.rfind(b"\n", 0, HEAD_BYTES) + 1])
    if path.suffix == ".csv":
        kind, rows = "CSV", tuple(_csv_rows(text))
    elif is_array(text):
        kind, rows = "JSON array", tuple(_array_rows(text, whole))
    else:
        kind, rows = "JSON Lines", tuple(_line_rows(text))
    if whole:
        return Rows(path, kind, rows, len(rows), size, True)
    countable = kind == "JSON Lines" and size <= COUNT_BYTES
    return Rows(path, kind, rows, _count(path) if countable else None, size, False)


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise NotLookedInto(f"line {line} is not UTF-8 text; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            yield Row(number, json.loads(line))
        except json.JSONDecodeError as fault:
            yield Row(number, None, f"not JSON: {fault.msg} at column {fault.colno}")
        except (ValueError, RecursionError):
            yield Row(number, None, "not usable JSON")


def _array_rows(text: str, whole: bool) -> Iterator[Row]:
    """Yield the elements of an array; behind a broken one nothing can be told."""
    try:
        for line, value in numbered_rows(text):
            yield Row(line, value)
    except RowError as fault:
        # The end of a head is no fault of the file.
        if whole:
            yield Row(fault.line or 1, None, fault.message)


def _csv_rows(text: str) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    names: list[str] = []
    try:
        for fields in reader:
            if not fields:
                continue
            if not names:
                names = [name.strip() for name in fields]
            elif len(fields) != len(names):
                fault = f"{len(fields)} fields under {len(names)} columns"
                yield Row(reader.line_num, None, fault)
            else:
                yield Row(reader.line_num, dict(zip(names, fields, strict=True)))
    except csv.Error as fault:
        yield Row(reader.line_num, None, f"not CSV: {fault}")


def _count(path: Path) -> int:
    with open_regular(path) as file:
        return sum(not line.isspace() for line in file)
