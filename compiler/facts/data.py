"""Facts about the data of a source: its files, and what is in them as far as it was looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

import attrs
from attrs import frozen

from ..spec import CatalogSource, Source
from .catalog import CatalogEntry, read_entry
from .columns import Columns
from .files import read_json
from .heads import DamagedError, is_data_file
from .look import BadRow, Looked, Reading, look
from .patterns import fitting_files
from .sample_kinds import FileSource, SampleKind, kind_of_rows

DataState = Literal[
    "ok", "missing", "folder", "glob", "unreadable", "unknown-kind", "impossible", "elsewhere"
]
"""`glob`: a pattern that fits some files; `elsewhere`: on a hub, behind a URL, or in a catalog that cannot be read."""
MOST_FILES = 10_000
WHOLE_BYTES = 8 * 2**20
"""Bytes of a source that are looked at, after decompression; of the rest the rows are counted where that is cheap."""
COUNT_BYTES = 2**28
MARKS = "*?["
"""What makes a name a pattern of names."""


@frozen
class DataFacts:
    """What is known about one source."""

    path: Path
    state: DataState
    num_rows: int | None = None
    """Rows the run will see (after `limit`), or None when they cannot be counted here."""
    num_bytes: int = 0
    sha256: str | None = None
    bad_row: BadRow | None = None
    problem: str = ""
    columns: Columns | None = None
    """What the first rows hold; None where that is not known here."""
    files: tuple[str, ...] = ()
    """Names of the data files in a folder, or that fit a pattern."""
    entry: CatalogEntry | None = None
    """What the catalog says, for a source that names one."""
    num_checked: int = 0
    """Rows that were checked."""
    unchecked: bool = False
    """Whether further rows count, which only the run looks at."""
    unread: str = ""
    """Why nothing was looked at, where the files are of a kind that could be."""
    text_bytes: int | None = None
    """Bytes of text in the files, decompressed; None where that is not known."""


def is_elsewhere(source: FileSource) -> bool:
    """Tell whether a source is behind a URL or on a hub: `tunec check` never asks the network."""
    return source.hub is not None or "://" in source.path


def read_data(
    base: Path, source: Source, wanted: SampleKind | None = None, media_dir: Path | None = None
) -> DataFacts:
    """Return the facts of one source, read for an objective that wants samples of a kind.

    Media are looked for in `media_dir`, by default beside the rows.
    """
    if isinstance(source, CatalogSource):
        return _read_catalog(base, source, wanted, media_dir)
    if is_elsewhere(source):
        return DataFacts(Path(source.path), "elsewhere")
    path = base / source.path
    try:
        state, files = named_files(base, source.path, source.split)
        if state not in ("ok", "folder", "glob"):
            problem = "it is not a regular file" if state == "unreadable" else ""
            return DataFacts(path, state, problem=problem)
        names = () if state == "ok" else tuple(file.name for file in files)
        size = sum(file.stat().st_size for file in files)
        found = DataFacts(path, state, num_bytes=size, files=names)
        if not files or len({file.suffix for file in files}) > 1:
            return found
        kind = kind_of_rows(source, wanted)
        looked = look(files, Reading(source, kind, media_dir, WHOLE_BYTES, COUNT_BYTES))
        return _with_rows(found, looked)
    except (OSError, DamagedError) as fault:
        problem = getattr(fault, "strerror", None) or str(fault)
        return DataFacts(path, "unreadable", problem=problem)
    except ValueError:
        return DataFacts(path, "impossible")


def _with_rows(found: DataFacts, looked: Looked) -> DataFacts:
    return attrs.evolve(
        found,
        num_rows=looked.num_rows,
        sha256=looked.sha256,
        bad_row=looked.bad_row,
        columns=looked.columns,
        num_checked=looked.num_checked,
        unchecked=not looked.whole and not looked.unread and looked.bad_row is None,
        unread=looked.unread,
        text_bytes=looked.text_bytes,
    )


def _read_catalog(
    base: Path, source: CatalogSource, wanted: SampleKind | None, media_dir: Path | None
) -> DataFacts:
    entry = read_entry(base, source)
    catalog = base / source.catalog
    if entry.source is None:
        return DataFacts(catalog, "elsewhere", entry=entry)
    found = read_data(catalog.parent, entry.source, wanted, media_dir)
    return attrs.evolve(found, entry=entry)


def named_files(base: Path, named: str, split: str) -> tuple[DataState, list[Path]]:
    """Return what a path relative to `base` is, and the files it names in the order in which they are read.

    Raises:
        OSError: a folder cannot be read.
        DamagedError: a saved data set has no such split, or files of it are missing.
    """
    path = base / named
    if path.is_dir():
        saved = _saved_files(path, split)
        return "folder", _data_files(path.iterdir()) if saved is None else saved
    if path.exists():
        if not path.is_file():
            return "unreadable", []
        return ("ok", [path]) if is_data_file(path) else ("unknown-kind", [])
    if not any(mark in named for mark in MARKS):
        return "missing", []
    is_whole = os.path.isabs(named)
    root, pattern = (Path(path.anchor), named.lstrip("/\\")) if is_whole else (base, named)
    found = _data_files(islice(fitting_files(root, pattern), MOST_FILES))
    return ("glob", found) if found else ("missing", [])


def _data_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if is_data_file(path) and path.is_file())


def _saved_files(folder: Path, split: str) -> list[Path] | None:
    """Return the files of a folder that `datasets` saved, which says itself what they are; None for any other."""
    splits = read_json(folder / "dataset_dict.json")
    if splits is not None:
        names = splits.get("splits")
        if isinstance(names, list) and split not in names:
            raise DamagedError(f"there is no split `{split}`, it has {', '.join(map(str, names))}")
        folder = folder / Path(split).name
    state = read_json(folder / "state.json")
    listed = state.get("_data_files") if state is not None else None
    if not isinstance(listed, list):
        return None
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    files = [folder / Path(name).name for name in names if isinstance(name, str)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DamagedError(f"`{missing.name}`, which it is said to hold, is missing")
    return files
