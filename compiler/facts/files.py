"""Reading files of others: regular ones of a bounded size, so that nothing can hold the compiler up or fill its memory."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from ..files import UnreadableError, read_regular_file

MAX_BYTES = 48 * 2**20
"""The largest such files are tokenizers, of some 35 MB."""
MAX_MEMORY = 512 * 2**20
"""What the values of a JSON text may take, by a guess that is never too low."""


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of a file.

    Raises:
        OSError: it cannot be read, is a folder, pipe or device, or larger than `limit` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        content = read_regular_file(path, limit)
    except UnreadableError as refusal:
        missing = refusal.code == "P113"
        words = "larger than allowed" if refusal.code == "P107" else str(refusal)
        kind = FileNotFoundError if missing else OSError
        raise kind(errno.ENOENT if missing else errno.EINVAL, words, str(path)) from None
    return content.decode().replace("\r\n", "\n").replace("\r", "\n")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes; never waits for the other end of a pipe.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    if not os.path.isfile(file.fileno()):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, or its values would take too much memory.
        RecursionError: it is nested too deeply.
    """
    if text.count("{") * 240 + text.count("[") * 96 + text.count(",") * 160 > MAX_MEMORY:
        raise ValueError("too many values")
    return json.loads(text)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None for a file that is missing, unreadable or something else."""
    try:
        value = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
