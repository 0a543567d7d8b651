"""Specs that come as data, from code or JSON: the same limits as in a TOML text, and a text to show findings in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from attrs import evolve

from .diagnostics import Diagnostic, SpecPath, error
from .document import Document, DocumentError, parse_document
from .render.toml import toml_lines
from .scanner import MAX_DEPTH
from .toml_words import dotted


def document_of(data: dict[str, Any], name: str) -> Document:
    """Return data as a document, whose text is TOML made of them.

    Raises:
        DocumentError: the data are nested too deep, or their text is too large.
    """
    if _is_too_deep(data, MAX_DEPTH):
        message = f"values are nested deeper than {MAX_DEPTH} levels"
        raise DocumentError(name, "", [error("P105", message)])
    text = "\n".join(toml_lines(_writable(data))) + "\n"
    return evolve(parse_document(text.lstrip("\n"), name), data=data, warnings=())


def unwritable(data: Any, path: SpecPath = ()) -> Iterator[Diagnostic]:
    """Yield a finding for each value that is of a type of TOML, but that no TOML text can hold."""
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(key, str):
                yield from _unwritable_text(key, (*path, key), "a key")
                yield from unwritable(value, (*path, key))
            else:
                message = f"a key of `{dotted(path)}` is no text"
                yield error("T203", message, path, label=f"holds the key {key!r}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from unwritable(value, (*path, index))
    elif type(data) is str:
        yield from _unwritable_text(data, path, f"`{dotted(path)}`")
    elif type(data) is int and not -(1 << 63) <= data < 1 << 63:
        yield error("P108", f"`{dotted(path)}` does not fit into 64 bits", path)
    elif type(data) is float and not math.isfinite(data):
        yield error("P109", f"`{dotted(path)}` is {data}, which is no finite number", path)


def _unwritable_text(text: str, path: SpecPath, name: str) -> Iterator[Diagnostic]:
    if "\0" in text:
        yield error("P111", f"{name} holds a NUL character", path)
    elif not _is_unicode(text):
        yield error("P102", f"{name} holds half of a surrogate pair", path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_too_deep(data: Any, levels: int) -> bool:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return levels == 0 or any(_is_too_deep(item, levels - 1) for item in inner)


def _writable(data: Any) -> Any:
    """Return data that TOML can hold, to be looked at only: what it cannot is shown as Python shows it."""
    if isinstance(data, dict):
        return {_writable_text(str(key)): _writable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        # A list of tables is written with headers, below which nothing else can stand.
        is_mixed = len({isinstance(item, dict) for item in data}) > 1
        return [_writable_text(repr(item)) if is_mixed else _writable(item) for item in data]
    if type(data) in (str, int, float, bool) and not any(unwritable(data)):
        return data
    return _writable_text(data if isinstance(data, str) else repr(data))


def _writable_text(text: str) -> str:
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


class _DoubleKeyError(ValueError):
    """A name that stands twice in an object of JSON."""


def read_json(text: str, name: str) -> dict[str, Any]:
    """Return the object in a JSON text, without its nulls.

    Raises:
        DocumentError: the text is not JSON, or no object.
    """
    try:
        data = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
    except json.JSONDecodeError as fault:
        message = f"the text is not JSON: {fault.msg[:1].lower()}{fault.msg[1:]}"
        span = (fault.pos, fault.pos + 1)
        raise DocumentError(name, text, [error("P150", message, offsets=span)]) from None
    except _DoubleKeyError as fault:
        message = f"`{fault}` is defined twice"
        raise DocumentError(name, text, [error("P104", message)]) from None
    except (ValueError, RecursionError) as fault:
        raise DocumentError(name, text, [error("P150", f"the text is not JSON: {fault}")]) from None
    if not isinstance(data, dict):
        raise DocumentError(name, text, [error("P150", "the JSON is no object")])
    return data


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DoubleKeyError(key)
        found[key] = value
    return {key: value for key, value in found.items() if value is not None}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"`{constant}` is no number of JSON")
