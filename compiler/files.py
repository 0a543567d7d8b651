"""Reading a file that a person names: regular, of bounded size, and not changing meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 20

TOO_LARGE = "the file is larger than 1 MiB"


class UnreadableError(Exception):
    """A file that cannot or must not be read; `code` is the diagnostic's."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def read_regular_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; never blocks on a pipe or device."""
    # O_NONBLOCK lets the opening of a pipe return, so that its kind can be looked at.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UnreadableError("P113", "the file does not exist") from None
    except IsADirectoryError:
        raise UnreadableError("P114", _not_regular(stat.S_IFDIR)) from None
    except (OSError, ValueError) as refusal:  # ValueError: NUL in the name
        raise UnreadableError("P115", _cannot_read(refusal)) from None
    try:
        return _read_open_file(descriptor, limit)
    except OSError as refusal:
        raise UnreadableError("P115", _cannot_read(refusal)) from None
    finally:
        os.close(descriptor)


def _cannot_read(refusal: OSError | ValueError) -> str:
    reason = refusal.strerror if isinstance(refusal, OSError) else None
    return f"the file cannot be read: {(reason or str(refusal)).lower()}"


def _not_regular(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return f"this is {kinds.get(stat.S_IFMT(mode), 'something special')}, not a regular file"


def _read_open_file(descriptor: int, limit: int) -> bytes:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise UnreadableError("P114", _not_regular(before.st_mode))
    if before.st_size > limit:
        raise UnreadableError("P107", TOO_LARGE)
    chunks: list[bytes] = []
    wanted = limit + 1
    while wanted > 0 and (chunk := os.read(descriptor, wanted)):
        chunks.append(chunk)
        wanted -= len(chunk)
    after = os.fstat(descriptor)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise UnreadableError("P116", "the file changed while it was being read")
    if wanted <= 0:
        raise UnreadableError("P107", TOO_LARGE)
    return b"".join(chunks)
