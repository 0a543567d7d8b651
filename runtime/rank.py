"""The life of one rank process: how it is found, asked to stop, and how it says how it ended.

Signals only set a flag that the training loop reads between steps. A watcher thread does what the main
thread cannot do while it waits inside a collective: it sees the signals, it notices that the supervisor
is gone, and it ends the process when the time to stop is over.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import json
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Literal

from .errors import ExitCode
from .storage import write_json

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
DEFAULT_GRACE_S = 120.0

_POLL_S = 0.5
PR_SET_PDEATHSIG = 1
_current: RankLife | None = None


class RankLife:
    """One rank from `enter` to `leave`; its methods may be called from any thread."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        """Prepare the state; `enter` does the rest."""
        self.run_dir = run_dir
        self.rank = rank
        self.grace_s = _grace_s()
        self._pid = os.getpid()
        self._supervisor = _supervisor_from_env()
        self._stopping = threading.Event()
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._reason = ""
        self._deadline = math.inf
        self._exit_code = ExitCode.LOST
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop_requested(self) -> bool:
        """Tell whether this rank was asked to stop. Ranks must agree on it, e.g. by a maximum over all."""
        return self._stopping.is_set()

    def stop_reason(self) -> str:
        """Return why it was asked to stop: a signal's name or what happened; empty when it was not."""
        return self._reason

    def request_stop(self, reason: str) -> None:
        """Ask this rank to stop after the step; only the first reason counts."""
        # No lock: a signal handler may interrupt the main thread while it holds one.
        if self._stopping.is_set():
            return
        self._reason = self._reason or reason
        self._deadline = min(self._deadline, time.monotonic() + self.grace_s)
        self._stopping.set()

    def leave(self) -> None:
        """End the watch: no forced exit any more, and the pid file is gone. May be called twice.

        The handlers stay, so that a late signal cannot turn a finished rank into a killed one.
        """
        global _current
        with self._lock:
            if self._left.is_set():
                return
            self._left.set()
        if _current is self:
            _current = None
        signal.set_wakeup_fd(-1)
        self._pid_file().unlink(missing_ok=True)

    def _start(self) -> None:
        parent = os.getppid()
        _die_with_parent()
        if os.getppid() != parent:
            self.request_stop("the launcher ended")
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._write_pid_file()
        threading.Thread(target=self._watch, name="tunec-watch", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.request_stop(signal.Signals(number).name)

    def _pid_file(self) -> Path:
        return self.run_dir / "pids" / f"rank-{self.rank}.json"

    def _write_pid_file(self) -> None:
        path = self._pid_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"pid": self._pid, "start_time": start_time(self._pid), "rank": self.rank}
        write_json(path, record)

    def _watch(self) -> None:
        while not self._left.is_set():
            self._read_wakeups()
            if self._supervisor and not is_alive(*self._supervisor):
                self.request_stop("the supervisor ended")
            if time.monotonic() >= self._deadline:
                self._force_exit()

    def _read_wakeups(self) -> None:
        ready, _, _ = select.select([self._wake_read], [], [], _POLL_S)
        if not ready:
            return
        # The main thread may sit in a collective and never run the handler: the byte is enough.
        for number in os.read(self._wake_read, 64):
            if number in STOP_SIGNALS:
                self.request_stop(signal.Signals(number).name)

    def _force_exit(self) -> None:
        with self._lock:
            if self._left.is_set():
                return
            code = self._exit_code
            message = (
                f"did not reach the end of a step within {self.grace_s:g} s of being asked to stop"
            )
            if code == ExitCode.LOST:
                with suppress(Exception):
                    _write_failure(self.run_dir, self.rank, code, message, "", None, None)
                with suppress(Exception):
                    os.write(2, f"rank {self.rank} {message}; it was here:\n".encode())
                    faulthandler.dump_traceback(file=2, all_threads=True)
            with suppress(OSError):
                self._pid_file().unlink(missing_ok=True)
            os._exit(code)


def enter(run_dir: Path) -> RankLife:
    """Start the life of this rank: call it first, from the main thread, before anything slow.

    The rank comes from `RANK` (0 without it). With a supervisor that is gone already the process ends at
    once with LOST, before it writes anything.

    Raises:
        RuntimeError: this process has entered before, or this is not the main thread.
        UserError: the pid file cannot be written.
    """
    global _current
    if _current is not None:
        raise RuntimeError("this process has entered already")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals can be handled in the main thread only")
    supervisor = _supervisor_from_env()
    if supervisor and not is_alive(*supervisor):
        raise SystemExit(ExitCode.LOST)
    _current = life = RankLife(run_dir, rank_from_env())
    life._start()
    return life


