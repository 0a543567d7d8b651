"""A spec put together from several texts: every value with the document it stands in."""

from __future__ import annotations

from typing import Any, Literal

from attrs import define, field, frozen

from .diagnostics import Diagnostic, SpecPath
from .document import Document, DocumentError
from .scanner import Span

Kind = Literal["value", "table", "list", "items"]


@define
class Node:
    """A value and the document it stands in; `items` are single elements meant for a list elsewhere."""

    kind: Kind
    document: Document
    value: Any = None
    children: dict[Any, Node] = field(factory=dict)

    def data(self) -> Any:
        """Return the plain data."""
        if self.kind == "table":
            return {key: child.data() for key, child in self.children.items()}
        if self.kind == "list":
            return [child.data() for child in self.children.values()]
        return self.value


def plant(data: Any, document: Document) -> Node:
    """Return plain data as nodes of one document."""
    if isinstance(data, dict):
        children = {key: plant(value, document) for key, value in data.items()}
        return Node("table", document, children=children)
    if isinstance(data, list):
        return Node(
            "list",
            document,
            children={index: plant(value, document) for index, value in enumerate(data)},
        )
    return Node("value", document, data)


@frozen
class Composition:
    """A spec and the documents it is made of: the main file first, then its bases, then the flags."""

    documents: tuple[Document | DocumentError, ...]
    root: Node | None = None
    data: dict[str, Any] = field(factory=dict, repr=False)
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def name(self) -> str:
        """The name of the main file."""
        return self.documents[0].name

    @property
    def text(self) -> str:
        """The text of the main file."""
        return self.documents[0].text

    def place(self, path: SpecPath, on_key: bool = False) -> tuple[Document | DocumentError, Span]:
        """Return where a value stands, else the nearest table above it; the main file goes before its bases."""
        node = self.root
        if node is None:
            return self.documents[0], Span(0, 0)
        for part in path:
            child = node.children.get(part)
            if child is None:
                break
            node = child
        return node.document, node.document.locate(path, on_key)


class CompositionError(Exception):
    """The texts do not make a spec; `diagnostics` say why, each in the text that it names as its source."""

    def __init__(self, source: Composition, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.source = source
        self.diagnostics = diagnostics
        super().__init__(f"{source.name}: " + "; ".join(found.message for found in diagnostics))
