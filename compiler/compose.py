"""A spec from several files and flags: `extends` is followed, `--set` laid over the result."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

from attrs import Factory, define, evolve

from .composition import Composition, CompositionError, Node, plant
from .diagnostics import Diagnostic, error
from .document import EXTENDS, Document, DocumentError, parse_document
from .files import MAX_BYTES, UnreadableError, read_regular_file
from .merge import merge
from .overrides import parse_setting
from .settle import settle
from .spec import Spec
from .toml_words import toml_value

MAX_LEVELS = 32


def compose(main: Document, settings: Sequence[str]) -> Composition:
    """Return a spec with its bases below it and the flags above it.

    Raises:
        CompositionError: a base or a flag cannot be used; holds every such fault.
    """
    reader = _Reader([main], size=len(main.text))
    root = reader.node_of(main)
    flags = reader.flags(settings)
    if root is not None and flags is not None:
        root = merge(root, flags, Spec)
        reader.faults += settle(root, Spec)
    if root is None or reader.faults:
        source = Composition(tuple(reader.documents))
        raise CompositionError(source, tuple(reader.faults))
    warnings = tuple(reader.warnings())
    return Composition(tuple(reader.documents), root, root.data(), warnings)


@define
class _Reader:
    """Reads the files of a spec, each once; collects what is wrong with any of them."""

    documents: list[Document | DocumentError]
    faults: list[Diagnostic] = Factory(list)
    nodes: dict[str, Node | None] = Factory(dict)
    """What each file comes to with its bases, by its real path; None where it comes to nothing."""
    open: list[str] = Factory(list)
    """Real paths of the files whose bases are being read."""
    size: int = 0

    def node_of(self, document: Document) -> Node | None:
        """Return a document laid over its bases."""
        real = os.path.realpath(document.path or Path())
        self.open.append(real)
        bases = [self._base(document, index, name) for index, name in self._entries(document)]
        self.open.pop()
        own = {key: value for key, value in document.data.items() if key != EXTENDS}
        layers = [node for node in bases if node is not None]
        self.nodes[real] = reduce(_laid, [*layers, plant(own, document)])
        return self.nodes[real]

    def flags(self, settings: Sequence[str]) -> Node | None:
        """Return all flags as one layer: together they can change a kind and set its keys."""
        layers: list[Node] = []
        for setting in settings:
            try:
                layers.append(parse_setting(setting))
                self.documents.append(layers[-1].document)
            except DocumentError as fault:
                self.documents.append(fault)
                self.faults += fault.diagnostics
        return reduce(_laid, layers) if layers else None

    def warnings(self) -> Iterator[Diagnostic]:
        """Yield the warnings about all texts."""
        for document in self.documents:
            if isinstance(document, Document):
                yield from (evolve(item, source=document.name) for item in document.warnings)

    def _entries(self, document: Document) -> list[tuple[int, str]]:
        value = document.data.get(EXTENDS, [])
        if isinstance(value, list) and all(type(name) is str for name in value):
            if len(value) <= MAX_LEVELS:
                return list(enumerate(value))
            message = f"`{EXTENDS}` names more than {MAX_LEVELS} files"
            self._refuse("P133", message, document, None)
            return []
        message = f"`{EXTENDS}` is no list of file names"
        help_ = (
            f"write `{EXTENDS} = [{toml_value(value if isinstance(value, str) else 'base.toml')}]`"
        )
        self._refuse("P130", message, document, None, help_)
        return []

    def _base(self, document: Document, index: int, name: str) -> Node | None:
        """Return what an entry of `extends` comes to."""
        path = (document.path or Path()).parent / name
        real = os.path.realpath(path)
        if real in self.nodes:
            return self.nodes[real]
        refusal = self._circle(real, name)
        if refusal is None:
            try:
                content = read_regular_file(path)
                if self.size + len(content) <= MAX_BYTES:
                    return self._parsed(content, path, real)
                refusal = "P134", "the files of the spec are larger than 1 MiB together"
            except UnreadableError as fault:
                refusal = "P131", f"the base `{name}` cannot be used: {fault}"
        self._refuse(*refusal, document, index)
        return None

    def _circle(self, real: str, name: str) -> tuple[str, str] | None:
        if real in self.open:
            return "P132", f"`{name}` extends itself"
        if len(self.open) > MAX_LEVELS:
            return "P133", f"`{EXTENDS}` leads through more than {MAX_LEVELS} levels"
        return None

    def _parsed(self, content: bytes, path: Path, real: str) -> Node | None:
        self.size += len(content)
        name = _display(path)
        try:
            document = parse_document(content, name, path)
        except DocumentError as fault:
            self.documents.append(fault)
            self.faults += [evolve(item, source=name) for item in fault.diagnostics]
            self.nodes[real] = None
            return None
        self.documents.append(document)
        return self.node_of(document)

    def _refuse(
        self, code: str, message: str, document: Document, index: int | None, help_: str = ""
    ) -> None:
        span = document.locate((EXTENDS,) if index is None else (EXTENDS, index))
        helps = (help_,) if help_ else ()
        offsets = (span.start, span.end)
        found = error(code, message, helps=helps, offsets=offsets)
        self.faults.append(evolve(found, source=document.name))


def _laid(base: Node, over: Node) -> Node:
    return merge(base, over, Spec)


def _display(path: Path) -> str:
    """Return a name without detours through `..`, unless a link makes it another file."""
    name, short = os.fspath(path), os.path.normpath(path)
    return short if os.path.realpath(short) == os.path.realpath(name) else name
