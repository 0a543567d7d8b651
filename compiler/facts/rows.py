"""Rows of data files: the same checks, in the same words, as the reader of the runtime (a test compares the two)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from ..spec import AlpacaSource, MessagesSource, Source

ROLES = ("system", "user", "assistant")


@frozen
class BadRow:
    """The first bad row of a file."""

    line: int
    message: str
    help: str = ""


class RowError(Exception):
    """A row that cannot be used: what is wrong, and what would help."""

    def __init__(self, message: str, help: str = "", line: int | None = None) -> None:
        """Store the texts; `line` is None where the caller knows it."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.line = line


def scan(text: str, source: Source) -> tuple[int, BadRow | None]:
    """Count the rows up to the source's limit, and stop at the first bad one."""
    count, line = 0, 1
    try:
        for line, row in _array_rows(text) if is_array(text) else _line_rows(text):  # noqa: B007 - for the handler
            if source.limit is not None and count >= source.limit:
                break
            check_row(source, row)
            count += 1
    except RowError as fault:
        at = line if fault.line is None else fault.line
        return count, BadRow(at, fault.message, fault.help)
    return count, None


def is_array(text: str) -> bool:
    """Tell whether the text is one JSON array, and not a row a line."""
    return text.lstrip()[:1] == "["


def _line_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as fault:
                raise _json_error(fault, number) from None
            yield number, row


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
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as fault:
            raise _json_error(fault, getattr(fault, "lineno", line)) from None
        yield line, row


def _json_error(fault: ValueError | RecursionError, line: int) -> RowError:
    if isinstance(fault, RecursionError):
        return RowError("not usable JSON: nested too deeply", line=line)
    if not isinstance(fault, json.JSONDecodeError):
        # Python refuses to convert numbers of more than 4,300 digits.
        return RowError("not usable JSON: a number has too many digits", line=line)
    return RowError(f"not JSON: {fault.msg.lower()} at column {fault.colno}", line=line)


def check_row(source: Source, row: Any) -> None:
    """Raise `RowError` for a row that is no conversation."""
    if not isinstance(row, dict):
        raise RowError(f"the row is {_kind(row)}, expected an object")
    if isinstance(source, AlpacaSource):
        _check_alpaca(source, row)
    else:
        _check_messages(source, row)


def _check_alpaca(source: AlpacaSource, row: dict[str, Any]) -> None:
    _optional_text(row, source.system)
    _check_history(row.get(source.history), source.history)
    if not (_text(row, source.instruction) + _optional_text(row, source.input)):
        raise RowError(f"`{source.instruction}` is empty")
    if not _text(row, source.output).strip():
        raise RowError(f"`{source.output}` is empty: there is no answer to learn")


def _check_history(value: Any, name: str) -> None:
    good = value is None or (
        isinstance(value, list)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
        and all(isinstance(text, str) for pair in value for text in pair)
    )
    if not good:
        raise RowError(f"`{name}` is not a list of [user, assistant] pairs of texts")


def _check_messages(source: MessagesSource, row: dict[str, Any]) -> None:
    listed = _column(row, source.messages)
    if not isinstance(listed, list) or not listed:
        raise RowError(f"`{source.messages}` is {_kind(listed)}, expected a list of messages")
    roles = [_role(source, item, number) for number, item in enumerate(listed, start=1)]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns:
        raise RowError("the conversation has no turns")
    for index, role in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if role != expected:
            number = index + 1 + len(roles) - len(turns)
            raise RowError(
                f"message {number} is from `{role}`, expected `{expected}`",
                "after an optional system message, user and assistant take turns",
            )
    if turns[-1] != "assistant":
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


def _text(row: dict[str, Any], name: str) -> str:
    value = _column(row, name)
    if not isinstance(value, str):
        raise RowError(f"`{name}` is {_kind(value)}, expected text")
    return value


def _optional_text(row: dict[str, Any], name: str) -> str:
    return "" if row.get(name) is None else _text(row, name)


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
