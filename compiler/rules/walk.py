"""Walking a spec: every value with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..diagnostics import SpecPath


def leaves(value: Any, path: SpecPath = ()) -> Iterator[tuple[SpecPath, Any]]:
    """Yield (path, value) for every number, text, boolean and None below `value`."""
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
