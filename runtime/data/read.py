"""Readers: alpaca and messages rows from local JSON and JSON Lines files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

from ..errors import ExitCode, UserError
from .conversation import Conversation, Message, Role, check_order, place_of, row_error

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Alpaca:
    """Rows with an instruction, an optional input and an output, in the named columns."""

    path: Path
    name: str
    limit: int | None = None
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    system: str = "system"
    history: str = "history"

    def conversation(self, row: dict[str, Any], place: str) -> Conversation:
        """Return the row as a conversation; raises `UserError` for a row that is none."""
        messages: list[Message] = []
        system = _optional_text(row, self.system, place)
        if system:
            messages.append(Message("system", system))
        for asked, answered in _pairs(row.get(self.history), self.history, place):
            messages += [Message("user", asked), Message("assistant", answered)]
        parts = [
            _text(row, self.instruction, place),
            _optional_text(row, self.input, place),
        ]
        question = "\n".join(part for part in parts if part)
        if not question.strip():
            raise row_error(place, f"`{self.instruction}` is empty")
        messages.append(Message("user", question))
        messages.append(Message("assistant", _answer(row, self.output, place)))
        return Conversation(tuple(messages), self.name, place)


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Rows that hold a list of messages under one key."""

    path: Path
    name: str
    limit: int | None = None
    messages: str = "messages"
    role: str = "role"
    content: str = "content"

    def conversation(self, row: dict[str, Any], place: str) -> Conversation:
        """Return the row as a conversation; raises `UserError` for a row that is none."""
        listed = _column(row, self.messages, place)
        if not isinstance(listed, list) or not listed:
            found = "an empty list" if listed == [] else _kind(listed)
            raise row_error(place, f"`{self.messages}` is {found}, expected a list of messages")
        messages = tuple(self._message(item, index + 1, place) for index, item in enumerate(listed))
        check_order(messages, place)
        return Conversation(messages, self.name, place)

    def _message(self, item: Any, number: int, place: str) -> Message:
        if not isinstance(item, dict):
            raise row_error(place, f"message {number} is {_kind(item)}, expected an object")
        for key in (self.role, self.content):
            if key not in item:
                help = f"keys of this message: {_names(item)}"
                raise row_error(place, f"message {number} has no `{key}`", help)
        role, content = item[self.role], item[self.content]
        if role not in ROLES:
            raise row_error(
                place,
                f"message {number} has the {self.role} {_shown(role)}, expected one of {', '.join(ROLES)}",
            )
        if not isinstance(content, str):
            raise row_error(
                place, f"`{self.content}` of message {number} is {_kind(content)}, expected text"
            )
        _check_encodable(content, f"`{self.content}` of message {number}", place)
        if role == "assistant" and not content.strip():
            raise row_error(place, f"message {number} is an empty answer")
        return Message(cast(Role, role), content)


Source = Alpaca | Messages


@dataclass(frozen=True)
class Parsed:
    """A row that had to be parsed to be found: an element of a JSON array."""

    row: Any


Raw = str | Parsed
"""A row as it stands in its file: the text of a line, or an element of an array."""


def read(sources: Sequence[Source]) -> list[Conversation]:
    """Return the conversations of all sources, in order.

    Raises `UserError` (code DATA) with file and line for a missing file, broken JSON, a row without the
    needed columns, roles out of order, and a source without rows.
    """
    return [conversation for source in sources for conversation in _read_source(source)]


def _read_source(source: Source) -> list[Conversation]:
    numbered = islice(raw_rows(source.path), source.limit)
    rows = [parse_row(source, line, raw) for line, raw in numbered]
    if not rows:
        raise UserError(
            f"{os.path.normpath(source.path)}: the data set is empty", code=ExitCode.DATA
        )
    return rows


def parse_row(source: Source, line: int, raw: Raw) -> Conversation:
    """Return the conversation of a row; raises `UserError` (code DATA) for one that cannot be used."""
    path = Path(os.path.normpath(source.path))
    place = place_of(path, line)
    row = raw.row if isinstance(raw, Parsed) else _parse_line(raw, place)
    if not isinstance(row, dict):
        raise row_error(place, f"the row is {_kind(row)}, expected an object")
    return source.conversation(row, place)


def _parse_line(text: str, place: str) -> Any:
    if "\udc80" <= max(text, default="") <= "\udcff":
        _check_utf8(text, place)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        help = "in a .jsonl file each line is one row; in a .json file `[` and `]` enclose them"
        raise row_error(place, _json_fault(fault), help) from None


