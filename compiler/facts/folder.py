"""Facts about the run folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from .files import read_json

FolderState = Literal[
    "absent", "ready", "file", "not-writable", "blocked", "broken-link", "impossible"
]


PREVIEW = "preview"
"""Folder in a run folder for the preview of a spec whose training is not available yet."""


@frozen
class FolderFacts:
    """The run folder: whether it can be written, and which run it holds."""

    path: Path
    state: FolderState
    blocker: Path | None = None
    """The file or folder that is in the way."""
    free_bytes: int | None = None
    manifest: dict[str, Any] | None = None
    """`manifest.json` of the programs compiled there."""
    step: int | None = None
    """Highest step with a checkpoint."""
    finished: bool = False
    started: bool = False
    foreign: bool = False
    """The folder holds files and none of them is ours."""


def read_folder(path: Path) -> FolderFacts:
    """Look at the run folder without changing anything."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return FolderFacts(path, "impossible")


def _read(path: Path) -> FolderFacts:
    if path.exists() and not path.is_dir():
        return FolderFacts(path, "file", blocker=path)
    there = path
    while not there.exists():
        if there.is_symlink():
            return FolderFacts(path, "broken-link", blocker=there)
        there = there.parent
    if not there.is_dir():
        return FolderFacts(path, "blocked", blocker=there)
    if not os.access(there, os.W_OK | os.X_OK):
        return FolderFacts(path, "not-writable", blocker=there)
    free = shutil.disk_usage(there).free
    if there != path:
        return FolderFacts(path, "absent", free_bytes=free)
    names = {entry.name for entry in path.iterdir()}
    manifest = _manifest(path / "manifest.json")
    result = read_json(path / "result.json") or {}
    return FolderFacts(
        path,
        "ready",
        free_bytes=free,
        manifest=manifest,
        step=_newest_step(path / "checkpoints"),
        finished=result.get("status") == "done",
        started=bool({"metrics.jsonl", "result.json", "final"} & names)
        or _newest_step(path / "checkpoints") is not None,
        foreign=bool(names - {PREVIEW}) and manifest is None,
    )


def _newest_step(folder: Path) -> int | None:
    """A checkpoint's manifest is written before the rename that makes it visible, so its presence is enough here."""
    if not folder.is_dir():
        return None
    steps = [
        int(entry.name.removeprefix("step-"))
        for entry in folder.iterdir()
        if entry.name.removeprefix("step-").isdecimal() and (entry / "MANIFEST.json").is_file()
    ]
    return max(steps, default=None)


def _manifest(path: Path) -> dict[str, Any] | None:
    """Return our manifest; files of that name are written by other programs too."""
    manifest = read_json(path) or {}
    ours = isinstance(manifest.get("tunec"), str) and isinstance(manifest.get("files"), dict)
    return manifest if ours else None
