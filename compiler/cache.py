"""The cache of prepared data, as the runtime lays it out (`runtime/data/prepare.py`; a test compares the two).

    <cache>/<key>/               prepared data; the key is 32 hexadecimal digits
        MANIFEST.json            size of every file; there, and right, only where the folder is complete
        report.json              what became of the rows of each source
        users.jsonl              run folders, a JSON text a line; its time is that of the last use
    <cache>/.<key>.<pid>.tmp/    being made by that process, or left behind when it was killed
    <cache>/.<key>.damaged.tmp/  set aside while a whole folder takes its place
    <cache>/.<key>.old.tmp/      being removed

Links are never followed, and nothing of another name is touched: the folder may hold more than the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

State = Literal["complete", "incomplete", "preparing", "left behind"]
MANIFEST_FORMAT = 1
QUIET_S = 3600.0
"""What changed since then may belong to a process of another machine, which shares the folder."""
_KEY = re.compile(r"[0-9a-f]{32}")
_STAGING = re.compile(r"\.([0-9a-f]{32})\.(?:([0-9]{1,10})|damaged|old)\.tmp")


@frozen
class Entry:
    """One folder of the cache."""

    path: Path
    key: str
    state: State
    size: int
    used: float
    """When it was used or changed last, in seconds since 1970."""
    samples: int = 0
    tokens: int = 0
    sources: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    """Run folders that still point to it."""


def default_cache(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps prepared data, as the runtime does."""
    named = environ.get("TUNEC_CACHE")
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) / "prepared" if named else Path(home) / "tunec" / "prepared"


def downloads(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps files fetched from addresses and hubs, as the runtime does."""
    return default_cache(environ).parent / "downloads"


def fetched(folder: Path, now: float, *, older_than_s: float = 0.0) -> list[Path]:
    """Return the fetched files that nobody has read or written for so long, and at least for an hour."""
    quiet = max(older_than_s, QUIET_S)
    found = []
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(place, name)
            with suppress(FileNotFoundError):
                status = path.lstat()
                if name != ".lock" and now - max(status.st_mtime, status.st_atime) >= quiet:
                    found.append(path)
    return sorted(found)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder, 0 where there is none."""
    return _size(folder)


def entries(cache: Path, now: float | None = None) -> list[Entry]:
    """Return the folders of the cache, those used last first; none where there is no cache."""
    try:
        paths = [path for path in cache.iterdir() if path.is_dir() and not path.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (_entry(path, time.time() if now is None else now) for path in paths)
    return sorted((e for e in found if e is not None), key=lambda e: (-e.used, e.path.name))


def chosen(
    found: Sequence[Entry],
    now: float,
    *,
    older_than_s: float | None = None,
    keep_bytes: int | None = None,
    everything: bool = False,
) -> list[Entry]:
    """Return the complete folders that are asked to go: unused for long, or beyond what may be kept."""
    complete = [entry for entry in found if entry.state == "complete"]
    doomed, kept = [], 0
    for entry in complete:
        kept += entry.size
        is_old = older_than_s is not None and now - entry.used > older_than_s
        if everything or is_old or (keep_bytes is not None and kept > keep_bytes):
            doomed.append(entry)
            kept -= entry.size
    return doomed


def remove(entry: Entry) -> bool:
    """Remove a folder, unless it came to life meanwhile; a kill half-way leaves nothing that looks like data."""
    again = _entry(entry.path, time.time())
    if again is None or again.state != entry.state or again.state == "preparing":
        return False
    doomed = entry.path.parent / f".{entry.key}.old.tmp"
    if entry.path != doomed:
        if doomed.exists() and not doomed.is_symlink():
            shutil.rmtree(doomed)
        os.rename(entry.path, doomed)
    shutil.rmtree(doomed)
    return True


def _entry(path: Path, now: float) -> Entry | None:
    """Return what a folder is; None for what is not the cache's, or gone by now."""
    if path.is_symlink():
        return None
    try:
        if _KEY.fullmatch(path.name):
            return _prepared(path)
        if staging := _STAGING.fullmatch(path.name):
            used = _newest(path)
            live = _is_alive(staging[2]) or now - used < QUIET_S
            state: State = "preparing" if live else "left behind"
            return Entry(path, staging[1], state, _size(path), used)
    except FileNotFoundError:
        return None
    return None


def _prepared(path: Path) -> Entry:
    size, used = _size(path), _last_use(path)
    if not is_complete(path):
        return Entry(path, path.name, "incomplete", size, used)
    listed = _read_json(path / "report.json").get("sources")
    sources = [s for s in listed if isinstance(s, dict)] if isinstance(listed, list) else []
    return Entry(
        path,
        path.name,
        "complete",
        size,
        used,
        sum(_number(source.get("kept")) for source in sources),
        sum(_number(source.get("tokens")) for source in sources),
        tuple(str(source.get("name")) for source in sources),
        tuple(_runs(path)),
    )


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds everything its manifest names, in its size."""
    manifest = _read_json(folder / "MANIFEST.json")
    digest = manifest.pop("digest", None)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    if digest != hashlib.sha256(text.encode()).hexdigest():
        return False
    if manifest.get("format") != MANIFEST_FORMAT:
        return False
    try:
        return all((folder / f["path"]).stat().st_size == f["size"] for f in manifest["files"])
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _runs(folder: Path) -> Iterator[str]:
    """Yield the runs that used the folder and still point to it."""
    with suppress(OSError, ValueError):
        for line in (folder / "users.jsonl").read_text(encoding="utf-8").splitlines():
            run = json.loads(line)
            if _read_json(Path(run) / "prepared.json").get("key") == folder.name:
                yield run


def _last_use(folder: Path) -> float:
    try:
        return (folder / "users.jsonl").stat().st_mtime
    except FileNotFoundError:
        return folder.stat().st_mtime


def _newest(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for item in os.scandir(folder):
        with suppress(FileNotFoundError):
            times.append(item.stat(follow_symlinks=False).st_mtime)
    return max(times)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _is_alive(pid: str | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _number(value: Any) -> int:
    return value if type(value) is int else 0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
