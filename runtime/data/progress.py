"""How far a preparation is: a bar on a terminal, a line now and then elsewhere, and nothing for small data."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

QUIET_S = 2.0
"""What takes no longer needs no bar."""
LINE_S = 10.0
"""Seconds between lines where there is no terminal."""
HEAD_BYTES = 2**20
"""The beginning of a file, by which its rows are guessed."""
LINES = (".json", ".jsonl")


class Source(Protocol):
    """What a guess needs to know of a source."""

    @property
    def limit(self) -> int | None:
        """Rows that count."""

    @property
    def sample(self) -> int | None:
        """Rows that are drawn."""


class Job(Protocol):
    """A source and its files."""

    @property
    def source(self) -> Source:
        """The source."""

    @property
    def files(self) -> Sequence[Path]:
        """Its files."""


class Progress:
    """Counts rows and shows them on standard error."""

    def __init__(self, jobs: Sequence[Job], stream: TextIO | None = None) -> None:
        """Start the clock."""
        self.jobs = jobs
        self.stream = stream or sys.stderr
        self.rows = 0
        self.started = self.told = time.monotonic()
        self._bar: Any = None

    def add(self, rows: int) -> None:
        """Count rows, and show where that is due."""
        self.rows += rows
        if self._bar is not None:
            self._bar.update(rows)
            return
        now = time.monotonic()
        if self.stream.isatty():
            if now - self.started > QUIET_S:
                self._bar = self._new_bar()
        elif now - self.told > LINE_S:
            self.told = now
            print(self.line(now - self.started), file=self.stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def line(self, elapsed_s: float) -> str:
        """Return the progress as a line."""
        rate = self.rows / max(elapsed_s, 1e-9)
        total = guess_rows(self.jobs)
        text = f"preparing: {self.rows:,} rows, {rate:,.0f} rows/s"
        if total is None or total <= self.rows or rate == 0:
            return text
        return f"{text}, about {duration((total - self.rows) / rate)} left of {total:,} rows"

    def _new_bar(self) -> Any:
        from tqdm import tqdm

        bar = tqdm(
            total=guess_rows(self.jobs),
            initial=self.rows,
            desc="preparing",
            unit=" rows",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            file=self.stream,
        )
        # The rows so far count for the speed, too.
        bar.start_t -= time.monotonic() - self.started
        bar.initial = 0
        return bar


def guess_rows(jobs: Sequence[Job]) -> int | None:
    """Return about how many rows there are, by the lines at the beginning of each file; None where that says nothing."""
    total = 0
    for job in jobs:
        wanted = [n for n in (job.source.limit, job.source.sample) if n is not None]
        guesses = [guess_lines(path) for path in job.files]
        known = [guess for guess in guesses if guess is not None]
        if len(known) < len(guesses):
            if not wanted:
                return None
            total += min(wanted)
        else:
            total += min([sum(known), *wanted])
    return total


def guess_lines(path: Path) -> int | None:
    """Return about how many lines a file has; None for what has no lines, such as one long array."""
    if path.suffix not in LINES:
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    lines = head.count(b"\n")
    if head.lstrip()[:1] == b"[" or lines == 0:
        return None
    return round(path.stat().st_size / len(head) * lines)


def duration(seconds: float) -> str:
    """Return a time in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
