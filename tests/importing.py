"""Help for tests of importers: settings to TOML, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli

from tunec.compiler.importers.draft import Remark
from tunec.compiler.importers.importer import Imported, import_files
from tunec.compiler.importers.reading import Loaded
from tunec.compiler.structure import structure

DATASETS = {"one": {"file_name": "one.json"}, "two": {"file_name": "two.json"}}
TOKENS = {"<x>": "a mark"}


def loaded(name: str, data: Any) -> Loaded:
    """Make a file that needs no disk."""
    return Loaded(name, Path(name), data, "")


def convert(settings: dict[str, Any], *files: Loaded, trainer: str = "llamafactory") -> Imported:
    """Import settings, with a registry of two data sets at hand."""
    near = (loaded("dataset_info.json", DATASETS), *files)
    return import_files([loaded("run.yaml", settings), *near], trainer)


def read(imported: Imported) -> dict[str, Any]:
    """Return the data of an import's TOML, which must structure without an error."""
    data = tomli.loads(imported.text)
    assert [found.message for found in structure(data).diagnostics] == []
    return data


def at(data: Any, path: str) -> Any:
    """Return the value at a dotted path."""
    for part in path.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def about(imported: Imported, key: str) -> list[Remark]:
    """Return what the report says about a key."""
    return [remark for remark in imported.remarks if remark.key == key]
