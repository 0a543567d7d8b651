"""The beginnings of data files as rows with their lines, however large the files are and whatever they hold.

Kinds, messages and lines are those of the reader of the runtime (a test compares the two).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from attrs import frozen

from .files import open_regular
from .rows import RowError, array_rows, is_array, json_fault

LINES = (".json", ".jsonl")
TABLES = (".parquet", ".arrow", ".feather")
KINDS = (*LINES, ".csv", ".txt", *TABLES)
"""Files that hold rows."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
MOST_MEMORY = 2**28
"""What taking a compressed file apart may need; `xz -9` needs 65 MiB."""
CHUNK = 2**20


class UnreadError(Exception):
    """A file that cannot be looked into on this machine, and why."""


class DamagedError(Exception):
    """A file that is not what its name says, and why."""


@frozen
class Row:
    """A row, or what is wrong with it."""

    line: int
    value: Any = None
    fault: str = ""
    help: str = ""


@frozen
class Head:
    """The beginning of a file."""

    kind: str
    """`JSON Lines`, `JSON array`, `CSV`, `text`, `Parquet` or `Arrow`."""
    rows: Iterator[Row]
    """Its rows; broken ones too, as far as the next can be told."""
    num_bytes: int
    """Bytes that were looked at, after decompression."""
    whole: bool
    """Whether that is all of the file."""
    columns: tuple[str, ...] | None = None
    """The columns, where the file itself names them."""
    num_rows: int | None = None
    """Rows of the whole file, where the file itself says so."""
    content: bytes = b""
    """What was read; nothing of a table."""


def kind_of_file(path: PurePath) -> str:
    """Return the suffix that tells the kind of rows, without that of the compression."""
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def is_data_file(path: PurePath) -> bool:
    """Tell whether a name is that of a file with rows."""
    kind = kind_of_file(path)
    return kind in KINDS and not (kind in TABLES and path.suffix in COMPRESSED)


def read_head(path: Path, most: int, names: Sequence[str] | None = None) -> Head:
    """Return the rows in the first `most` bytes of a file; of a table only the columns with these names.

    Raises:
        OSError: it cannot be read.
        UnreadError: a package is needed that is not installed.
        DamagedError: it is not what its name says.
    """
    kind = kind_of_file(path)
    if kind in TABLES:
        from .tables import read_table  # few specs name such files

        return read_table(path, most, names)
    content, whole = _content(path, most)
    cut = content if whole else _cut(content[:most], kind)
    kind, columns, rows = _rows(cut, kind, whole)
    return Head(kind, rows, len(cut), whole, columns, content=content)


def count_rest(path: Path, most: int) -> int | None:
    """Return how many rows a file of lines has; None for other files, and for those above `most` bytes."""
    if path.suffix not in (*LINES, ".txt") or path.stat().st_size > most:
        return None
    count, is_row = 0, False
    # A line can be as long as the file: what is held at a time does not depend on it.
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            first, *others = chunk.split(b"\n")
            is_row = is_row or bool(first.strip())
            for line in others:
                count += is_row
                is_row = bool(line.strip())
    return count + is_row


def _cut(content: bytes, kind: str) -> bytes:
    """Return the beginning of a file without the row, or the character, that it ends in."""
    if kind in (*LINES, "") and is_array(content[:1024].decode("utf-8-sig", "replace")):
        last = next((n for n in range(1, 4) if content[-n] >= 0xC0), 0)
        return content[: len(content) - last]
    return content[: content.rfind(b"\n") + 1]


