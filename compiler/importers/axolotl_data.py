"""The data sets of an Axolotl configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics import SpecPath
from ..field_types import fields_of
from .convert import UnfitError, as_list, clean, is_nothing, same
from .homes.axolotl import COLUMNS, TYPES
from .llamafactory.dataset_info import SOURCES
from .placing import Import

LOCAL = (".json", ".jsonl", ".parquet", ".csv", ".arrow", ".txt")


def items_of(work: Import, key: str) -> list[Any]:
    """Return what stands in a list, or alone."""
    if not work.settings.has(key):
        return []
    raw = work.settings.raw(key)
    try:
        return [raw] if isinstance(raw, dict) else as_list(raw)
    except UnfitError as unfit:
        work.lose(key, str(unfit))
        return []


def read_datasets(work: Import) -> None:
    """Write the training and evaluation sources."""
    pairs = (
        ("pretraining_dataset", "sources"),
        ("datasets", "sources"),
        ("test_datasets", "eval_sources"),
    )
    for key, field in pairs:
        for item in items_of(work, key):
            number = len(list(work.draft.items(("data", field))))
            entry = item if isinstance(item, dict) else {"path": item}
            _source(work, ("data", field, number), key, entry)
    if not list(work.draft.items(("data", "sources"))):
        work.draft.put(("data", "sources"), [], "to fill in before training: nothing names data")
        work.ask("datasets", "no data are named; write a table `[[data.sources]]`")


def _source(work: Import, path: SpecPath, key: str, entry: dict[str, Any]) -> None:
    kind = _kind(work, key, entry)
    work.draft.put((*path, "format"), kind, f"{key}.type")
    for name, value in _located(entry):
        work.draft.put((*path, name), value, key)
    columns = entry.get("type") if isinstance(entry.get("type"), dict) else {}
    mapping = entry.get("message_property_mappings")
    inner = mapping if isinstance(mapping, dict) else {}
    named = {f"message_field_{name}": value for name, value in inner.items()}
    if columns and is_nothing(columns.get("field_input")):
        work.draft.put((*path, "input"), "", "no field_input: none is read")
    for name, raw in {**named, **entry, **(columns or {})}.items():
        _column(work, path, key, name, raw, kind)


def _kind(work: Import, key: str, entry: dict[str, Any]) -> str:
    if key == "pretraining_dataset":
        return "text"
    raw = entry.get("type", "alpaca")
    if isinstance(raw, dict):
        return "alpaca"
    word = str(raw).strip()
    known = TYPES.get(word) or TYPES.get(word.partition(":")[0])
    if known is None:
        work.lose(f"{key}.type", f"`{clean(word)[:60]}` is no format here; messages is written")
    return known or "messages"


def _located(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where the rows are: a file, or an id of the hub."""
    files = entry.get("data_files")
    name = files[0] if isinstance(files, list) and files else files
    place = name if isinstance(name, str) else entry.get("path")
    text = clean(str(place)) if isinstance(place, str | int | float) and place != "" else "FILL-IN"
    yield "path", text
    is_file = text.startswith((".", "/")) or text.lower().endswith(LOCAL)
    if not is_file and entry.get("ds_type") is None and text != "FILL-IN":
        yield "hub", "huggingface"


def _column(work: Import, path: SpecPath, key: str, name: str, raw: Any, kind: str) -> None:
    field = COLUMNS.get(name)
    if name in (
        "path",
        "type",
        "ds_type",
        "message_property_mappings",
        "data_files",
        "trust_remote_code",
    ):
        return
    if is_nothing(raw):
        return
    if field is None or field not in fields_of(SOURCES[kind]):
        work.lose(f"{key}.{name}", "a source of this format has no such key")
        return
    try:
        work.draft.put(
            (*path, field), same(raw, fields_of(SOURCES[kind])[field].type), f"{key}.{name}"
        )
    except UnfitError as unfit:
        work.lose(f"{key}.{name}", str(unfit))
