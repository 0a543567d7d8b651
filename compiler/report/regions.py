"""Places of findings in numbers, for programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from ..diagnostics import Diagnostic, Label, Place
from ..scanner import Span
from .sources import Documents, Spot, is_flag, main_document, own_spot, sources_of, spot_of


@frozen
class Region:
    """Where a finding or a label stands; lines and columns from 1, ends exclusive, None where unknown."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


def region_of(item: Diagnostic | Label, documents: Documents, source: str = "") -> Region:
    """Return the place of a finding, or of one of its labels; `source` is then that of the finding."""
    sources = sources_of(documents)
    if isinstance(item, Diagnostic) and item.place:
        return Region(**place_numbers(item.place))
    spot = (
        spot_of(sources, item.path, item.offsets, name=source)
        if isinstance(item, Label)
        else own_spot(item, sources)
    )
    # A flag of the command line is no file that another tool could open.
    return Region() if spot is None or is_flag(spot.source) else Region(**spot_numbers(spot))


def fix_regions(item: Diagnostic, documents: Documents) -> list[tuple[Region, str]]:
    """Return what `--fix` would do about a finding: places in the spec's own file, and the text for each."""
    main = main_document(documents)
    if main is None or not fixable([item], documents):
        return []
    from ..edits import edits_of  # few findings have a fix

    assert item.fix is not None
    edits = edits_of(item.fix, main)
    spots = [(Spot(main, Span(edit.start, edit.end)), edit.text) for edit in edits]
    return [(Region(**spot_numbers(spot)), text) for spot, text in spots]


def fixable(diagnostics: Iterable[Diagnostic], documents: Documents) -> list[Diagnostic]:
    """Return the findings with a fix about values that stand in the spec's own file."""
    main, sources = main_document(documents), sources_of(documents)
    with_fix = (item for item in diagnostics if item.fix is not None)
    own = ((item, own_spot(item, sources)) for item in with_fix)
    return [item for item, spot in own if spot is not None and spot.source is main]


def file_name(path: Path) -> str:
    """Return a file as a person would name it: from the working directory where it lies below that."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def place_numbers(place: Place) -> dict[str, Any]:
    line, column = place.line or None, place.column or None
    return {
        "file": file_name(place.file),
        "line": line,
        "column": column,
        "end_line": None,
        "end_column": None,
    }


def spot_numbers(spot: Spot | None) -> dict[str, Any]:
    names = ("file", "line", "column", "end_line", "end_column")
    if spot is None:
        return dict.fromkeys(names)
    return dict(zip(names, (spot.source.name, *spot.start, *spot.end), strict=True))
