"""Facts about data files: rows, columns, and the first row that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from ..spec import AlpacaSource, MessagesSource, Source

DataState = Literal["ok", "missing", "folder", "unreadable", "unknown-kind", "impossible"]
KINDS = (".json", ".jsonl")
WHOLE_BYTES = 8 * 2**20
"""Files up to this size are read whole; of larger ones the beginning is checked and the lines are counted."""
COUNT_BYTES = 2**28
ROLES = ("system", "user", "assistant")


class RowError(Exception):
    """A row that cannot be used: what is wrong, and what would help."""

    def __init__(self, message: str, help: str = "") -> None:
        """Store both texts."""
        super().__init__(message)
        self.message = message
        self.help = help


@frozen
class BadRow:
    """The first bad row of a file."""

    line: int
    message: str
    help: str = ""


@frozen
class DataFacts:
    """What is known about one source."""

    path: Path
    state: DataState
    num_rows: int | None = None
    """Rows the run will see (after `limit`), or None when the file is too large to count."""
    num_bytes: int = 0
    sha256: str | None = None
    bad_row: BadRow | None = None
    problem: str = ""


def read_data(base: Path, source: Source) -> DataFacts:
    """Return the facts of one source."""
    try:
        path = base / source.path
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
        return DataFacts(base / source.path, "unreadable", problem=fault.strerror or "")
    except ValueError:
        return DataFacts(base, "impossible")


def _read(path: Path, source: Source) -> DataFacts:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(WHOLE_BYTES + 1)
    whole = len(head) <= WHOLE_BYTES
    if not whole:
        head = head[: head.rfind(b"\n", 0, WHOLE_BYTES) + 1]
    count, bad = _scan(head, source, whole)
    if not whole and bad is None:
        count = _count_rows(path) if path.suffix == ".jsonl" and size <= COUNT_BYTES else None
    limited = count if count is None or source.limit is None else min(count, source.limit)
    digest = hashlib.sha256(head).hexdigest() if whole else None
    return DataFacts(path, "ok", limited, size, digest, bad)


def _scan(head: bytes, source: Source, whole: bool) -> tuple[int | None, BadRow | None]:
    """Count the rows and find the first bad one."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = head.count(b"\n", 0, fault.start) + 1
        return None, BadRow(line, "not UTF-8 text", "save the file as UTF-8")
    array = text.lstrip()[:1] == "["
    if array and not whole:
        return None, None
    count, line = 0, 1
    try:
        for line, row in _array_rows(text) if array else _line_rows(text):
            if source.limit is None or count < source.limit:
                _check_row(source, row)
            count += 1
    except json.JSONDecodeError as fault:
        at = fault.lineno if array else _line_of(fault)
        return None, BadRow(at, f"not JSON: {fault.msg.lower()} at column {fault.colno}")
    except RecursionError:
        return None, BadRow(line, "not usable JSON: nested too deeply")
    except RowError as fault:
        return None, BadRow(line, fault.message, fault.help)
    return count, None


def _line_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as fault:
                fault.tunec_line = number  # type: ignore[attr-defined]
                raise


def _line_of(fault: json.JSONDecodeError) -> int:
    return int(getattr(fault, "tunec_line", fault.lineno))


def _array_rows(text: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    line, counted = 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            return
        row, position = decoder.raw_decode(text, position)
        yield line, row


def _count_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(not line.isspace() for line in file)


def _check_row(source: Source, row: Any) -> None:
    if not isinstance(row, dict):
        raise RowError(f"the row is {_kind(row)}, expected an object")
    if isinstance(source, AlpacaSource):
        _check_alpaca(source, row)
    else:
        _check_messages(source, row)


def _check_alpaca(source: AlpacaSource, row: dict[str, Any]) -> None:
    for name in (source.instruction, source.output):
        _text(row, name)
    if not row[source.output].strip():
        raise RowError(f"`{source.output}` is empty: there is no answer to learn")
    for name in (source.input, source.system):
        if row.get(name) is not None:
            _text(row, name)


def _check_messages(source: MessagesSource, row: dict[str, Any]) -> None:
    listed = _column(row, source.messages)
    if not isinstance(listed, list) or not listed:
        raise RowError(f"`{source.messages}` is {_kind(listed)}, expected a list of messages")
    roles = [_role(source, item, number) for number, item in enumerate(listed, start=1)]
    turns = roles[1:] if roles[0] == "system" else roles
    for index, role in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if role != expected:
            number = index + 1 + len(roles) - len(turns)
            raise RowError(
                f"message {number} is from `{role}`, expected `{expected}`",
                "after an optional system message, user and assistant take turns",
            )
    if not turns or turns[-1] != "assistant":
        raise RowError("the conversation ends with the user, there is no answer to learn")


def _role(source: MessagesSource, item: Any, number: int) -> str:
    if not isinstance(item, dict):
        raise RowError(f"message {number} is {_kind(item)}, expected an object")
    role, content = item.get(source.role), item.get(source.content)
    if role not in ROLES:
        raise RowError(
            f"message {number} has the {source.role} {role!r}, expected one of {', '.join(ROLES)}"
        )
    if not isinstance(content, str):
        raise RowError(f"`{source.content}` of message {number} is {_kind(content)}, expected text")
    if role == "assistant" and not content.strip():
        raise RowError(f"message {number} is an empty answer")
    return str(role)


def _column(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        there = ", ".join(f"`{key}`" for key in row) or "none"
        raise RowError(f"the row has no column `{name}`", f"columns of this row: {there}")
    return row[name]


def _text(row: dict[str, Any], name: str) -> None:
    value = _column(row, name)
    if not isinstance(value, str):
        raise RowError(f"`{name}` is {_kind(value)}, expected text")


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names[type(value)]
