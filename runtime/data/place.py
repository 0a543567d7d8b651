"""Where prepared data lie: in a cache by their key, or in a folder that was named, which must hold just these."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import ExitCode, UserError
from ..records import read_json
from .digest import differences

BASIS = "basis.json"
"""File of a prepared folder: what decided its content, see `basis_of`."""


def write_basis(folder: Path, basis: Mapping[str, Any]) -> None:
    """Write what decides the content of a folder, so that a later run can say what differs."""
    text = json.dumps(basis, indent=1, sort_keys=True) + "\n"
    (folder / BASIS).write_text(text, encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds prepared data, whole."""
    try:
        storage.verify_directory(folder, deep=False)
    except UserError:
        return False
    return True


def fits(folder: Path, basis: Mapping[str, Any]) -> bool:
    """Tell whether a folder that was named holds prepared data, whole; refuse it when they are others.

    Raises:
        UserError: (CONFLICT) it holds data that were prepared otherwise, or something else.
    """
    if is_complete(folder):
        found = read_json(folder / BASIS)
        different = differences(found, basis) if found else ["what they were made of is not known"]
        if different:
            raise UserError(
                f"{folder} holds data that were prepared otherwise: {'; '.join(different)}",
                help="set `data.rebuild = true` to make them anew, or name another `data.prepared_dir`",
                code=ExitCode.CONFLICT,
            )
        return True
    refuse_strange(folder)
    return False


def refuse_strange(folder: Path) -> None:
    """Raise `UserError` (CONFLICT) for a folder with files that no preparation has written."""
    known = (folder / storage.MANIFEST).exists()
    if folder.exists() and not known and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(
            f"{folder} is no folder of prepared data",
            help="name a new or an empty folder as `data.prepared_dir`; nothing was changed",
            code=ExitCode.CONFLICT,
        )


@contextmanager
def first_come(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder: others wait, also on machines that see the same disk.

    The lock ends with the process that holds it. On disks that know no locks nobody waits: each makes the data, and
    the first to finish wins.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that prepares the same data", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        try:
            yield
        finally:
            # Who waits finds the folder made. At worst two make it at once, which is safe.
            path.unlink(missing_ok=True)
