"""A place in the data of a spec: its path, its type, and what may stand there instead."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from .diagnostics import SpecPath
from .field_types import fields_of, is_required, placeholder

REMOVE = object()
"""Instead of a value: leave the key out."""


@frozen
class Node:
    """A place in the data with its type, and what may stand there instead."""

    path: SpecPath
    type: Any
    repair: Any = REMOVE

    def field(self, cls: type, name: str) -> Node:
        """Return the place of a field of the table here."""
        type_ = fields_of(cls)[name].type
        repair = placeholder(type_) if is_required(cls, name) else REMOVE
        return Node((*self.path, name), type_, repair)

    def item(self, index: str | int, type_: Any) -> Node:
        """Return the place of an element of the list or mapping here."""
        return Node((*self.path, index), type_, placeholder(type_))


@frozen
class Table:
    """A table of the data with the class it is structured as."""

    node: Node
    cls: type
    data: dict[str, Any]

    @property
    def path(self) -> SpecPath:
        """The path of the table."""
        return self.node.path

    def absent(self) -> list[str]:
        """Return the keys that could be added."""
        return [name for name in fields_of(self.cls) if name not in self.data]
