"""Columns with images, videos and sounds: the files they name, and the marks in the texts where these stand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .messages import Turn
from .rows import RowError, kind_of
from .sample_kinds import FileSource, TalkSource

MEDIA = {"images": "image", "videos": "video", "audios": "audio"}
"""Settings that name such columns, and the word in the marks."""
MOST_FILES = 200
"""Media files of a source that are looked for."""
HELP = "write `{}` where each {} stands"
START = "paths of media start from `media.dir`, by default the folder of the rows"


def has_media(source: FileSource) -> bool:
    """Tell whether a source names a column of media."""
    return isinstance(source, TalkSource) and any(getattr(source, name) for name in MEDIA)


def check_marks(
    source: TalkSource, row: dict[str, Any], turns: Sequence[Turn], sides: Sequence[Sequence[Turn]]
) -> None:
    """Raise `RowError` unless each text of a pair, or the only one, has as many marks as there are files."""
    for setting, word in MEDIA.items():
        column = getattr(source, setting)
        if column is None:
            continue
        count = len(_items(row.get(column), column, word))
        texts = [("the texts", [*turns, *(sides[0] if sides else ())])]
        if sides:
            texts.append((f"the texts with `{source.rejected}`", [*turns, *sides[1]]))
        for where, messages in texts:
            mark = f"<{word}>"
            found = sum(turn.content.count(mark) for turn in messages)
            if found != count:
                raise RowError(
                    f"`{column}` holds {_count(count, word)}, {where} hold {_count(found, f'`{mark}` mark')}",
                    HELP.format(mark, word),
                )


def missing_file(source: FileSource, row: dict[str, Any], folder: Path) -> RowError | None:
    """Return the fault of a row that names a file which is not in the folder; `row` was checked."""
    for setting, word in MEDIA.items():
        column = getattr(source, setting, None)
        for item in _items(row.get(column), column, word) if column is not None else ():
            for path in item if isinstance(item, list) else [item]:
                is_local = isinstance(path, str) and "://" not in path
                if is_local and not os.path.isfile(folder / path):
                    return RowError(f"there is no {word} `{path[:200]}`", START)
    return None


def _items(value: Any, column: str, word: str) -> list[Any]:
    """Return the files of a column: paths, objects with a path or bytes, and of videos lists of such, their frames."""
    if value is None or value == "" or value == []:
        return []
    listed = value if isinstance(value, list) else [value]
    if not isinstance(value, list | str) and not _is_file(value):
        raise RowError(f"`{column}` is {kind_of(value)}, expected a path or a list of paths")
    for number, item in enumerate(listed, start=1):
        frames = item if word == "video" and isinstance(item, list) and item else [item]
        bad = next((frame for frame in frames if not _is_file(frame)), item)
        if not all(map(_is_file, frames)):
            found = "empty" if bad == "" else kind_of(bad)
            raise RowError(f"{word} {number} of `{column}` is {found}, expected a path")
    return listed


def _is_file(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("path") or value.get("bytes"))
    return isinstance(value, str) and bool(value)


def _count(number: int, word: str) -> str:
    if word.endswith("`"):
        return f"{number} {word}"
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
