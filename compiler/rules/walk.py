"""Walking a spec: every table and every value with its path and its key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import attrs

from ..diagnostics import SpecPath
from ..field_types import class_of, tag_of


def leaves(value: Any, path: SpecPath = ()) -> Iterator[tuple[SpecPath, Any]]:
    """Yield (path, value) for every number, text, boolean and None below `value`."""
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


@lru_cache(maxsize=2)
def texts(value: Any) -> tuple[tuple[SpecPath, str], ...]:
    """Return (path, text) for every text below `value`; several rules look at all of them."""
    return tuple((path, leaf) for path, leaf in leaves(value) if isinstance(leaf, str))


def tables(value: Any, path: SpecPath = (), name: str = "") -> Iterator[tuple[SpecPath, str, Any]]:
    """Yield (path, name, table) for every table below `value` and itself, outer ones first.

    The name is the path in words, with the kind of each table that comes in kinds and `*` for an index:
    `method[lora].init[pissa]`, `data.sources.*[alpaca]`.
    """
    if attrs.has(type(value)):
        cls = class_of(value)
        tag = tag_of(cls)
        here = f"{name}[{tag[1]}]" if tag is not None else name
        yield path, here, value
        for field in attrs.fields(cls):
            inner = f"{here}.{field.name}" if here else field.name
            yield from tables(getattr(value, field.name), (*path, field.name), inner)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from tables(item, (*path, index), f"{name}.*")


def kindless(name: str) -> str:
    """Return a name without its kinds: `method[lora].rank` becomes `method.rank`."""
    while "[" in name:
        before, _, rest = name.partition("[")
        name = before + rest.partition("]")[2]
    return name
