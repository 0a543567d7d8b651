"""Reading small files of others: only regular ones, so that no pipe or device can hold the compiler up."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        OSError: it cannot be read, or is a folder, pipe or device.
        UnicodeDecodeError: it is not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None for a file that is missing, unreadable or something else."""
    try:
        value = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
