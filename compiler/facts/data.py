"""Facts about data files: their rows, and the first one that cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

import attrs
from attrs import frozen

from ..spec import CatalogSource, Source
from .catalog import CatalogEntry, read_entry
from .columns import FIRST_ROWS, Columns, columns_of, csv_columns
from .files import open_regular
from .patterns import fitting_files
from .row_checks import check_row
from .rows import BadRow, FileSource, first_rows, is_array, scan

DataState = Literal[
    "ok", "missing", "folder", "glob", "unreadable", "unknown-kind", "impossible", "elsewhere"
]
"""`glob`: a pattern that fits some files; `elsewhere`: on a hub, behind a URL, or in a catalog that cannot be read."""
KINDS = (".json", ".jsonl")
OTHER_KINDS = (".csv", ".parquet", ".arrow", ".feather", ".txt", ".gz", ".zst", ".bz2", ".xz")
"""Files that are data, but are not looked into here; of `.csv` the header is."""
MOST_FILES = 10_000
WHOLE_BYTES = 8 * 2**20
"""Files up to this size are read whole; of larger ones the beginning is checked and the lines are counted."""
COUNT_BYTES = 2**28


@frozen
class DataFacts:
    """What is known about one source."""

    path: Path
    state: DataState
    num_rows: int | None = None
    """Rows the run will see (after `limit`), or None when they cannot be counted here."""
    num_bytes: int = 0
    sha256: str | None = None
    bad_row: BadRow | None = None
    problem: str = ""
    columns: Columns | None = None
    """What the first rows hold; None where that is not known here."""
    files: tuple[str, ...] = ()
    """Names of the data files in a folder, or that fit a pattern."""
    entry: CatalogEntry | None = None
    """What the catalog says, for a source that names one."""


def read_data(base: Path, source: Source) -> DataFacts:
    """Return the facts of one source."""
    if isinstance(source, CatalogSource):
        return _read_catalog(base, source)
    if source.hub is not None or "://" in source.path:
        return DataFacts(Path(source.path), "elsewhere")
    path = base / source.path
    try:
        if path.is_dir():
            return _several(path, "folder", path.iterdir())
        if path.suffix not in KINDS or any(mark in source.path for mark in "*?"):
            return _other_kind(base, path, source)
        if not path.is_file():
            return DataFacts(
                path,
                "unreadable" if path.exists() else "missing",
                problem="it is not a regular file",
            )
        return _read(path, source)
    except OSError as fault:
        return DataFacts(path, "unreadable", problem=fault.strerror or "")
    except ValueError:
        return DataFacts(path, "impossible")


def _read_catalog(base: Path, source: CatalogSource) -> DataFacts:
    entry = read_entry(base, source)
    catalog = base / source.catalog
    if entry.source is None:
        return DataFacts(catalog, "elsewhere", entry=entry)
    return attrs.evolve(read_data(catalog.parent, entry.source), entry=entry)


def _other_kind(base: Path, path: Path, source: FileSource) -> DataFacts:
    """Return what can be told of a pattern, or of a file that is neither .json nor .jsonl."""
    if path.is_file():
        return _read(path, source) if path.suffix in KINDS else _read_table(path)
    if any(mark in source.path for mark in "*?[") and not Path(source.path).is_absolute():
        found = _several(path, "glob", islice(fitting_files(base, source.path), MOST_FILES))
        return found if found.files else DataFacts(path, "missing")
    return DataFacts(path, "unknown-kind" if path.exists() else "missing")


def _read_table(path: Path) -> DataFacts:
    if path.suffix != ".csv":
        return DataFacts(path, "unknown-kind", num_bytes=path.stat().st_size)
    with open_regular(path) as file:
        head = file.read(2**16).decode("utf-8-sig", "replace")
    size = path.stat().st_size
    return DataFacts(path, "unknown-kind", num_bytes=size, columns=csv_columns(head))


def _several(path: Path, state: DataState, paths: Iterable[Path]) -> DataFacts:
    """Return what is known about the data files among these: a run is told apart by their names and their size."""
    kinds = (*KINDS, *OTHER_KINDS)
    files = [path for path in paths if path.suffix in kinds and path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return DataFacts(path, state, num_bytes=size, files=tuple(sorted(path.name for path in files)))


def _read(path: Path, source: FileSource) -> DataFacts:
    with open_regular(path) as file:
        head = file.read(WHOLE_BYTES + 1)
    if len(head) <= WHOLE_BYTES:
        count, bad = _scan(head, source)
        known = _columns(head, source)
        digest = hashlib.sha256(head).hexdigest()
        return DataFacts(path, "ok", count, len(head), digest, bad, columns=known)
    size = path.stat().st_size
    head = head[: head.rfind(b"\n", 0, WHOLE_BYTES) + 1]
    if is_array(head[:1024].decode("utf-8-sig", "replace")):
        return DataFacts(path, "ok", None, size)
    count, bad = _scan(head, source)
    if bad is None and (source.limit is None or (count or 0) < source.limit):
        count = _count_rows(path, source.limit) if size <= COUNT_BYTES else None
    return DataFacts(path, "ok", count, size, None, bad, columns=_columns(head, source))


def _columns(content: bytes, source: FileSource) -> Columns | None:
    rows = first_rows(content.decode("utf-8-sig", "replace"), FIRST_ROWS)
    return columns_of(rows, source) if rows else None


def _scan(content: bytes, source: FileSource) -> tuple[int | None, BadRow | None]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        return None, BadRow(line, "not UTF-8 text", "save the file as UTF-8")
    # All line ends count, as for the reader of the runtime.
    count, bad = scan(text.replace("\r\n", "\n").replace("\r", "\n"), source, check_row)
    return (count if bad is None else None), bad


def _count_rows(path: Path, limit: int | None) -> int:
    with open_regular(path) as file:
        count = sum(not line.isspace() for line in file)
    return count if limit is None else min(count, limit)
