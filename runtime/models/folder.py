"""Model folders on disk: how they are named, where a new one is gathered."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ExitCode, UserError
from ..storage import staging_directory


def display(path: Path | str) -> str:
    """Return a path the way a person would write it; a hub id is left as it is."""
    return os.path.normpath(path) if isinstance(path, Path) else path


def open_staging(target: Path) -> Path:
    """Make the empty folder in which the files of `target` are gathered.

    Raises:
        UserError: (ENVIRONMENT) nothing can be written there.
    """
    try:
        return staging_directory(target)
    except OSError as fault:
        raise UserError(
            f"cannot write {display(target)}: {fault.strerror}",
            help="name a folder that you may write to",
            code=ExitCode.ENVIRONMENT,
        ) from None
