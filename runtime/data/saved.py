"""Folders that `datasets` saved (`save_to_disk`): a data set, or several splits with a folder each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError

STATE = "state.json"
"""File of a saved data set: which files its rows are in, in their order."""
SPLITS = "dataset_dict.json"
"""File of a folder with several splits."""


def saved_files(folder: Path, split: str) -> list[Path] | None:
    """Return the files of a saved data set, in the order of its rows; None where the folder is none.

    Raises:
        UserError: (DATA) it has no such split, or is damaged.
    """
    if (folder / SPLITS).is_file():
        folder = _of_split(folder, split)
    if not (folder / STATE).is_file():
        return None
    try:
        names = [entry["filename"] for entry in _json(folder / STATE)["_data_files"]]
        files = [folder / Path(name).name for name in names]
    except (KeyError, TypeError):
        raise _damaged(folder / STATE) from None
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such data file", code=ExitCode.DATA)
    if not files:
        raise UserError(f"{folder}: the data set is empty", code=ExitCode.DATA)
    return files


def _of_split(folder: Path, split: str) -> Path:
    found = _json(folder / SPLITS)
    splits = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(splits, list):
        raise _damaged(folder / SPLITS)
    if split not in splits:
        raise UserError(
            f"{folder}: there is no split `{split}`",
            help=f"it has {', '.join(f'`{name}`' for name in splits)}",
            code=ExitCode.DATA,
        )
    return folder / split


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    except OSError as fault:
        raise UserError(f"{path}: {fault.strerror}", code=ExitCode.DATA) from None


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: the file is damaged", code=ExitCode.DATA)
