"""The kinds that programs are written for today; rule N901 keeps all others from getting here."""

from __future__ import annotations

from typing import TypeVar

from ..spec import AlpacaSource, MessagesSource, Source

T = TypeVar("T")

WrittenSource = AlpacaSource | MessagesSource
"""The sources that the runtime reads."""


def only(value: object, kind: type[T]) -> T:
    """Return `value`, which is of that kind.

    Raises:
        TypeError: It is not: the spec was planned although it has errors.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where only {kind.__name__} is available")
    return value


def written(source: Source) -> WrittenSource:
    """Return a source of a kind that the runtime reads.

    Raises:
        TypeError: It is of another kind: the spec was planned although it has errors.
    """
    if not isinstance(source, WrittenSource):
        raise TypeError(f"{type(source).__name__} is not available")
    return source
