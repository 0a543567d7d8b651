"""What the columns of the first rows hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from ..facts.rows import kind_of

EXAMPLE = 48
"""Characters of an example."""


@frozen
class Column:
    """One column of the rows that were looked at."""

    name: str
    kinds: tuple[tuple[str, int], ...]
    """What its values are, and in how many rows, the most frequent first."""
    example: str
    """JSON of the first value that is not null, cut and in ASCII where it could do harm."""

    @property
    def count(self) -> int:
        """Rows that have the column."""
        return sum(count for _, count in self.kinds)


def columns_of(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns in the order of their first appearance."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [_column(name, [row[name] for row in rows if name in row]) for name in names]


def _column(name: str, values: Sequence[Any]) -> Column:
    kinds = Counter(map(describe, values)).most_common()
    first = next((value for value in values if value is not None), None)
    return Column(name, tuple(kinds), _example(first))


def describe(value: Any) -> str:
    """Return what a value is, in a few words."""
    if isinstance(value, list) and value:
        inner = dict.fromkeys(map(_inner, value))
        return f"list of {next(iter(inner))}" if len(inner) == 1 else "list of several kinds"
    if isinstance(value, list):
        return "empty list"
    return kind_of(value).removeprefix("an ").removeprefix("a ")


def _inner(value: Any) -> str:
    plural = {"an object": "objects", "text": "texts", "a number": "numbers", "a list": "lists"}
    return plural.get(kind_of(value), kind_of(value))


def _example(value: Any) -> str:
    text = json.dumps(_cut(value), ensure_ascii=False)
    return text if len(text) <= EXAMPLE else text[: EXAMPLE - 3] + "..."


def _cut(value: Any) -> Any:
    """Return a value no larger than an example needs: a row may hold a book."""
    if isinstance(value, str):
        return value[: 2 * EXAMPLE]
    if isinstance(value, list):
        return [_cut(item) for item in value[:3]]
    if isinstance(value, dict):
        return {key: _cut(value[key]) for key in [*value][:5]}
    return value
