"""What stays on this machine between runs: the cache folder, locks in it, and what was fetched for a source."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import storage
from ..records import read_json


@dataclass(frozen=True)
class Found:
    """The files of a source on this machine, in the order they are read."""

    files: tuple[Path, ...]
    origins: tuple[str, ...] = ()
    """Where each of them was fetched from; nothing for files that were here."""
    revision: str = ""
    """The commit of a hub data set."""


def cache_folder(name: str) -> Path:
    """Return a folder of the cache: in `TUNEC_CACHE`, else in `tunec` in the user's cache folder."""
    named = os.environ.get("TUNEC_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) / name if named else Path(home) / "tunec" / name


def downloads() -> Path:
    """Return the folder that keeps what was fetched from elsewhere."""
    return cache_folder("downloads").absolute()


def digest(value: Any) -> str:
    """Return a short name for plain data."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made when missing, for this process alone; another one waits."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        # The file stays: removing it would let two processes hold locks on two files of one name.
        os.close(fd)


def remember(source: Sequence[str | None], found: Found) -> None:
    """Note what a source was when it was fetched."""
    path = _record(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [str(file) for file in found.files]
    content = {"files": files, "origins": found.origins, "revision": found.revision}
    storage.write_json(path, {"source": list(source), **content})


def remembered(source: Sequence[str | None]) -> Found | None:
    """Return what a source was when it was fetched last, if all of it is still here."""
    known = read_json(_record(source))
    files, origins = known.get("files"), known.get("origins")
    if not isinstance(files, list) or not isinstance(origins, list):
        return None
    paths = tuple(Path(str(file)) for file in files)
    if not paths or not all(path.is_file() for path in paths):
        return None
    return Found(paths, tuple(map(str, origins)), str(known.get("revision", "")))


def _record(source: Sequence[str | None]) -> Path:
    return downloads() / "sources" / f"{digest(list(source))}.json"
