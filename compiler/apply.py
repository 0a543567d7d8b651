"""The only writer: generated files onto disk, each whole or not at all, never over somebody's edits."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import tomli
from attrs import frozen

from .facts import FolderFacts

EXECUTABLE = frozenset({"launch.sh"})
MANIFEST = "manifest.json"
TRAINING = frozenset({"prepare.py", "train.py", "launch.sh", "deepspeed.json"})
"""What an existing run was made by. The other files may follow a spec whose chat or export settings changed."""


class Change(Enum):
    """What applying would do to one file."""

    NEW = "+"
    CHANGED = "~"
    SAME = "="
    EDITED = "!"
    """Changed by hand since it was compiled."""


class ApplyError(Exception):
    """The files cannot be written; `help` says what can be done, `code` is the exit code."""

    def __init__(self, message: str, *, help: str = "", code: int = 4) -> None:
        """Store the texts."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code


@frozen
class FileChange:
    """A generated file and what applying would do to it."""

    name: str
    change: Change


def compare(files: Mapping[str, str], folder: FolderFacts) -> list[FileChange]:
    """Return what applying `files` would do, file by file."""
    recorded = (folder.manifest or {}).get("files", {})
    changes = {name: _change(folder.path / name, files[name], recorded.get(name)) for name in files}
    if folder.manifest is not None and changes.get(MANIFEST) is Change.EDITED:
        # It is ours, and cannot record itself.
        changes[MANIFEST] = Change.CHANGED
    return [FileChange(name, change) for name, change in changes.items()]


def is_other_run(changes: Sequence[FileChange]) -> bool:
    """Tell whether a run that was made by the files there is not the one that these files make."""
    return any(c.change is not Change.SAME for c in changes if c.name in TRAINING)


def _change(path: Path, text: str, recorded: Any) -> Change:
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        return Change.NEW
    except OSError:
        return Change.EDITED
    if there == text.encode():
        return Change.SAME
    return Change.CHANGED if recorded == hashlib.sha256(there).hexdigest() else Change.EDITED


def check(files: Mapping[str, str], folder: FolderFacts, *, force: bool, replace_run: bool) -> None:
    """Raise `ApplyError` when writing would lose edits, or would change the programs of an existing run.

    `force` gives up edits; `replace_run` says that the existing run will be overwritten.
    """
    changes = compare(files, folder)
    edited = [item.name for item in changes if item.change is Change.EDITED]
    if edited and not force:
        raise ApplyError(
            f"{', '.join(edited)} in {folder.path} was changed by hand since it was compiled",
            help="move the change into the spec, or give it up with --force",
        )
    if folder.started and not replace_run and is_other_run(changes):
        raise ApplyError(
            f"{folder.path} holds a run of another spec\n{_difference(files, folder)}",
            help="undo the change to go on with that run, name another `run.output_dir`, "
            "or delete what that run wrote and start again with `tunec train --overwrite`",
        )


def apply(files: Mapping[str, str], run_dir: Path) -> None:
    """Write the files; the manifest is the last of them, so that a torn set is never taken for a whole one.

    Raises:
        ApplyError: (3) the folder cannot be written or the disk is full.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _write_all(
            {
                run_dir / name: text.encode()
                for name, text in sorted(files.items(), key=lambda item: item[0] == MANIFEST)
                if not _holds(run_dir / name, text.encode())
            }
        )
    except OSError as fault:
        raise ApplyError(
            f"cannot write to {run_dir}: {(fault.strerror or str(fault)).lower()}",
            help="free some space, or name another `run.output_dir`"
            if fault.errno in (errno.ENOSPC, errno.EDQUOT)
            else "name another `run.output_dir`",
            code=3,
        ) from None


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _write_all(contents: Mapping[Path, bytes]) -> None:
    """Write every file aside before the first one is put in place, so that a full disk changes nothing."""
    aside: dict[Path, Path] = {}
    created: list[Path] = []
    try:
        for path, data in contents.items():
            _write_aside(path, data, aside)
        for path, temporary in aside.items():
            if not path.exists():
                created.append(path)
            os.replace(temporary, path)
    except BaseException:
        # New files without their manifest would be taken for somebody else's.
        for path in (*aside.values(), *created):
            path.unlink(missing_ok=True)
        raise


def _write_aside(path: Path, data: bytes, aside: dict[Path, Path]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    aside[path] = Path(name)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o755 if path.name in EXECUTABLE else 0o644)
        file.flush()
        os.fsync(file.fileno())


def _difference(files: Mapping[str, str], folder: FolderFacts) -> str:
    """Return the values that differ between the spec on disk and the new one, a line each."""
    try:
        before = tomli.loads((folder.path / "spec.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "  (its spec.toml cannot be read)"
    old, new = _flat(before), _flat(tomli.loads(files["spec.toml"]))
    lines = [
        f"  {name}: {_shown(old, name)} there, {_shown(new, name)} now"
        for name in sorted(old.keys() | new.keys())
        if _shown(old, name) != _shown(new, name)
    ]
    return (
        "\n".join(lines)
        if lines
        else "  (the values are the same; the data or the version of tunec differs)"
    )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(f"{name}.{key}" if name else key, item) for key, item in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {name: value}
    return {path: leaf for key, item in items for path, leaf in _flat(item, key).items()}


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "not set"
