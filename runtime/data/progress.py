"""How far a preparation is: a bar on a terminal, a line now and then elsewhere, and nothing for small data."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..storage import gib

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


class Meter:
    """Counts something and shows how far it is on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Start the clock."""
        self.stream = stream or sys.stderr
        self.count = 0
        self.started = self.told = time.monotonic()
        self._bar: Any = None

    def add(self, count: int) -> None:
        """Count more, and show where that is due."""
        self.count += count
        if self._bar is not None:
            self._bar.update(count)
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
        raise NotImplementedError

    def bar(self) -> dict[str, Any]:
        """Return what the bar is of: `total`, `desc` and `unit`."""
        raise NotImplementedError

    def _new_bar(self) -> Any:
        from tqdm import tqdm

        bar = tqdm(
            **self.bar(),
            initial=self.count,
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            file=self.stream,
        )
        # What was counted so far counts for the speed, too.
        bar.start_t -= time.monotonic() - self.started
        bar.initial = 0
        return bar


class Progress(Meter):
    """Counts the rows of a preparation."""

    def __init__(self, jobs: Sequence[Job], stream: TextIO | None = None) -> None:
        """Start the clock."""
        super().__init__(stream)
        self.jobs = jobs

    @property
    def rows(self) -> int:
        """The rows so far."""
        return self.count

    def line(self, elapsed_s: float) -> str:
        """Return the progress as a line."""
        rate = self.count / max(elapsed_s, 1e-9)
        total = guess_rows(self.jobs)
        text = f"preparing: {self.count:,} rows, {rate:,.0f} rows/s"
        if total is None or total <= self.count or rate == 0:
            return text
        return f"{text}, about {duration((total - self.count) / rate)} left of {total:,} rows"

    def bar(self) -> dict[str, Any]:
        """Return what the bar is of."""
        return {"total": guess_rows(self.jobs), "desc": "preparing", "unit": " rows"}


class Transfer(Meter):
    """Counts the bytes of a file that is fetched; `total` is its size, None where that is not known."""

    def __init__(self, name: str, total: int | None, stream: TextIO | None = None) -> None:
        """Start the clock."""
        super().__init__(stream)
        self.name = name
        self.total = total

    def line(self, elapsed_s: float) -> str:
        """Return the progress as a line."""
        rate = self.count / max(elapsed_s, 1e-9)
        text = f"fetching {self.name}: {gib(self.count)}"
        if self.total is None or self.total <= self.count or rate == 0:
            return f"{text}, {gib(rate)}/s"
        left = duration((self.total - self.count) / rate)
        return f"{text} of {gib(self.total)}, {gib(rate)}/s, about {left} left"

    def bar(self) -> dict[str, Any]:
        """Return what the bar is of."""
        return {"total": self.total, "desc": f"fetching {self.name}", "unit": "B"}


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
