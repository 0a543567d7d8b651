"""Who uses prepared data: a line of JSON for each run, beside the data, for `tunec cache list`."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

USERS = "users.jsonl"
"""File of a prepared folder: absolute paths of run folders, as JSON texts. Its time is that of the last use."""


def note_use(folder: Path, run_dir: Path) -> None:
    """Remember that a run uses the prepared data in `folder`, now; a cache that is read-only stays as it is."""
    line = json.dumps(str(run_dir.absolute())) + "\n"
    path = folder / USERS
    with suppress(OSError):
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        if line not in known.splitlines(keepends=True):
            # Two runs may write at once: short appends do not mix.
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        os.utime(path)
