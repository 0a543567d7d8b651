"""Findings as annotations of GitHub Actions: one workflow command a line."""

from __future__ import annotations

from collections.abc import Iterable

from .diagnostics import Diagnostic, Level
from .report import Documents, Region, ordered, region_of, shortened, visible_lines

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def render_github(reports: Iterable[tuple[Iterable[Diagnostic], Documents]]) -> str:
    """Return the findings about several specs, each with its documents, as workflow commands.

    Workflow commands of GitHub Actions, "Setting an error message".
    """
    lines = [
        _annotation(item, region_of(item, documents))
        for diagnostics, documents in reports
        for item in ordered(diagnostics, documents)
    ]
    return "".join(f"{line}\n" for line in lines)


def _annotation(item: Diagnostic, region: Region) -> str:
    properties = {**_place(region), "title": f"tunec {item.code}"}
    named = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{_COMMANDS[item.level]} {named}::{_data(_text(item))}"


def _place(region: Region) -> dict[str, str | int]:
    """Return file and lines; GitHub takes columns only for a place within one line, and ends inclusive."""
    properties: dict[str, str | int] = {}
    if region.file is not None:
        properties["file"] = "\n".join(visible_lines(region.file))
    if region.line is not None:
        properties["line"] = region.line
        properties["endLine"] = region.end_line or region.line
    if region.column is not None and region.end_line in (None, region.line):
        properties["col"] = region.column
        properties["endColumn"] = max(region.column, (region.end_column or 0) - 1)
    return properties


def _text(item: Diagnostic) -> str:
    remarks = [f"note: {note}" for note in item.notes] + [f"help: {help_}" for help_ in item.helps]
    return "\n".join(visible_lines(shortened("\n".join([item.message, *remarks]))))


def _data(text: str) -> str:
    """Escape a message, so that it ends with its line and no second command can begin."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property, so that neither another property nor the message can begin inside it."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
