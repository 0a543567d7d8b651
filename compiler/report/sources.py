"""The texts that findings are about, and where in them a finding stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from attrs import frozen

from ..diagnostics import Diagnostic, Level, SpecPath
from ..document import Document
from ..scanner import Span, position


class Source(Protocol):
    """A named text: a `Document`, or a `DocumentError` for text that could not be parsed."""

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str: ...


@runtime_checkable
class Composed(Source, Protocol):
    """A spec made of several sources, which knows in which of them a value stands: a `Composition`."""

    @property
    def documents(self) -> Sequence[Source]: ...

    def place(self, path: SpecPath, on_key: bool = False) -> tuple[Source, Span]: ...


Documents = Mapping[str, Document] | Source
"""One source (perhaps composed of several), or several by name: a path is looked up in the first that has it."""


def main_document(documents: Documents) -> Document | None:
    """Return the spec's own file, if it could be parsed; bases and flags are others."""
    sources = sources_of(documents)[isinstance(documents, Composed) :]
    first = sources[0] if sources else None
    return first if isinstance(first, Document) else None


def ordered(diagnostics: Iterable[Diagnostic], documents: Documents) -> list[Diagnostic]:
    """Return the findings by place, each once."""
    return _sorted(diagnostics, sources_of(documents))


def sort_key(diagnostic: Diagnostic, documents: Documents) -> tuple[int, str, int, int, str, str]:
    """Return the order of findings: by file (those of the spec first), place, code and message."""
    return _sort_key(diagnostic, sources_of(documents))


@frozen
class Spot:
    """A span in a source."""

    source: Source
    span: Span

    @property
    def start(self) -> tuple[int, int]:
        return position(self.source.text, self.span.start)

    @property
    def end(self) -> tuple[int, int]:
        return position(self.source.text, self.span.end)


def sources_of(documents: Documents) -> tuple[Source, ...]:
    if isinstance(documents, Mapping):
        return tuple(documents.values())
    return (documents, *documents.documents) if isinstance(documents, Composed) else (documents,)


def spot_of(
    sources: Sequence[Source],
    path: SpecPath,
    offsets: tuple[int, int] | None,
    on_key: bool = False,
    name: str = "",
) -> Spot | None:
    """Return where a value stands. Offsets count in the source of that name, else in the first one."""
    if not sources:
        return None
    first, *others = sources
    if offsets is not None:
        named = (source for source in others if source.name == name)
        return Spot(
            next(named, others[0] if others and isinstance(first, Composed) else first),
            Span(*offsets),
        )
    if isinstance(first, Composed):
        return Spot(*first.place(path, on_key))
    documents = [source for source in sources if isinstance(source, Document)]
    if not documents:
        return Spot(sources[0], Span(0, 0))
    for end in range(len(path), 0, -1):
        for document in documents:
            if path[:end] in document.keys or path[:end] in document.values:
                return Spot(document, document.locate(path, on_key))
    return Spot(documents[0], Span(0, 0))


def own_spot(diagnostic: Diagnostic, sources: Sequence[Source]) -> Spot | None:
    if diagnostic.place is not None:
        return None
    return spot_of(
        sources, diagnostic.path, diagnostic.offsets, diagnostic.on_key, diagnostic.source
    )


def _sort_key(
    diagnostic: Diagnostic, sources: Sequence[Source]
) -> tuple[int, str, int, int, str, str]:
    tail = (diagnostic.code, diagnostic.message)
    place = diagnostic.place
    if place is not None:
        return (len(sources), str(place.file), place.line, place.column, *tail)
    spot = own_spot(diagnostic, sources)
    if spot is None:
        return (0, "", 0, 0, *tail)
    rank = next(i for i, source in enumerate(sources) if source is spot.source)
    return (rank, spot.source.name, spot.span.start, spot.span.end, *tail)


def _sorted(diagnostics: Iterable[Diagnostic], sources: Sequence[Source]) -> list[Diagnostic]:
    """Sort the findings and keep one of those that say the same about the same place."""
    by_key: dict[object, Diagnostic] = {}
    for found in diagnostics:
        by_key.setdefault(_sort_key(found, sources), found)
    return [by_key[key] for key in sorted(by_key)]  # type: ignore[type-var]


def count_of(diagnostics: Iterable[Diagnostic], level: Level) -> int:
    return sum(found.level is level for found in diagnostics)


def is_flag(source: Source) -> bool:
    """Tell whether a source is a flag of the command line, which has no lines to count."""
    return getattr(source, "is_flag", False)
