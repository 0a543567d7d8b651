"""JSON rows and their values: the same checks, in the same words, as the reader of the runtime (a test compares them)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any


class RowError(Exception):
    """A row that cannot be used: what is wrong, and what would help."""

    def __init__(
        self, message: str, help: str = "", line: int | None = None, at_end: bool = False
    ) -> None:
        """Store the texts; `line` is None where the caller knows it, `at_end` that the text just ends."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.line = line
        self.at_end = at_end


def is_array(text: str) -> bool:
    """Tell whether the text is one JSON array, and not a row a line."""
    return text.lstrip()[:1] == "["


def array_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array with their lines, one at a time; raises `RowError` at the first broken one.

    Where the second stands on line 1, as in arrays that no person writes, elements have numbers in place of lines.
    """
    decoder = json.JSONDecoder()
    position = _skip_blanks(text, text.index("[") + 1)
    line, counted, number = 1, 0, 0
    is_numbered = False
    while text[position : position + 1] != "]" or number:
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as fault:
            at_end = _is_open(fault, len(text))
            raise RowError(
                json_fault(fault), line=getattr(fault, "lineno", line), at_end=at_end
            ) from None
        number += 1
        is_numbered = is_numbered or (number == 2 and line == 1)
        yield number if is_numbered else line, row
        position = _skip_blanks(text, position)
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
    return RowError(json_fault(fault), line=fault.lineno, at_end=position >= len(text))


def _is_open(fault: Exception, length: int) -> bool:
    """Tell whether a value is broken for no other reason than that the text ends in it."""
    if not isinstance(fault, json.JSONDecodeError):
        return False
    # A string that is never closed is placed where it begins; an escape takes up to six characters.
    return fault.pos >= length - 6 or fault.msg.startswith("Unterminated string")


def json_fault(fault: ValueError | RecursionError) -> str:
    """Return why a text is no JSON."""
    if isinstance(fault, json.JSONDecodeError):
        return f"not JSON: {fault.msg[:1].lower()}{fault.msg[1:]} at column {fault.colno}"
    if isinstance(fault, RecursionError):
        return "not usable JSON: nested too deeply"
    return "not usable JSON: a number with too many digits"


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
    """Return what a value is, in words."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    # Columns of a table can hold more than JSON does: times, bytes, decimal numbers.
    return names.get(type(value), f"of type {type(value).__name__}")
