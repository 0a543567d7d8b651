"""Files that survive a crash: atomic writes, and checkpoint folders that are complete or do not count.

A committed folder holds `MANIFEST.json` with the size and SHA-256 of every other file. Everything is
synced to disk before the rename that publishes it, so a kill or a power cut at any moment leaves either
the old state or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, cast

from .errors import ExitCode, UserError

FORMAT = 1
MANIFEST = "MANIFEST.json"

_STEP = re.compile(r"step-(0|[1-9][0-9]*)")
_STAGING = re.compile(r"\.step-.*\.tmp")
_TEMPORARY = re.compile(r"\.tmp-[0-9]+-[0-9]+")
_DISK_ERRORS = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota exceeded",
    errno.EIO: "the disk reported an input/output error",
}
_CHUNK = 1 << 20
_serial = itertools.count()


@dataclass(frozen=True)
class Committed:
    """A complete folder: where it is and what its writer said about it."""

    path: Path
    meta: Mapping[str, object]


@dataclass(frozen=True)
class _Entry:
    """One file of a committed folder."""

    path: str
    size: int
    sha256: str

    def json(self) -> dict[str, object]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


# The calls that change a disk, one function each, so that tests can make the n-th one fail.


def _open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)


def _write(fd: int, data: memoryview) -> int:
    return os.write(fd, data)


def _fsync(fd: int) -> None:
    os.fsync(fd)


def _rename(source: Path, target: Path) -> None:
    os.replace(source, target)


def _unlink(path: Path) -> None:
    path.unlink()


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, durably and all at once.

    Raises:
        UserError: the disk is full or broken (code ENVIRONMENT). The old file is then untouched.
        OSError: any other failure of the file system.
    """
    temporary = path.parent / f".tmp-{os.getpid()}-{next(_serial)}"
    with disk_errors(path.name, path.parent, needed=len(data), code=ExitCode.ENVIRONMENT):
        try:
            _write_synced(temporary, data)
            _rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                _unlink(temporary)
            raise
        sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8; raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Replace the file at `path` by `value` as JSON with sorted keys.

    Raises:
        ValueError: `value` holds a NaN or an infinity, which JSON cannot say.
        UserError: as `write_bytes`.
    """
    write_text(path, _dump(value))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Make the names inside a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(fd)
    except OSError as error:
        # Some network file systems cannot sync a folder and say so with EINVAL.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def staging_directory(final: Path) -> Path:
    """Make the empty folder in which the files of `final` are gathered before `commit_directory`.

    The parent is made when missing; what an earlier attempt left under the name is removed.
    """
    staging = final.parent / f".{final.name}.tmp"
    final.parent.mkdir(parents=True, exist_ok=True)
    if staging.exists():
        _remove_tree(staging)
    staging.mkdir()
    return staging


def commit_directory(staging: Path, final: Path, meta: Mapping[str, object]) -> None:
    """Publish the files in `staging` as the complete folder `final`, which then has a manifest.

    A folder already at `final` is replaced when it is damaged and never when it is complete.

    Raises:
        UserError: the disk is full or broken, or `final` is complete already (code CHECKPOINT).
            The staging folder is then gone.
        ValueError: `meta` cannot be said in JSON, or `staging` holds a link or a special file.
    """
    try:
        needed = _tree_size(staging)
        with disk_errors(f"checkpoint {final.name}", final.parent, needed=needed):
            _refuse_complete(final)
            entries = [_synced_entry(staging, file) for file in _files(staging)]
            _write_synced(staging / MANIFEST, _manifest(entries, meta).encode())
            for folder in _folders(staging):
                sync_directory(folder)
            _publish(staging, final)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def replace_directory(staging: Path, target: Path) -> None:
    """Put the synced folder `staging` in the place of `target`, which may exist: the old one is moved aside first.

    Whoever looks sees the old folder or the new one, for a moment perhaps none, never a part.
    """
    for file in _files(staging):
        _sync_file(file)
    for folder in _folders(staging):
        sync_directory(folder)
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        _rename(target, old)
    _rename(staging, target)
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def verify_directory(path: Path, *, deep: bool) -> Committed:
    """Check a committed folder against its manifest: sizes, and with `deep` the content too.

    Raises:
        UserError: what is missing, torn or changed, in one line (code CHECKPOINT).
    """
    entries, meta = _read_manifest(path)
    for entry in entries:
        _verify_file(path, entry, deep=deep)
    return Committed(path=path, meta=meta)


def step_of(path: Path) -> int | None:
    """Return N for a folder called `step-N`, else None."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def step_directories(folder: Path) -> list[Path]:
    """Return the folders `step-N` in `folder`, complete or not, highest N first."""
    try:
        found = [path for path in folder.iterdir() if step_of(path) is not None and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)


