"""Watching one attempt: which ranks live, who asked to stop, and when to kill what still runs."""

from __future__ import annotations

import math
import signal
import sys
import time
from dataclasses import dataclass, field
from types import FrameType

from .feeding import Feeder
from .options import Options, say
from .processes import reap, send, zombie_status
from .rank import STOP_SIGNALS, is_alive
from .records import Rank, read_pids, read_records, read_result

_LINGER_S = 5.0
_STOPPING = (
    "stopping after this step, saving; press Ctrl-C again to end now without a new checkpoint"
)


class InterruptedEarlyError(BaseException):
    """A stop signal before the launcher was started."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Signals:
    """What the user or the scheduler asked for so far."""

    starting: bool = True
    stop: int = 0
    end_now: bool = False

    def install(self) -> None:
        """Handle the signals that ask to stop."""
        for number in STOP_SIGNALS:
            # nohup and background jobs of scripts have asked not to be stopped by these.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.starting:
            raise InterruptedEarlyError(number)
        self.end_now = self.end_now or (number == signal.SIGINT and self.stop != 0)
        self.stop = self.stop or number


@dataclass
class Watch:
    """The state of one attempt; `step` is called until it returns False."""

    options: Options
    signals: Signals
    launcher: int
    feeder: Feeder | None = None
    """The process that reads the data, where they are a stream."""
    launcher_status: int | None = None
    out_of_memory: bool = False
    timed_out: bool = False
    never_entered: bool = False
    ranks: dict[int, Rank] = field(default_factory=dict)
    """Every rank ever seen, by number."""
    ended: dict[int, int] = field(default_factory=dict)
    """The exit status of processes that were children in the end, by pid."""
    lost: dict[int, float] = field(default_factory=dict)
    """When it was seen that a rank had ended without a word, by number."""
    _asked: set[Rank] = field(default_factory=set)
    _stopping: bool = False
    _deadline: float = math.inf
    _linger_until: float = math.inf

    def step(self) -> bool:
        """Look once, and act; False when every process of the run has ended."""
        running = reap(self.note_end)
        self._look()
        if not running:
            return False
        if self.feeder is not None and self.launcher_status is not None and not self.living():
            self.feeder.end()
        reason = "" if self._stopping else self._reason_to_stop()
        if reason:
            say(reason)
            self._stopping = True
            self._deadline = time.monotonic() + self.options.grace_s
        if self._stopping:
            self._ask_to_stop()
        return not self._is_over()

    def note_end(self, pid: int, status: int) -> None:
        """Record how a child ended."""
        self.ended[pid] = status
        if self.feeder is not None:
            self.feeder.note_end(pid, status)
        if pid == self.launcher:
            self.launcher_status = status

    def living(self) -> list[Rank]:
        """Return the ranks that run."""
        return [rank for rank in self.ranks.values() if is_alive(rank.pid, rank.started)]

    def entered(self) -> bool:
        """Tell whether any rank has come to life."""
        return bool(self.ranks) or bool(read_result(self.options.run_dir))

    def _look(self) -> None:
        present = {rank.number: rank for rank in read_pids(self.options.run_dir)}
        self.ranks |= present
        gone = [rank for rank in present.values() if not is_alive(rank.pid, rank.started)]
        for rank in gone:
            # Asked first and again: the launcher may collect the rank at any moment, and then nobody knows.
            if status := zombie_status(rank.pid):
                self.ended.setdefault(rank.pid, status)
            if rank.number not in self.lost and self._has_vanished(rank):
                self.lost[rank.number] = time.time()

    def _has_vanished(self, rank: Rank) -> bool:
        # Read again: a rank that ends well removes its file first, perhaps just after it was listed.
        if rank not in read_pids(self.options.run_dir):
            return False
        return rank.number not in {record.rank for record in read_records(self.options.run_dir)}

    def _reason_to_stop(self) -> str:
        if self.signals.stop:
            # On a terminal the message would otherwise stand in the middle of the progress bar.
            bar = "\n" if sys.stderr.isatty() else ""
            return bar + (_STOPPING if self.entered() else "stopping")
        if self.lost:
            return (
                f"rank {min(self.lost)} has ended unexpectedly; the other ranks are asked to save"
            )
        if self.feeder is not None and self.feeder.failed:
            return "the process that reads the data has ended; the ranks are asked to save"
        if self.launcher_status is not None and self.living():
            return "the launcher has ended unexpectedly; the ranks are asked to save"
        return ""

    def _ask_to_stop(self) -> None:
        for rank in self.living():
            if rank not in self._asked:
                self._asked.add(rank)
                send(rank, signal.SIGTERM)

    def _is_over(self) -> bool:
        """Tell whether what still runs is to be killed."""
        if self.signals.end_now:
            return True
        if self._stopping and not self.entered():
            self.never_entered = True
            return True
        if self.launcher_status is not None and not self.living():
            if not self.entered():
                return True
            # Ranks that have left may still be closing down; a data worker may hang about.
            self._linger_until = min(self._linger_until, time.monotonic() + _LINGER_S)
        self.timed_out = time.monotonic() >= self._deadline
        return self.timed_out or time.monotonic() >= self._linger_until
