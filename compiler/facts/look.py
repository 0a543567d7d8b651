"""Looking at the rows of a source: how many there are, what they hold, and the first that cannot be used.

What is read is bounded in bytes, whatever the files are; of the rest the rows are counted where that is cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from ..field_types import class_of, fields_of
from .columns import FIRST_ROWS, Columns, columns_of
from .heads import COMPRESSED, TABLES, DamagedError, Head, Row, UnreadError, count_rest, read_head
from .media import MOST_FILES as MOST_MEDIA
from .media import has_media, missing_file
from .row_checks import check_row
from .rows import RowError
from .sample_kinds import FileSource, SampleKind

MOST_OPENED = 1000
"""Files of a source that are opened."""


@frozen
class BadRow:
    """The first bad row of a source."""

    line: int
    message: str
    help: str = ""
    file: Path | None = None


@frozen
class Looked:
    """What the rows of a source are."""

    num_rows: int | None = None
    """Rows that count, or None where that is not known without reading everything."""
    num_checked: int = 0
    whole: bool = False
    """Whether every row that counts was checked."""
    bad_row: BadRow | None = None
    columns: Columns | None = None
    sha256: str | None = None
    """Of a single file of text that was read whole."""
    text_bytes: int | None = None
    """Bytes of text, decompressed; None where that is not known, or a limit leaves only some of them."""
    unread: str = ""
    """Why nothing was looked at, where that is so."""


@frozen
class Reading:
    """How the rows of a source are looked at."""

    source: FileSource
    kind: SampleKind
    media_dir: Path | None
    """Folder of media; None for that of each file."""
    most_bytes: int
    """Most bytes that are looked at."""
    count_bytes: int
    """Files above this size are not counted."""

    @property
    def limit(self) -> int | None:
        """Rows that count; a limit below 0 is reported as that."""
        return None if self.source.limit is None else max(self.source.limit, 0)

    def fault(self, row: Any, file: Path, find_media: bool) -> RowError | None:
        """Return why a row cannot be used."""
        try:
            check_row(self.source, row, self.kind)
        except RowError as fault:
            return fault
        folder = self.media_dir or file.parent
        return missing_file(self.source, row, folder) if find_media else None


def look(files: Sequence[Path], reading: Reading) -> Looked:
    """Return what the rows of some files are, read one after the other.

    Raises:
        OSError: one cannot be read.
        DamagedError: one is not what its name says.
    """
    progress = _Progress(reading)
    try:
        for number, file in enumerate(files):
            if progress.is_done:
                break
            progress.take(file, number < MOST_OPENED)
    except UnreadError as why:
        return Looked(unread=str(why))
    except DamagedError as fault:
        raise DamagedError(f"{file.name}: {fault}" if len(files) > 1 else f"{fault}") from None
    found = progress.found()
    return found if len(files) == 1 else attrs.evolve(found, sha256=None)


class _Progress:
    """What was seen so far."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._left = reading.most_bytes
        self._first: list[Any] = []
        self._names: dict[str, None] = {}
        self._checked = 0
        self._further: int | None = 0
        """Rows that are known of, but were not checked."""
        self._bad: BadRow | None = None
        self._sha256: str | None = None
        self._text_bytes: int | None = 0
        fields = fields_of(class_of(reading.source))
        given = (getattr(reading.source, name) for name in fields)
        self._columns = [value for value in given if isinstance(value, str)]
        self._num_media = MOST_MEDIA if has_media(reading.source) else 0

    @property
    def is_done(self) -> bool:
        """Whether nothing that follows matters."""
        return self._bad is not None or self._is_full(self._checked + (self._further or 0))

    def take(self, file: Path, may_open: bool) -> None:
        """Look at the next file, or only count its rows when enough was read."""
        if self._left <= 0 or not may_open:
            self._count(file, may_open)
            return
        head = read_head(file, self._left, self._columns)
        self._left -= max(head.num_bytes, 1)
        before = self._checked
        self._names |= dict.fromkeys(head.columns or ())
        self._check(head.rows, file)
        self._measure(file, head)
        if not head.whole and not self.is_done:
            self._left = 0
            self._know(self._rows_of(file, head), self._checked - before)
        if head.whole and head.content and file.suffix not in COMPRESSED:
            self._sha256 = hashlib.sha256(head.content).hexdigest()

    def found(self) -> Looked:
        """Return the result."""
        source = self._reading.source
        limit = self._reading.limit
        known = None if self._further is None else self._checked + self._further
        if self._is_full(self._checked):
            known = limit
        if known is not None and limit is not None:
            known = min(known, limit)
        has_columns = bool(self._first or self._names)
        return Looked(
            num_rows=known if self._bad is None else None,
            num_checked=self._checked,
            whole=self._further == 0 or self._is_full(self._checked),
            bad_row=self._bad,
            columns=columns_of(self._first, source, self._names) if has_columns else None,
            sha256=self._sha256,
            text_bytes=None if self._is_full(self._checked) else self._text_bytes,
        )

    def _is_full(self, count: int) -> bool:
        limit = self._reading.limit
        return limit is not None and count >= limit

    def _check(self, rows: Iterator[Row], file: Path) -> None:
        """Check the rows that count; columns are looked for a little further."""
        checking = True
        for row in rows:
            checking = checking and not self._is_full(self._checked)
            if row.fault:
                if checking:
                    self._bad = BadRow(row.line, row.fault, row.help, file)
                return
            if len(self._first) < FIRST_ROWS:
                self._first.append(row.value)
            elif not checking:
                return
            if checking:
                checking = self._is_good(row, file)

    def _is_good(self, row: Row, file: Path) -> bool:
        fault = self._reading.fault(row.value, file, self._checked < self._num_media)
        if fault is not None:
            self._bad = BadRow(row.line, fault.message, fault.help, file)
            return False
        self._checked += 1
        return True

    def _count(self, file: Path, may_open: bool) -> None:
        """Count the rows of a file that is not looked at."""
        self._sha256 = None
        self._measure(file, None)
        if not may_open:
            self._further = None
        elif file.suffix in TABLES:
            self._know(read_head(file, 0, ()).num_rows, 0)
        else:
            self._know(count_rest(file, self._reading.count_bytes), 0)

    def _rows_of(self, file: Path, head: Head) -> int | None:
        if head.num_rows is not None or head.kind == "JSON array":
            return head.num_rows
        return count_rest(file, self._reading.count_bytes)

    def _know(self, total: int | None, checked: int) -> None:
        if total is None or self._further is None:
            self._further = None
        else:
            self._further += total - checked

    def _measure(self, file: Path, head: Head | None) -> None:
        size: int | None = None
        if file.suffix in COMPRESSED:
            size = head.num_bytes if head is not None and head.whole else None
        elif file.suffix not in TABLES:
            size = file.stat().st_size
        known = None if size is None or self._text_bytes is None else self._text_bytes + size
        self._text_bytes = known