def _check_utf8(text: str, place: str) -> None:
    """Bytes that are no UTF-8 were read as lone surrogates, so that their line is known."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise row_error(place, "not UTF-8 text", "save the file as UTF-8") from None


def raw_rows(path: Path) -> Iterator[tuple[int, Raw]]:
    """Yield the rows of a file with their lines, unparsed where the file is one of lines.

    Raises:
        UserError: (DATA) the file is missing or cannot be read, or a JSON array is broken.
    """
    path = Path(os.path.normpath(path))
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            if _is_array(file):
                text = file.read()
                _check_utf8(text, place_of(path, _line_of_bad_byte(text)))
                for line, row in _array_rows(text, path):
                    yield line, Parsed(row)
            else:
                for number, text in enumerate(file, start=1):
                    if not text.isspace():
                        yield number, text.rstrip("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such data file", code=ExitCode.DATA) from None
    except OSError as fault:
        raise UserError(f"{path}: {fault.strerror}", code=ExitCode.DATA) from None


def _is_array(file: TextIO) -> bool:
    """Tell whether the first character that is no blank opens an array, and go back to the start."""
    first = file.read(1)
    while first.isspace():
        first = file.read(1)
    file.seek(0)
    return first == "["


def _line_of_bad_byte(text: str) -> int:
    bad = next((i for i, c in enumerate(text) if "\udc80" <= c <= "\udcff"), 0)
    return text.count("\n", 0, bad) + 1


def _array_rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array one at a time: a broken one is placed by its own line."""
    decoder = json.JSONDecoder()
    position = _skip_blanks(text, text.index("[") + 1)
    line, counted, first = 1, 0, True
    while text[position : position + 1] != "]" or not first:
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as fault:
            at = fault.lineno if isinstance(fault, json.JSONDecodeError) else line
            raise row_error(place_of(path, at), _json_fault(fault)) from None
        yield line, row
        position, first = _skip_blanks(text, position), False
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            raise _misplaced(text, position, path, "expecting `,` or `]`")
        position = _skip_blanks(text, position + 1)
    end = _skip_blanks(text, position + 1)
    if end < len(text):
        raise _misplaced(text, end, path, "there is text after the closing `]`")


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _misplaced(text: str, position: int, path: Path, message: str) -> UserError:
    fault = json.JSONDecodeError(message, text, position)
    return row_error(place_of(path, fault.lineno), _json_fault(fault))


def _json_fault(fault: ValueError | RecursionError) -> str:
    if isinstance(fault, json.JSONDecodeError):
        return f"not JSON: {fault.msg[:1].lower()}{fault.msg[1:]} at column {fault.colno}"
    if isinstance(fault, RecursionError):
        return "not usable JSON: nested too deeply"
    return "not usable JSON: a number with too many digits"


def _column(row: dict[str, Any], name: str, place: str) -> Any:
    if name not in row:
        help = f"columns of this row: {_names(row)}"
        raise row_error(place, f"the row has no column `{name}`", help)
    return row[name]


def _text(row: dict[str, Any], name: str, place: str) -> str:
    value = _column(row, name, place)
    if not isinstance(value, str):
        raise row_error(place, f"`{name}` is {_kind(value)}, expected text")
    _check_encodable(value, f"`{name}`", place)
    return value


def _optional_text(row: dict[str, Any], name: str, place: str) -> str:
    return "" if row.get(name) is None else _text(row, name, place)


def _answer(row: dict[str, Any], name: str, place: str) -> str:
    value = _text(row, name, place)
    if not value.strip():
        raise row_error(place, f"`{name}` is empty: there is no answer to learn")
    return value


def _pairs(value: Any, name: str, place: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    good = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in value
    )
    if not good:
        raise row_error(place, f"`{name}` is not a list of [user, assistant] pairs of texts")
    for number, (asked, answered) in enumerate(value, start=1):
        _check_encodable(asked + answered, f"pair {number} of `{name}`", place)
        if not answered.strip():
            raise row_error(place, f"pair {number} of `{name}` has an empty answer")
    return [(pair[0], pair[1]) for pair in value]


def _check_encodable(text: str, what: str, place: str) -> None:
    """Half of a surrogate pair can be said in JSON but is no character: no tokenizer takes it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise row_error(
            place, f"{what} holds \\u{ord(text[fault.start]):04x}, half of a character"
        ) from None


def _names(row: dict[str, Any]) -> str:
    names = ", ".join(f"`{key[:60]}`" for key in [*row][:20]) or "none"
    return names.encode("utf-8", "backslashreplace").decode()


def _shown(value: Any) -> str:
    return json.dumps(value)[:40] if isinstance(value, str | None) else _kind(value)


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names[type(value)]
