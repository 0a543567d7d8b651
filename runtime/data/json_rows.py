"""JSON arrays: their elements one at a time, each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from .conversation import place_of, row_error
from .values import json_fault


def array_rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array one at a time: a broken one is placed by its own line.

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
            at = fault.lineno if isinstance(fault, json.JSONDecodeError) else line
            raise row_error(place_of(path, at), json_fault(fault)) from None
        number += 1
        is_numbered = is_numbered or (number == 2 and line == 1)
        yield number if is_numbered else line, row
        position = _skip_blanks(text, position)
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
    return row_error(place_of(path, fault.lineno), json_fault(fault))
