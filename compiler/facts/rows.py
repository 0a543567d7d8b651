"""Rows of data files: the same checks, in the same words, as the reader of the runtime (a test compares the two)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from attrs import frozen

from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)

FileSource = (
    AlpacaSource | MessagesSource | ShareGptSource | TextSource | PreferenceSource | PromptSource
)


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


Check = Callable[[FileSource, Any], None]
"""Raises `RowError` for a row that cannot be used."""


def scan(text: str, source: FileSource, check: Check) -> tuple[int, BadRow | None]:
    """Count the rows up to the source's limit, and stop at the first bad one."""
    count, line = 0, 1
    try:
        rows = numbered_rows(text)
        # A limit below 0 is reported as that.
        limit = None if source.limit is None else max(source.limit, 0)
        for line, row in islice(rows, limit):
            check(source, row)
            count += 1
    except RowError as fault:
        at = line if fault.line is None else fault.line
        return count, BadRow(at, fault.message, fault.help)
    return count, None


def first_rows(text: str, count: int) -> list[Any]:
    """Return the first rows; where one is no JSON, those above it."""
    rows: list[Any] = []
    try:
        for _, row in islice(numbered_rows(text), count):
            rows.append(row)
    except RowError:
        pass
    return rows


def numbered_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the rows with their lines; raises `RowError` at the first that is no JSON."""
    return _array_rows(text) if is_array(text) else _line_rows(text)


def is_array(text: str) -> bool:
    """Tell whether the text is one JSON array, and not a row a line."""
    return text.lstrip()[:1] == "["


def _line_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as fault:
                help = "in a .jsonl file each line is one row; in a .json file `[` and `]` enclose them"
                raise RowError(json_fault(fault), help, number) from None
            yield number, row


def _array_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array one at a time: a broken one is placed by its own line."""
    decoder = json.JSONDecoder()
    position = _skip_blanks(text, text.index("[") + 1)
    line, counted, first = 1, 0, True
    while text[position : position + 1] != "]" or not first:
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as fault:
            raise RowError(json_fault(fault), line=getattr(fault, "lineno", line)) from None
        yield line, row
        position, first = _skip_blanks(text, position), False
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            raise _misplaced(text, position, "expecting `,` or `]`")
        position = _skip_blanks(text, position + 1)
    end = _skip_blanks(text, position + 1)
    if end < len(text):
        raise _misplaced(text, end, "there is text after the closing `]`")


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _misplaced(text: str, position: int, message: str) -> RowError:
    fault = json.JSONDecodeError(message, text, position)
    return RowError(json_fault(fault), line=fault.lineno)


def json_fault(fault: ValueError | RecursionError) -> str:
    """Return why a text is no JSON."""
    if isinstance(fault, json.JSONDecodeError):
        return f"not JSON: {fault.msg[:1].lower()}{fault.msg[1:]} at column {fault.colno}"
    if isinstance(fault, RecursionError):
        return "not usable JSON: nested too deeply"
    return "not usable JSON: a number with too many digits"


def check_alpaca(source: AlpacaSource, row: dict[str, Any]) -> None:
    """Raise `RowError` unless the row asks and answers."""
    optional_text(row, source.system)
    _check_history(row.get(source.history), source.history)
    if not (text_of(row, source.instruction) + optional_text(row, source.input)).strip():
        raise RowError(f"`{source.instruction}` is empty")
    if not text_of(row, source.output).strip():
        raise RowError(f"`{source.output}` is empty: there is no answer to learn")


def _check_history(value: Any, name: str) -> None:
    if value is None:
        return
    good = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in value
    )
    if not good:
        raise RowError(f"`{name}` is not a list of [user, assistant] pairs of texts")
    for number, (asked, answered) in enumerate(value, start=1):
        check_encodable(asked + answered, f"pair {number} of `{name}`")
        if not answered.strip():
            raise RowError(f"pair {number} of `{name}` has an empty answer")


def column_of(row: dict[str, Any], name: str) -> Any:
    """Return a value of the row; raises `RowError` where there is none."""
    if name not in row:
        raise RowError(f"the row has no column `{name}`", f"columns of this row: {names_of(row)}")
    return row[name]


def text_of(row: dict[str, Any], name: str) -> str:
    """Return a text of the row; raises `RowError` for anything else."""
    value = column_of(row, name)
    if not isinstance(value, str):
        raise RowError(f"`{name}` is {kind_of(value)}, expected text")
    check_encodable(value, f"`{name}`")
    return value


def optional_text(row: dict[str, Any], name: str) -> str:
    """Return a text of the row, empty where the column is absent or null."""
    return "" if row.get(name) is None else text_of(row, name)


def check_encodable(text: str, what: str) -> None:
    """Half of a surrogate pair can be said in JSON but is no character: no tokenizer takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise RowError(
            f"{what} holds \\u{ord(text[fault.start]):04x}, half of a character"
        ) from None


def names_of(names: dict[str, Any]) -> str:
    """Return the first keys of an object, for a message."""
    clean = (name[:60].encode("utf-8", "backslashreplace").decode() for name in islice(names, 20))
    return ", ".join(f"`{name}`" for name in clean) or "none"


def shown(value: Any) -> str:
    """Return a short text or null as it is written, and of anything else its kind."""
    return json.dumps(value)[:40] if isinstance(value, str | None) else kind_of(value)


def kind_of(value: Any) -> str:
    """Return what a value of JSON is, in words."""
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
