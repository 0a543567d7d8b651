"""Values of a row: what a column must hold, and what is said where it does not."""

from __future__ import annotations

import json
import math
from typing import Any


class RowError(Exception):
    """A row that cannot be used: what is wrong, and what would help. Whoever reads the file adds the place."""

    def __init__(self, message: str, help: str = "") -> None:
        """Store the texts."""
        super().__init__(message)
        self.message = message
        self.help = help


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


def optional_text(row: dict[str, Any], name: str | None) -> str:
    """Return a text of the row, empty where the column is absent or null."""
    return "" if name is None or row.get(name) is None else text_of(row, name)


def label_of(row: dict[str, Any], name: str) -> bool:
    """Return a judgement of the row: a boolean, 0 or 1, also as text; raises `RowError` for anything else."""
    value = column_of(row, name)
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "1", 1):
        return True
    if word in ("false", "0", 0):
        return False
    raise RowError(f"`{name}` is {_written(value)}, expected true or false")


def margin_of(row: dict[str, Any], name: str) -> float:
    """Return a finite number of the row, also as text; raises `RowError` for anything else."""
    value = column_of(row, name)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"`{name}` is {shown(value)}, expected a number") from None
    if isinstance(value, bool):
        raise RowError(f"`{name}` is a boolean, expected a number")
    if not math.isfinite(number):
        raise RowError(f"`{name}` is not finite")
    return number


def answer_of(row: dict[str, Any], name: str) -> Any:
    """Return a reference answer of the row, any value of JSON but null; raises `RowError` where there is none."""
    value = column_of(row, name)
    if value is None:
        raise RowError(f"`{name}` is null, expected a reference answer")
    check_characters(value, f"`{name}`")
    return value


def _written(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value}" if is_number else shown(value)


def check_encodable(text: str, what: str) -> None:
    """Half of a surrogate pair can be said in JSON but is no character: no tokenizer takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise RowError(
            f"{what} holds \\u{ord(text[fault.start]):04x}, half of a character"
        ) from None


def json_of(text: str, what: str) -> Any:
    """Return the value that a text holds as JSON; raises `RowError` for a text that is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise RowError(f"{what} is {json_fault(fault)}") from None
    check_characters(value, what)
    return value


def check_characters(value: Any, what: str) -> None:
    """Raise `RowError` unless a value can be written as JSON that a tokenizer takes."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        # A column of a table can hold bytes or a time.
        raise RowError(f"{what} holds a value that cannot be written as JSON") from None
    check_encodable(text, what)


def json_fault(fault: ValueError | RecursionError) -> str:
    """Return why a text is no JSON."""
    if isinstance(fault, json.JSONDecodeError):
        return f"not JSON: {fault.msg[:1].lower()}{fault.msg[1:]} at column {fault.colno}"
    if isinstance(fault, RecursionError):
        return "not usable JSON: nested too deeply"
    return "not usable JSON: a number with too many digits"


def names_of(row: dict[str, Any]) -> str:
    """Return the first keys of an object, for a message."""
    names = ", ".join(f"`{key[:60]}`" for key in [*row][:20]) or "none"
    return names.encode("utf-8", "backslashreplace").decode()


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
