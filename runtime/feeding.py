"""The process that reads the data of a stream: started before the ranks, and watched with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ExitCode, UserError
from .options import Options
from .processes import ending, reap
from .rank import start_time
from .records import read_json

_POLL_S = 0.05


@dataclass
class Feeder:
    """A producer of data; `status` is how it has ended, None while it runs."""

    pid: int
    status: int | None = None

    def note_end(self, pid: int, status: int) -> None:
        """Record the end of a process, if it is this one."""
        if pid == self.pid and self.status is None:
            self.status = status

    def end(self) -> None:
        """End it when nobody reads any more; chunks are whole or absent."""
        if self.status is None:
            self.status = 0
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def failed(self) -> bool:
        """Tell whether it has ended without all data."""
        return self.status not in (None, 0)

    def code(self) -> ExitCode:
        """Return the exit code that its end gives the run."""
        known = self.status in set(ExitCode)
        return ExitCode(self.status or 0) if known else ExitCode.LOST

    def text(self, way_out: str) -> str:
        """Return what to say about its failure; what is wrong with the data it has said itself."""
        if self.code() != ExitCode.LOST:
            return f"the data have ended the run; {way_out}"
        return UserError(
            f"the process that reads the data {ending(self.status)}",
            help=f"where memory ran out, lower `data.shuffle_buffer`; {way_out}",
        ).text()


def start_feeder(options: Options, resume_from: Path | None) -> Feeder | None:
    """Start the program that reads the data, if the run has one, and wait until the first are there.

    In a session of its own: what stops the run must not stop the data that the last step needs.
    """
    if options.feed is None:
        return None
    env = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TUNEC_SUPERVISOR_PID": str(os.getpid()),
        "TUNEC_SUPERVISOR_START": str(start_time(os.getpid())),
    }
    env.pop("TUNEC_RESUME_FROM", None)
    if resume_from is not None:
        env["TUNEC_RESUME_FROM"] = str(resume_from)
    process = subprocess.Popen(
        [sys.executable, options.feed],
        env=env,
        cwd=options.run_dir,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    # As the launcher, it is reaped by hand.
    process.returncode = 0
    feeder = Feeder(process.pid)
    record = options.run_dir / "stream" / "producer.json"
    while reap(feeder.note_end) and read_json(record).get("pid") != feeder.pid:
        time.sleep(_POLL_S)
    return feeder
