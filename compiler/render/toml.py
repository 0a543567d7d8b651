"""Plain data to TOML, with a comment behind each value where there is something to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..diagnostics import SpecPath
from .literals import plain_words, toml_key, toml_literal

Note = Callable[[SpecPath], str]


def toml_lines(data: Mapping[str, Any], note: Note = lambda _: "") -> Iterator[str]:
    """Yield the lines of a document: values first, then tables, then lists of tables.

    `note` returns the comment for the value at a path, or nothing; whatever it holds stays a comment.
    """
    yield from _table(data, (), note)


def _table(data: Mapping[str, Any], path: SpecPath, note: Note) -> Iterator[str]:
    tables = {key: value for key, value in data.items() if _has_header(value, path)}
    for key, value in data.items():
        if key not in tables:
            comment = plain_words(note((*path, key)))
            yield f"{toml_key(key)} = {toml_literal(value)}{f'  # {comment}' if comment else ''}"
    for key, value in tables.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            yield from ("", f"[{_name(here)}]")
            yield from _table(value, here, note)
        else:
            for index, item in enumerate(value):
                yield from ("", f"[[{_name(here)}]]")
                yield from _table(item, (*here, index), note)


def _has_header(value: Any, path: SpecPath) -> bool:
    """Tell whether a value is written as a table of its own; an empty one inside a section stays on its line."""
    if isinstance(value, Mapping):
        return bool(value) or not path
    if not isinstance(value, list | tuple):
        return False
    return bool(value) and all(isinstance(item, Mapping) for item in value)


def _name(path: SpecPath) -> str:
    return ".".join(toml_key(step) for step in path if isinstance(step, str))