def _rows(
    content: bytes, kind: str, whole: bool
) -> tuple[str, tuple[str, ...] | None, Iterator[Row]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        text = content[: content.rfind(b"\n", 0, fault.start) + 1].decode("utf-8-sig")
        tail = (Row(line, fault="not UTF-8 text", help="save the file as UTF-8"),)
        name, columns, rows = _rows_of(text, kind, False)
        # An array is parsed as one text, of which nothing is left.
        return name, columns, iter(tail) if name == "JSON array" else _chained(rows, tail)
    return _rows_of(text, kind, whole)


def _rows_of(
    text: str, kind: str, whole: bool
) -> tuple[str, tuple[str, ...] | None, Iterator[Row]]:
    if kind == ".csv":
        columns, rows = _csv_rows(text, whole)
        return "CSV", columns, rows
    # All line ends count, as for the reader of the runtime.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if kind == ".txt":
        return "text", ("text",), _text_rows(text)
    if is_array(text):
        return "JSON array", None, _array_rows(text, whole)
    return "JSON Lines", None, _line_rows(text)


def _chained(rows: Iterator[Row], tail: Sequence[Row]) -> Iterator[Row]:
    yield from rows
    yield from tail


def _line_rows(text: str) -> Iterator[Row]:
    help = "in a .jsonl file each line is one row; in a .json file `[` and `]` enclose them"
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as fault:
            yield Row(number, fault=json_fault(fault), help=help)
        else:
            yield Row(number, value)


def _array_rows(text: str, whole: bool) -> Iterator[Row]:
    """Yield the elements of an array; behind a broken one nothing can be told."""
    try:
        for line, value in array_rows(text):
            yield Row(line, value)
    except RowError as fault:
        # The end of a head is no fault of the file.
        if whole or not fault.at_end:
            yield Row(fault.line or 1, fault=fault.message, help=fault.help)


def _text_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            yield Row(number, {"text": line})


def _csv_rows(text: str, whole: bool) -> tuple[tuple[str, ...] | None, Iterator[Row]]:
    import csv  # few specs name such files
    import io

    # Documents are longer than the 128 KiB that a field may have by default.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next((fields for fields in reader if fields), None)
    except csv.Error as fault:
        return None, iter([Row(1, fault=f"not CSV: {fault}")])
    if names is None:
        return None, iter(())
    names = [name.strip() for name in names]
    # A column of that name could be either.
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        words = f"two columns of the header are called `{twice[:60]}`"
        return None, iter([Row(1, fault=words)])
    return tuple(names), _csv_fields(reader, names, whole)


def _csv_fields(reader: Any, names: Sequence[str], whole: bool) -> Iterator[Row]:
    from csv import Error

    line = reader.line_num + 1
    try:
        for fields in reader:
            if fields and len(fields) != len(names):
                words = f"the row has {len(fields)} fields, the header names {len(names)}"
                yield Row(line, fault=words)
            elif fields:
                yield Row(line, dict(zip(names, fields, strict=True)))
            line = reader.line_num + 1
    except Error as error:
        # A field that is open at the end of a head is no fault of the file.
        if whole or "unexpected end" not in str(error):
            yield Row(line, fault=f"not CSV: {error}")


def _content(path: Path, most: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, decompressed, one more than asked for if there are more; whether they are all."""
    with open_regular(path) as file:
        try:
            content = _READERS.get(path.suffix, _plain)(file, most + 1)
        except OSError as fault:
            if fault.errno is not None:
                raise
            raise DamagedError(f"the file is damaged: {fault}") from None
        except (EOFError, ValueError, MemoryError) as fault:
            raise DamagedError(f"the file is damaged: {fault}") from None
    return content, len(content) <= most


def _plain(file: BinaryIO, size: int) -> bytes:
    return file.read(size)


def _gzip(file: BinaryIO, size: int) -> bytes:
    import gzip
    import zlib

    try:
        content = gzip.GzipFile(fileobj=file).read(size)
    except zlib.error as fault:
        raise DamagedError(f"the file is damaged: {fault}") from None
    return content


def _bzip2(file: BinaryIO, size: int) -> bytes:
    import bz2

    return bz2.BZ2File(file).read(size)


def _xz(file: BinaryIO, size: int) -> bytes:
    """A few bytes can ask for gigabytes of memory, which only the bare decompressor can be denied."""
    import lzma

    try:
        return _unxz(file, size, lambda: lzma.LZMADecompressor(memlimit=MOST_MEMORY))
    except lzma.LZMAError as fault:
        raise DamagedError(f"the file is damaged: {fault}") from None


def _unxz(file: BinaryIO, size: int, new: Callable[[], Any]) -> bytes:
    content: bytes = b""
    while len(content) < size:
        unpacker = new()
        data = file.read(CHUNK)
        if not data.strip(b"\0"):
            break
        while not unpacker.eof:
            content += unpacker.decompress(data, size - len(content))
            if len(content) >= size:
                return content
            data = file.read(CHUNK) if unpacker.needs_input else b""
            if unpacker.needs_input and not data:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        file.seek(-len(unpacker.unused_data), os.SEEK_CUR)
    return content


def _zstandard(file: BinaryIO, size: int) -> bytes:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise UnreadError(
            "reading .zst files needs zstandard, which is not installed here"
        ) from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=MOST_MEMORY)
    try:
        content: bytes = unpacker.stream_reader(file, read_across_frames=True).read(size)
    except zstandard.ZstdError as fault:
        raise DamagedError(f"the file is damaged: {fault}") from None
    return content


_READERS: dict[str, Callable[[BinaryIO, int], bytes]] = {
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".xz": _xz,
    ".zst": _zstandard,
}
