"""Files that fit a pattern, found without walking a whole disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

MOST_ENTRIES = 20_000
"""Entries of folders that are looked at for one pattern."""


def fitting_files(base: Path, pattern: str) -> Iterator[Path]:
    """Yield what fits a relative pattern, as `Path.glob` does, until too many entries were looked at.

    `**` stands for any number of folders; links to folders are not followed by it.
    """
    left = [MOST_ENTRIES]
    yield from _fitting(base, Path(pattern).parts, left)


def _fitting(folder: Path, parts: tuple[str, ...], left: list[int]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _fitting(folder, rest or ("*",), left)
        for entry in _entries(folder, left):
            if entry.is_dir(follow_symlinks=False):
                yield from _fitting(folder / entry.name, parts, left)
    elif any(mark in part for mark in "*?["):
        for entry in _entries(folder, left):
            if fnmatchcase(entry.name, part) and (not rest or entry.is_dir()):
                yield from _fitting(folder / entry.name, rest, left)
    else:
        yield from _fitting(folder / part, rest, left)


def _entries(folder: Path, left: list[int]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                left[0] -= 1
                if left[0] < 0:
                    return
                yield entry
    except OSError:
        return