def write_result(
    run_dir: Path,
    status: Literal["done", "stopped", "failed"],
    *,
    exit_code: int,
    message: str = "",
    help: str = "",
    step: int | None = None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Record how this attempt ended, which decides the exit code of the whole run.

    Rank 0 writes `result.json`; another rank writes `failures/rank-R.json` when it failed (the first
    failure stays) and nothing otherwise. "stopped" is only for a run whose checkpoint is committed.

    Raises:
        ValueError: `extra` cannot be said in JSON.
        UserError: the file cannot be written.
    """
    rank = rank_from_env()
    if rank == 0:
        record = _record(rank, exit_code, message, help, step, extra)
        write_json(run_dir / "result.json", {**record, "status": status})
    elif status == "failed":
        _write_failure(run_dir, rank, exit_code, message, help, step, extra)
    if _current is not None:
        _current._exit_code = ExitCode(exit_code) if exit_code in set(ExitCode) else ExitCode.LOST


def ignore_stop_signals(worker_id: int = 0) -> None:
    """Ignore the stop signals in a data worker; give it to a DataLoader as `worker_init_fn`.

    Otherwise a signal to the whole group ends the workers before the rank has saved.
    """
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def redirect_output(run_dir: Path, rank: int) -> Path | None:
    """Send what ranks above 0 print to `logs/rank-R.log` and return that path.

    Rank 0 keeps the terminal and gets None; should the terminal go away, its output goes on in
    `logs/rank-0.log` instead of ending the training.
    """
    path = run_dir / "logs" / f"rank-{rank}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if rank == 0:
        sys.stdout = _LastingStream(1, path)
        sys.stderr = _LastingStream(2, path)
        return None
    _send_to_log((1, 2), path)
    return path


def rank_from_env() -> int:
    """Return the number in `RANK`, or 0 without it."""
    return int(os.environ.get("RANK") or 0)


def attempt_from_env() -> str:
    """Return what tells this attempt from earlier ones; empty without a supervisor."""
    supervisor = _supervisor_from_env()
    return "{}-{}".format(*supervisor) if supervisor else ""


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it is gone or a zombie."""
    fields = proc_stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process that had `pid` and started then still runs."""
    return start_time(pid) == started


def proc_stat(pid: int) -> list[str] | None:
    """Return the fields of `/proc/PID/stat` after the name (state, ppid, pgrp, ...), None when gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name may hold blanks and brackets: only the last bracket ends it.
    return text[text.rindex(b")") + 2 :].decode().split()


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; a system without prctl is left as it is."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class _LastingStream(io.TextIOWrapper):
    """A text stream on a file descriptor that moves on to a log file when writing fails."""

    def __init__(self, fd: int, log: Path) -> None:
        raw = io.FileIO(fd, "wb", closefd=False)
        super().__init__(raw, "utf-8", "backslashreplace", line_buffering=True, write_through=True)
        self._fd = fd
        self._log = log

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return self._write_elsewhere(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()

    def _write_elsewhere(self, text: str) -> int:
        with suppress(OSError):
            _send_to_log((self._fd,), self._log)
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        return len(text)


def _send_to_log(fds: tuple[int, ...], path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    for fd in fds:
        os.dup2(log, fd)
    os.close(log)


def _die_with_parent() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _grace_s() -> float:
    try:
        value = float(os.environ.get("TUNEC_GRACE_S") or DEFAULT_GRACE_S)
    except ValueError:
        return DEFAULT_GRACE_S
    return value if value >= 0 else DEFAULT_GRACE_S


def _supervisor_from_env() -> tuple[int, int] | None:
    try:
        return int(os.environ["TUNEC_SUPERVISOR_PID"]), int(os.environ["TUNEC_SUPERVISOR_START"])
    except (KeyError, ValueError):
        return None


def _record(
    rank: int,
    exit_code: int,
    message: str,
    help: str,
    step: int | None,
    extra: Mapping[str, object] | None,
) -> dict[str, object]:
    return {
        "attempt": attempt_from_env(),
        "rank": rank,
        "exit_code": int(exit_code),
        "message": message,
        "help": help,
        "step": step,
        "time": time.time(),
        "extra": dict(extra or {}),
    }


def _write_failure(
    run_dir: Path,
    rank: int,
    exit_code: int,
    message: str,
    help: str,
    step: int | None,
    extra: Mapping[str, object] | None,
) -> None:
    path = run_dir / "failures" / f"rank-{rank}.json"
    with suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_text("utf-8")).get("attempt") == attempt_from_env():
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    record = _record(rank, exit_code, message, help, step, extra)
    write_json(path, {**record, "status": "failed"})


def _forget_in_child() -> None:
    """Cut a forked child off: its signals must not wake the watcher of its parent."""
    global _current
    if _current is not None:
        _current = None
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)
