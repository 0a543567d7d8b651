"""Files of a source: which there are, and the rows in them with their places."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from ..errors import ExitCode, UserError
from .conversation import place_of, row_error
from .json_rows import array_rows
from .saved import saved_files

LINES = (".json", ".jsonl")
TABLES = (".parquet", ".arrow", ".feather")
KINDS = (*LINES, ".csv", ".txt", *TABLES)
"""Files that hold rows."""
LONGEST_FIELD = 2**31 - 1
"""Characters that a field of CSV may have."""


@dataclass(frozen=True)
class Parsed:
    """A row that had to be parsed to be found, such as an element of a JSON array; or what is wrong with it."""

    row: Any
    fault: str = ""


Raw = str | Parsed
"""A row as it stands in its file: the text of a line of JSON, or what was parsed already."""


def files_of(path: Path, split: str = "train") -> list[Path]:
    """Return the files that a path names, in the order of their names: itself, those of a folder, or of a pattern.

    A folder that `datasets` saved says itself which files it has; of several splits, `split` is read.

    Raises:
        UserError: (DATA) there are none, or files of several kinds.
    """
    path = Path(os.path.normpath(path))
    if path.is_dir():
        saved = saved_files(path, split)
        if saved is not None:
            return saved
        found = [file for file in path.iterdir() if kind_of_file(file) in KINDS and file.is_file()]
        none = f"{path}: the folder holds no data files"
    elif path.exists() or not any(mark in str(path) for mark in "*?["):
        return [path]
    else:
        found = [file for file in _matching(path) if kind_of_file(file) in KINDS and file.is_file()]
        none = f"{path}: no data file fits this pattern"
    if not found:
        raise UserError(none, help=f"data files are {', '.join(KINDS)}", code=ExitCode.DATA)
    check_one_kind(found, str(path))
    return sorted(found)


def check_one_kind(files: Iterable[Path], named: str) -> None:
    """Raise `UserError` (DATA) where the files that `named` stands for are of several kinds."""
    kinds = sorted({file.suffix for file in files})
    if len(kinds) > 1:
        raise UserError(
            f"{named}: files of several kinds, {' and '.join(kinds)}",
            help=f"name those of one kind with a pattern such as `*{kinds[0]}`",
            code=ExitCode.DATA,
        )


def _matching(path: Path) -> Iterator[Path]:
    """Only the part below the last folder that exists is a pattern: a folder can have such marks in its name."""
    base = next(parent for parent in path.parents if parent.is_dir())
    return base.glob(str(path.relative_to(base)))


def kind_of_file(path: Path) -> str:
    """Return the suffix that tells the kind of rows, without that of the compression."""
    return Path(path.stem).suffix if path.suffix in _OPENERS else path.suffix


def raw_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    """Yield the rows of a file with their lines, unparsed where a line is a row.

    Tables have no lines: there the number of the row, from 1, takes its place.

    Raises:
        UserError: (DATA) the file is missing or cannot be read, or a JSON array is broken.
    """
    path = Path(os.path.normpath(path))
    kind = kind_of_file(path)
    # What has another name is taken for JSON, as it always was.
    reader = _READERS.get(kind, _json_rows)
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such data file", code=ExitCode.DATA) from None
    except _damage() as fault:
        cause = getattr(fault, "strerror", None) or f"the file is damaged: {fault}"
        raise UserError(f"{path}: {cause}", code=ExitCode.DATA) from None


def check_utf8(text: str, place: str) -> None:
    """Bytes that are no UTF-8 were read as lone surrogates, so that their line is known."""
    if not is_utf8(text):
        raise row_error(place, "not UTF-8 text", "save the file as UTF-8")


def is_utf8(text: str) -> bool:
    """Tell whether a text that was read held nothing but UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    with _opened(path) as file:
        is_array = _is_array(file)
    with _opened(path) as file:
        if is_array:
            text = file.read()
            if not is_utf8(text):
                check_utf8(text, place_of(path, _line_of_bad_byte(text)))
            for line, row in array_rows(text, path):
                yield line, Parsed(row)
        else:
            for number, text in enumerate(file, start=1):
                if not text.isspace():
                    yield number, text.rstrip("\n")


