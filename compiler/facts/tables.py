"""The beginnings of Parquet and Arrow files. pyarrow is imported only here, and only for a spec that names such a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .files import open_regular
from .heads import DamagedError, Head, Row, UnreadError

MOST_ROWS = 1024
"""Rows of a table that are looked at."""
COUNT_BYTES = 2**28
"""Arrow files up to this size are counted, batch by batch; Parquet files say how many rows they have."""


def read_table(path: Path, most: int, names: Sequence[str] | None) -> Head:
    """Return the first rows of a table, at most `most` bytes of them; see `read_head`.

    Rows have no lines: their number, from 1, takes its place.
    """
    open_regular(path).close()
    try:
        import pyarrow
    except ImportError:
        raise UnreadError(
            f"reading {path.suffix} files needs pyarrow, which is not installed here"
        ) from None
    faults = (
        pyarrow.ArrowException,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        SystemError,
    )
    reader = _parquet if path.suffix == ".parquet" else _arrow
    try:
        return reader(path, most, names)
    except OSError as fault:
        if fault.errno is not None:
            raise
        raise DamagedError(_words(path, fault)) from None
    except (*faults, NotImplementedError, MemoryError) as fault:
        raise DamagedError(_words(path, fault)) from None


def _words(path: Path, fault: BaseException) -> str:
    first = (str(fault).splitlines() or [type(fault).__name__])[0]
    return f"no {path.suffix} file that can be read: {first[:200]}"


def _parquet(path: Path, most: int, names: Sequence[str] | None) -> Head:
    from pyarrow import parquet

    # With a buffer, columns are read piece by piece instead of a row group at a time.
    with parquet.ParquetFile(path, buffer_size=2**20, memory_map=False) as file:
        columns = tuple(file.schema_arrow.names)
        wanted = [name for name in columns if names is None or name in names]
        batches = file.iter_batches(batch_size=32, columns=wanted)
        rows, size = _first(batches, most)
        total = file.metadata.num_rows
    return Head("Parquet", iter(rows), size, len(rows) == total, columns, total)


def _arrow(path: Path, most: int, names: Sequence[str] | None) -> Head:
    """Read the file format and the stream format: what `datasets` saves is the second."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = pyarrow.ipc.open_file(source)
            batches: Iterator[Any] = map(reader.get_batch, range(reader.num_record_batches))
        except pyarrow.ArrowInvalid:
            source.seek(0)
            reader = pyarrow.ipc.open_stream(source)
            batches = iter(reader)
        columns = tuple(reader.schema.names)
        wanted = [name for name in columns if names is None or name in names]
        total = _Counter(wanted)
        rows, size = _first(map(total.take, batches), most)
        for batch in batches if path.stat().st_size <= COUNT_BYTES else ():
            total.rows += batch.num_rows
        whole = next(batches, None) is None and len(rows) == total.rows
    known = total.rows if whole or path.stat().st_size <= COUNT_BYTES else None
    return Head("Arrow", iter(rows), size, whole, columns, known)


class _Counter:
    """Counts the rows of the batches that go through it, and leaves the wanted columns."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.rows = 0
        self._wanted = wanted

    def take(self, batch: Any) -> Any:
        self.rows += batch.num_rows
        return batch.select(self._wanted)


def _first(batches: Iterator[Any], most: int) -> tuple[list[Row], int]:
    """Return the first rows and their bytes, until these are too many."""
    rows: list[Row] = []
    size = 0
    for batch in batches:
        for start in range(0, batch.num_rows, 32):
            part = batch.slice(start, 32)
            # A damaged file can point outside of its own memory.
            part.validate(full=True)
            size += part.nbytes
            if size > most and rows:
                return rows, size
            values = part.to_pylist()
            rows += [Row(len(rows) + n, value) for n, value in enumerate(values, start=1)]
            if len(rows) >= MOST_ROWS:
                return rows, size
    return rows, size
