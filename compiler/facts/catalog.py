"""Catalogs: TOML files that declare data sets, a table an entry with the keys of a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from attrs import frozen

from ..document import DocumentError, parse_document
from ..field_types import arms_of, choices_of, fields_of, fits, is_list, is_literal, is_required
from ..spec import CatalogSource, Source
from .files import read_text
from .sample_kinds import FileSource

FORMATS: dict[str, Any] = {
    get_args(fields_of(arm)["format"].type)[0]: arm
    for arm in arms_of(Source)
    if arm is not CatalogSource
}


@frozen
class CatalogEntry:
    """What a catalog says about one name."""

    source: FileSource | None = None
    problem: str = ""
    """Why there is no source; the catalog or the entry is named in it."""
    names: tuple[str, ...] = ()
    """The entries there are, where this one is not."""


def read_entry(base: Path, source: CatalogSource) -> CatalogEntry:
    """Return the entry that `source` names."""
    shown = f"`{source.catalog}`"
    try:
        tables = _parse(read_text(base / source.catalog))
    except FileNotFoundError:
        return CatalogEntry(problem=f"there is no catalog {shown}")
    except OSError as fault:
        return CatalogEntry(problem=f"the catalog {shown} cannot be read: {fault.strerror}")
    except (ValueError, RecursionError) as fault:
        return CatalogEntry(problem=f"the catalog {shown} is no TOML: {_first_line(fault)}")
    if source.entry not in tables:
        problem = f"the catalog {shown} has no entry `{source.entry}`"
        return CatalogEntry(problem=problem, names=tuple(tables))
    given = {name: getattr(source, name) for name in ("limit", "weight")}
    changes = {name: value for name, value in given.items() if value is not None}
    found = _source(tables[source.entry], changes)
    if isinstance(found, str):
        return CatalogEntry(problem=f"entry `{source.entry}` of {shown}: {found}")
    return CatalogEntry(found)


def _parse(text: str) -> dict[str, Any]:
    try:
        return parse_document(text, "catalog").data
    except DocumentError as fault:
        raise ValueError(fault.diagnostics[0].message) from None


def _first_line(fault: Exception) -> str:
    text = (str(fault).splitlines() or ["nested too deeply"])[0]
    return text[:1].lower() + text[1:]


def _source(entry: Any, changes: dict[str, Any]) -> FileSource | str:
    """Return an entry as a source, with the changes the spec makes, or what is wrong with it."""
    if not isinstance(entry, dict):
        return "it is no table"
    named = entry.get("format")
    cls = FORMATS.get(named) if isinstance(named, str) else None
    if cls is None:
        return f"`format` must be one of {', '.join(f'`{name}`' for name in FORMATS)}"
    fields = fields_of(cls)
    unknown = [key for key in entry if key not in fields]
    if unknown:
        return f"unknown key `{unknown[0]}`"
    missing = [name for name in fields if is_required(cls, name) and name not in entry]
    if missing:
        return f"`{missing[0]}` is missing"
    wrong = [key for key, value in entry.items() if not _is_of(value, fields[key].type)]
    if wrong:
        return f"`{wrong[0]}` has the wrong type"
    odd = [name for name in ("limit", "sample", "weight") if not _is_above_zero(entry.get(name, 1))]
    if odd:
        return f"`{odd[0]}` is {entry[odd[0]]}, expected a number above 0"
    empty = [name for name, value in entry.items() if name == "path" and not value]
    if empty:
        return f"`{empty[0]}` is empty"
    made: FileSource = cls(**{**entry, **changes})
    return made


def _is_above_zero(value: float) -> bool:
    return value > 0


def _is_of(value: Any, type_: Any) -> bool:
    if any(is_literal(arm) for arm in arms_of(type_)):
        return value in choices_of(type_)
    return any(fits(value, arm) and not is_list(arm) for arm in arms_of(type_))
