"""The first rows of a file, a folder or a pattern of names, each with its place; broken ones too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from ..facts.data import COUNT_BYTES, MARKS, WHOLE_BYTES, named_files
from ..facts.heads import TABLES, DamagedError, Head, count_rest, read_head

MOST_EXAMPLE_FILES = 20
"""Files of a folder that are looked into."""
NAMES = ".json, .jsonl, .csv, .txt, .parquet, .arrow and .feather"


class NotLookedInto(Exception):  # noqa: N818 - no fault: a kind of file that is for others to read
    """Something that is not looked into, and why."""


@frozen
class Row:
    """A row, or what is wrong with it."""

    file: Path
    line: int
    value: Any
    fault: str = ""


@frozen
class Rows:
    """What was read."""

    path: str
    """As it was given."""
    kind: str
    """`JSON Lines`, `JSON array`, `CSV`, `text`, `Parquet` or `Arrow`."""
    rows: tuple[Row, ...]
    num_rows: int | None
    """Rows of everything; None where they were not counted."""
    num_bytes: int
    whole: bool
    """Whether `rows` are all of them."""
    num_files: int = 1


def read_rows(path: str) -> Rows:
    """Return the first rows of a file, or of the files in a folder or that fit a pattern.

    Raises:
        NotLookedInto: it is of another kind, damaged, or of several kinds.
        DamagedError: a saved data set lacks files.
        UnreadError: a package is needed that is not installed.
        OSError: it cannot be read.
    """
    files = _files(path)
    rows: list[Row] = []
    heads: list[Head] = []
    left = WHOLE_BYTES
    for file in files[:MOST_EXAMPLE_FILES]:
        if left <= 0:
            break
        try:
            head = read_head(file, left)
        except DamagedError as fault:
            raise NotLookedInto(f"{file.name}: {fault}" if len(files) > 1 else f"{fault}") from None
        rows += [Row(file, row.line, row.value, row.fault) for row in head.rows]
        heads.append(head)
        left -= max(head.num_bytes, 1)
    whole = len(heads) == len(files) and all(head.whole for head in heads)
    return Rows(
        path=path,
        kind=heads[0].kind,
        rows=tuple(rows),
        num_rows=len(rows) if whole else _count(files, heads, len(rows)),
        num_bytes=sum(file.stat().st_size for file in files),
        whole=whole,
        num_files=len(files),
    )


def _files(path: str) -> list[Path]:
    state, files = named_files(Path(), path, "train")
    if state == "missing" and not any(mark in path for mark in MARKS):
        raise FileNotFoundError(2, "No such file or directory", path)
    if state == "unreadable":
        raise OSError(22, "it is not a regular file", path)
    if state == "unknown-kind":
        raise NotLookedInto(f"it is no data file by its name; known are {NAMES}, also compressed")
    if not files:
        raise NotLookedInto("there are no data files")
    kinds = sorted({file.suffix for file in files})
    if len(kinds) > 1:
        raise NotLookedInto(
            f"files of several kinds, {' and '.join(kinds)}; name one with `*{kinds[0]}`"
        )
    return files


def _count(files: Sequence[Path], heads: Sequence[Head], read: int) -> int | None:
    """Return the rows of all files, where each tells them or can be counted."""
    if heads[0].kind == "JSON array":
        return None
    total = 0
    for number, file in enumerate(files):
        head = heads[number] if number < len(heads) else None
        if file.suffix in TABLES:
            count = head.num_rows if head is not None else read_head(file, 0, ()).num_rows
        else:
            count = count_rest(file, COUNT_BYTES)
        if count is None:
            return None
        total += count
    return total
