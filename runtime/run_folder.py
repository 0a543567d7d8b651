"""The run folder: who holds it, whether its compiled files are intact, and clearing it for an attempt."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ExitCode, UserError
from .options import Options
from .records import parse_json, read_json
from .storage import disk_errors, sha256_file, sweep

OUTPUTS = (
    "checkpoints",
    "logs",
    "pids",
    "failures",
    "plots",
    "predictions",
    "metrics.jsonl",
    "result.json",
    "report.json",
    "report.html",
    "prepared.json",
    "stream",
    "final",
    ".resume",
)
"""What a run writes beside the compiled files, and all that `--overwrite` deletes."""


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the folder for this process alone.

    Raises:
        UserError: it is missing, held by another process or cannot be written.
    """
    if not run_dir.is_dir():
        raise UserError(f"there is no run folder {run_dir}", code=ExitCode.USAGE)
    try:
        fd = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(run_dir, error) from error
    try:
        _lock(fd, run_dir)
        info = {"pid": os.getpid(), "host": socket.gethostname(), "start": _now()}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(info).encode(), 0)
        yield
        os.ftruncate(fd, 0)
    finally:
        # The file stays: removing it would let two runs hold locks on two files of one name.
        os.close(fd)


def _lock(fd: int, run_dir: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        info = parse_json(os.pread(fd, 4096, 0))
        holder = "process {pid} on {host} since {start}".format_map(_Unknown(info))
        raise UserError(
            f"{run_dir} is in use by {holder}",
            help="wait for that run, or stop it first",
            code=ExitCode.CONFLICT,
        ) from error


class _Unknown(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


def check_manifest(run_dir: Path) -> None:
    """Compare the compiled files with `manifest.json`.

    Raises:
        UserError: files were edited or are missing, or there is no manifest (code CONFLICT).
    """
    files = read_json(run_dir / "manifest.json").get("files")
    if not isinstance(files, dict):
        raise UserError(
            f"{run_dir} has no readable manifest.json: it is no compiled run folder",
            help="compile the spec again",
            code=ExitCode.CONFLICT,
        )
    changed = [name for name, digest in sorted(files.items()) if _digest(run_dir / name) != digest]
    if changed:
        raise UserError(
            f"changed since they were compiled: {', '.join(changed)}",
            help="compile the spec again, or start with `--allow-edited` to run them as they are",
            code=ExitCode.CONFLICT,
        )


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""


def clear(options: Options) -> None:
    """Delete the records of earlier attempts, and with `overwrite` all that they wrote."""
    names = OUTPUTS if options.on_existing == "overwrite" else ("pids", "failures", "result.json")
    with disk_errors("to the run folder", options.run_dir, code=ExitCode.ENVIRONMENT):
        for name in names:
            delete(options.run_dir / name)
        sweep(options.run_dir)
        sweep(options.run_dir / "checkpoints")
        for name in ("logs", "pids", "failures"):
            (options.run_dir / name).mkdir(exist_ok=True)


def delete(path: Path) -> None:
    """Delete a file or folder that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def unwritable(run_dir: Path, error: OSError) -> UserError:
    """Return the error for a folder that the system refuses to write."""
    return UserError(
        f"the run folder {run_dir} cannot be written ({error.strerror})",
        help="check its owner and mode, and that its disk is not mounted read-only",
        code=ExitCode.ENVIRONMENT,
    )
