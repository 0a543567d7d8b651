"""The processes below this one: collecting, signalling and ending them, also those that lost their parent."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .options import say
from .rank import is_alive, proc_stat
from .records import Rank

_POLL_S = 0.02
_END_S = 30.0


def reap(note: Callable[[int, int], None] | None = None) -> bool:
    """Collect every child that has ended; False when there is no child left at all."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            if note is not None:
                note(pid, os.waitstatus_to_exitcode(status))
    except ChildProcessError:
        return False


def ending(status: int | None) -> str:
    """Return how a process ended, in words; `status` is negative after a signal, None when not known."""
    if status is None:
        return "was ended"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def descendants() -> list[int]:
    """Return every process below this one; orphans come to this one too."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := proc_stat(int(entry))):
            children.setdefault(int(stat[1]), []).append(int(entry))
    found, queue = list[int](), [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_descendants(note: Callable[[int, int], None] | None = None) -> None:
    """Kill every process below this one and wait until none is left."""
    deadline = time.monotonic() + _END_S
    while reap(note):
        for pid in descendants():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            say(f"warning: these processes cannot be ended: {descendants()}")
            return
        time.sleep(_POLL_S)


def send(rank: Rank, number: int) -> None:
    """Signal a rank, and no other process that may have got its pid since."""
    with suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(rank.pid)
        try:
            if is_alive(rank.pid, rank.started):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def zombie_status(pid: int) -> int:
    """Return how a process ended that its parent has not waited for yet; 0 when that is not known."""
    stat = proc_stat(pid)
    if stat is None or stat[0] != "Z":
        return 0
    return os.waitstatus_to_exitcode(int(stat[49]))


def oom_kills() -> int:
    """Return how often the kernel has killed for memory in this container so far."""
    with suppress(OSError, ValueError):
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