def newest_committed(
    folder: Path, *, deep: bool = False, skipped: list[str] | None = None
) -> Committed | None:
    """Return the complete folder `step-N` with the highest N, or None.

    One line for each damaged folder that was passed over is added to `skipped`.
    """
    for path in step_directories(folder):
        try:
            return verify_directory(path, deep=deep)
        except UserError as error:
            if skipped is not None:
                skipped.append(error.message)
    return None


def prune(folder: Path, keep: int, protect: set[Path]) -> list[Path]:
    """Remove old checkpoints, keeping the `keep` newest complete ones (all, if 0) and those in `protect`.

    The newest complete one always stays. Also removed are damaged folders older than it and what killed
    saves left behind; call it when no save is under way. Returns the removed checkpoints.

    Raises:
        ValueError: `keep` is negative.
    """
    if keep < 0:
        raise ValueError(f"keep must not be negative, not {keep}")
    sweep(folder)
    kept = {path.resolve() for path in protect}
    complete, doomed = 0, list[Path]()
    for path in step_directories(folder):
        if _is_complete(path):
            complete += 1
            if 0 < keep < complete and path.resolve() not in kept:
                doomed.append(path)
        elif complete and path.resolve() not in kept:
            doomed.append(path)
    for path in reversed(doomed):
        _discard(path)
    return doomed


def sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`: staging folders and temporary files."""
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if _STAGING.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _remove_tree(path)
        elif _TEMPORARY.fullmatch(path.name) and path.is_file():
            _unlink(path)


@contextmanager
def disk_errors(
    what: str,
    folder: Path,
    *,
    needed: int | None = None,
    code: ExitCode = ExitCode.CHECKPOINT,
) -> Iterator[None]:
    """Turn a full or broken disk inside the block into a `UserError` about writing `what`.

    `needed` is the size in bytes when known. torch and safetensors report a full disk as an error of
    their own with only the text to tell; these are recognized too. Other errors pass through.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _disk_errno(error)
        if number is None:
            raise
        raise _disk_error(number, what, folder, needed, code) from error


def gib(size: float) -> str:
    """Return a size in bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=2) + "\n"


def _write_synced(path: Path, data: bytes) -> None:
    fd = _open_new(path)
    try:
        view = memoryview(data)
        while view:
            view = view[_write(fd, view) :]
        _fsync(fd)
    finally:
        os.close(fd)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _fsync(fd)
    finally:
        os.close(fd)


def _files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is no regular file")
        if path.is_file() and path != folder / MANIFEST:
            found.append(path)
    return found


def _folders(folder: Path) -> list[Path]:
    """Return `folder` and the folders below it, the deepest first."""
    return [*sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True), folder]


def _tree_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _synced_entry(folder: Path, path: Path) -> _Entry:
    digest, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Synced first: an error of delayed writing shows here and not after the checkpoint counts.
        _fsync(fd)
        while chunk := os.read(fd, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(fd)
    return _Entry(path.relative_to(folder).as_posix(), size, digest.hexdigest())


def _manifest(entries: list[_Entry], meta: Mapping[str, object]) -> str:
    body: dict[str, object] = {
        "format": FORMAT,
        "meta": dict(meta),
        "files": [entry.json() for entry in entries],
    }
    return _dump({**body, "digest": _digest(body)})


def _digest(body: Mapping[str, object]) -> str:
    text = json.dumps(body, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _publish(staging: Path, final: Path) -> None:
    damaged = final.parent / f".{final.name}.damaged.tmp"
    if final.exists():
        if damaged.exists():
            _remove_tree(damaged)
        _rename(final, damaged)
    _rename(staging, final)
    sync_directory(final.parent)
    if damaged.exists():
        _remove_tree(damaged)


def _refuse_complete(final: Path) -> None:
    try:
        verify_directory(final, deep=True)
    except UserError:
        return
    raise UserError(
        f"checkpoint {final.name} exists already and is complete",
        help=f"remove {final} to write it anew",
        code=ExitCode.CHECKPOINT,
    )


def _is_complete(path: Path) -> bool:
    try:
        verify_directory(path, deep=False)
    except UserError:
        return False
    return True


def _discard(path: Path) -> None:
    """Remove a checkpoint so that a kill half-way leaves no folder that looks damaged."""
    doomed = path.parent / f".{path.name}.old.tmp"
    if doomed.exists():
        _remove_tree(doomed)
    _rename(path, doomed)
    _remove_tree(doomed)


def _read_manifest(path: Path) -> tuple[list[_Entry], Mapping[str, object]]:
    try:
        text = (path / MANIFEST).read_text("utf-8")
    except FileNotFoundError:
        reason = f"{MANIFEST} is missing" if path.is_dir() else "there is no such folder"
        _damaged(path, reason)
    except (OSError, UnicodeDecodeError) as error:
        _damaged(path, f"{MANIFEST} cannot be read ({error})")
    return _parse_manifest(path, text)


def _parse_manifest(path: Path, text: str) -> tuple[list[_Entry], Mapping[str, object]]:
    try:
        data = json.loads(text)
        digest = data.pop("digest")
        version = data["format"]
        entries = [_Entry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in data["files"]]
        meta = cast("dict[str, object]", dict(data["meta"]))
        unchanged = digest == _digest(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _damaged(path, f"{MANIFEST} is torn")
    if version != FORMAT:
        _damaged(path, f"it has format {version!r}, this version of tunec reads {FORMAT}")
    if not unchanged:
        _damaged(path, f"{MANIFEST} was changed after it was written")
    return entries, meta


def _verify_file(folder: Path, entry: _Entry, *, deep: bool) -> None:
    name = PurePosixPath(entry.path)
    if name.is_absolute() or ".." in name.parts:
        _damaged(folder, f"{entry.path} lies outside the folder")
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry.size:
            _damaged(folder, f"{entry.path} is torn: {size} bytes of {entry.size}")
        if deep and sha256_file(path) != entry.sha256:
            _damaged(folder, f"{entry.path} was changed after it was written")
    except FileNotFoundError:
        _damaged(folder, f"{entry.path} is missing")
    except OSError as error:
        _damaged(folder, f"{entry.path} cannot be read ({error.strerror})")


def _damaged(path: Path, reason: str) -> NoReturn:
    raise UserError(
        f"checkpoint {path.name} is not usable: {reason}",
        help="use an earlier checkpoint",
        code=ExitCode.CHECKPOINT,
    )


def _disk_errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _DISK_ERRORS else None
    text = str(error)
    for number in _DISK_ERRORS:
        if f"(os error {number})" in text or os.strerror(number) in text:
            return number
    # torch.save says no more than this when a write comes up short.
    return errno.ENOSPC if "PytorchStreamWriter failed writing" in text else None


def _disk_error(
    number: int, what: str, folder: Path, needed: int | None, code: ExitCode
) -> UserError:
    size = f": {gib(needed)} needed" if needed else ""
    with suppress(OSError):
        free = gib(shutil.disk_usage(folder).free)
        size += f"{',' if size else ':'} {free} free on the disk of {folder}"
    fix = (
        "check the disk (see `dmesg`), then start again"
        if number == errno.EIO
        else "free space there, or keep fewer checkpoints, then start again"
    )
    return UserError(f"{_DISK_ERRORS[number]} while writing {what}{size}", help=fix, code=code)
