"""Errors a user can act on, and the exit codes of every tunec program."""

from __future__ import annotations

from enum import IntEnum

from .visible import visible


class ExitCode(IntEnum):
    """Exit codes of launch scripts and runtime programs."""

    OK = 0
    SPEC = 1
    USAGE = 2
    ENVIRONMENT = 3
    CONFLICT = 4
    """The run folder is locked, edited, stale, or holds another run."""
    TRAINING = 10
    DATA = 11
    CHECKPOINT = 12
    LOST = 14
    """A process died."""
    INTERNAL = 70
    RESUMABLE = 75
    """Stopped with a complete checkpoint; start again to go on (EX_TEMPFAIL of sysexits.h)."""


class UserError(Exception):
    """A mistake or a circumstance outside tunec: shown as one line and the way out, never as a traceback."""

    def __init__(self, message: str, *, help: str = "", code: ExitCode = ExitCode.TRAINING) -> None:
        """Store what happened, what to do about it, and the exit code it leads to."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code

    def text(self) -> str:
        """Return the lines to show; names out of data and files that a terminal would obey are written out."""
        lines = [f"error: {self.message}"]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(visible(line) for line in "\n".join(lines).split("\n"))
