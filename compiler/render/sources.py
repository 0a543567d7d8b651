"""Data sources as calls: an entry of a catalog is shown as the source it declares."""

from __future__ import annotations

from pathlib import PurePath

from ..facts.data import is_elsewhere
from ..field_types import class_of, default_of, fields_of
from ..plan.honoured import WrittenSource
from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from .calls import Arg, Call, Places
from .literals import python_literal

CLASSES: dict[type, str] = {
    AlpacaSource: "Alpaca",
    MessagesSource: "Messages",
    ShareGptSource: "ShareGpt",
    TextSource: "Text",
    PreferenceSource: "Preference",
    PromptSource: "Prompts",
}
"""The class of the runtime that reads each format. Its fields have the names and defaults of the spec's."""


def source_call(source: WrittenSource, places: Places) -> Call:
    """Return the call for a source, with the settings that are not left at their defaults."""
    elsewhere = is_elsewhere(source)
    args = [
        Arg("path", python_literal(source.path) if elsewhere else places.text(source.path)),
        Arg("name", python_literal(source.name or _name(source.path))),
    ]
    for name, field in fields_of(class_of(source)).items():
        value = getattr(source, name)
        if name not in ("format", "path", "name") and value != default_of(field):
            args.append(Arg(name, python_literal(float(value) if name == "weight" else value)))
    return Call(f"data.{CLASSES[type(source)]}", tuple(args))


def _name(path: str) -> str:
    """Return the name of a file without its kind; that of the folder where it is a pattern."""
    if path.startswith(("http://", "https://")):
        path = path.split("?", 1)[0]
    parts = [part for part in PurePath(path).parts if not any(mark in part for mark in "*?[")]
    last = parts[-1] if parts else "data"
    is_file = bool(parts) and parts[-1] == PurePath(path).name
    return (last.split(".", 1)[0] or last) if is_file else last