def _text_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    with _opened(path) as file:
        for number, text in enumerate(file, start=1):
            if not text.isspace():
                check_utf8(text, place_of(path, number))
                yield number, Parsed({"text": text.rstrip("\n")})


def _csv_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    with _opened(path, newline="") as file:
        # Documents are longer than the 128 KiB that a field may have by default.
        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(file, strict=True)
        names: list[str] = []
        line = 1
        try:
            for fields in reader:
                check_utf8("".join(fields), place_of(path, line))
                if fields and not names:
                    names = _header(fields, place_of(path, line))
                elif fields:
                    yield line, _csv_row(names, fields)
                line = reader.line_num + 1
        except csv.Error as fault:
            raise row_error(place_of(path, line), f"not CSV: {fault}") from None


def _header(fields: Sequence[str], place: str) -> list[str]:
    names = [name.strip() for name in fields]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise row_error(place, f"two columns of the header are called `{twice}`")
    return names


def _csv_row(names: Sequence[str], fields: Sequence[str]) -> Parsed:
    if len(fields) != len(names):
        return Parsed(None, f"the row has {len(fields)} fields, the header names {len(names)}")
    return Parsed(dict(zip(names, fields, strict=True)))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    with _pyarrow_errors(path):
        from pyarrow import parquet

        batches = parquet.ParquetFile(path).iter_batches(batch_size=1024)
    yield from _table_rows(path, batches)


def _arrow_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    """Read the file format and the stream format: what `datasets` saves is the second."""
    with _pyarrow_errors(path):
        import pyarrow

        with pyarrow.memory_map(str(path)) as source:
            try:
                reader = pyarrow.ipc.open_file(source)
                batches: Iterator[Any] = map(reader.get_batch, range(reader.num_record_batches))
            except pyarrow.ArrowInvalid:
                source.seek(0)
                batches = iter(pyarrow.ipc.open_stream(source))
            yield from _table_rows(path, batches)


def _table_rows(path: Path, batches: Iterator[Any]) -> Iterator[tuple[int, Raw]]:
    number = 0
    while True:
        with _pyarrow_errors(path):
            batch = next(batches, None)
            if batch is not None:
                # What is damaged inside would otherwise be a fault of the interpreter.
                batch.validate(full=True)
            rows = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        for row in rows:
            number += 1
            yield number, Parsed(row)


@contextmanager
def _pyarrow_errors(path: Path) -> Iterator[None]:
    """Arrow's own errors are errors of Python: a missing file is one of the system, the rest are values."""
    try:
        yield
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: reading {path.suffix} files needs pyarrow",
            help="pip install pyarrow",
            code=ExitCode.ENVIRONMENT,
        ) from None
    except (ValueError, NotImplementedError) as fault:
        first = (str(fault).splitlines() or [type(fault).__name__])[0]
        text = f"{path}: no {path.suffix} file that can be read: {first}"
        raise UserError(text, code=ExitCode.DATA) from None


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    opener = _OPENERS.get(path.suffix, _open_plain)
    with (
        opener(path) as binary,
        TextIOWrapper(
            binary, encoding="utf-8-sig", errors="surrogateescape", newline=newline
        ) as file,
    ):
        yield file


def _open_plain(path: Path) -> Any:
    return path.open("rb")


def _open_zst(path: Path) -> Any:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: reading .zst files needs zstandard",
            help="pip install zstandard",
            code=ExitCode.ENVIRONMENT,
        ) from None
    return zstandard.open(path, "rb")


def _damage() -> tuple[type[Exception], ...]:
    """Return what damaged compressed files raise; of a package, only where it was needed."""
    loaded = sys.modules.get("zstandard")
    errors = (OSError, EOFError, zlib.error, lzma.LZMAError)
    return errors if loaded is None else (*errors, loaded.ZstdError)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zst,
}
_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Raw]]]] = {
    ".csv": _csv_rows,
    ".txt": _text_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
    ".feather": _arrow_rows,
}


def _is_array(file: TextIO) -> bool:
    """Tell whether the first character that is no blank opens an array."""
    first = file.read(1)
    while first.isspace():
        first = file.read(1)
    return first == "["


def _line_of_bad_byte(text: str) -> int:
    bad = next((i for i, c in enumerate(text) if "\udc80" <= c <= "\udcff"), 0)
    return text.count("\n", 0, bad) + 1
