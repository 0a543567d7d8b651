"""Facts about data files: their rows, and the first one that cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from attrs import frozen

from ..spec import CatalogSource, Source
from .rows import BadRow, FileSource, is_array, scan

DataState = Literal[
    "ok", "missing", "folder", "unreadable", "unknown-kind", "impossible", "elsewhere"
]
"""`elsewhere`: on a hub, behind a URL, or declared in a catalog; nothing is known about it here."""
KINDS = (".json", ".jsonl")
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


def read_data(base: Path, source: Source) -> DataFacts:
    """Return the facts of one source."""
    if isinstance(source, CatalogSource):
        return DataFacts(base / source.catalog, "elsewhere")
    if source.hub is not None or "://" in source.path:
        return DataFacts(Path(source.path), "elsewhere")
    path = base / source.path
    try:
        if path.is_dir():
            return DataFacts(path, "folder")
        if path.suffix not in KINDS:
            return DataFacts(path, "unknown-kind" if path.exists() else "missing")
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


def _read(path: Path, source: FileSource) -> DataFacts:
    with path.open("rb") as file:
        head = file.read(WHOLE_BYTES + 1)
    if len(head) <= WHOLE_BYTES:
        count, bad = _scan(head, source)
        return DataFacts(path, "ok", count, len(head), hashlib.sha256(head).hexdigest(), bad)
    size = path.stat().st_size
    head = head[: head.rfind(b"\n", 0, WHOLE_BYTES) + 1]
    if is_array(head[:1024].decode("utf-8-sig", "replace")):
        return DataFacts(path, "ok", None, size)
    count, bad = _scan(head, source)
    if bad is None and (source.limit is None or (count or 0) < source.limit):
        count = _count_rows(path, source.limit) if size <= COUNT_BYTES else None
    return DataFacts(path, "ok", count, size, None, bad)


def _scan(content: bytes, source: FileSource) -> tuple[int | None, BadRow | None]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        return None, BadRow(line, "not UTF-8 text", "save the file as UTF-8")
    # All line ends count, as for the reader of the runtime.
    count, bad = scan(text.replace("\r\n", "\n").replace("\r", "\n"), source)
    return (count if bad is None else None), bad


def _count_rows(path: Path, limit: int | None) -> int:
    with path.open("rb") as file:
        count = sum(not line.isspace() for line in file)
    return count if limit is None else min(count, limit)
