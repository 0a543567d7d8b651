"""The endless stream of rows: epoch after epoch, each in another order, in batches with their place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path

from ...errors import ExitCode, UserError
from ..order import Mix
from ..read import rows_of
from ..remote import named
from ..work import Job, Row
from .turns import in_turns, shuffled

BATCH = 128
"""Rows that are tokenized together; the place of a stream is known between them."""
EDGE_BYTES = 2**16
"""The beginning and the end of a file, by which it is known again."""


@dataclass(frozen=True)
class Position:
    """How far a stream is: so many rows of an epoch (from 0) are drawn."""

    epoch: int = 0
    drawn: int = 0


@dataclass(frozen=True)
class Batch:
    """Some rows in the order in which they are trained, each with the number of its source."""

    end: Position
    """Where the stream is after them."""
    rows: list[tuple[int, Row]]
    ends_epoch: bool


@dataclass(frozen=True)
class Rows:
    """All rows of a stream."""

    jobs: Sequence[Job]
    held_out: Sequence[int] = field(default=())
    """How many first rows of each source are kept out of it."""
    mix: Mix = "concat"
    buffer: int = 1
    seed: int = 0

    def batches(self, start: Position = Position()) -> Iterator[Batch]:
        """Yield batches without end. What comes before `start` is read and shuffled, which is cheap, and not parsed.

        Raises:
            UserError: (DATA) a source has no rows left, or a file cannot be read or is another than in the beginning.
        """
        before = self.identities()
        for epoch in count(start.epoch):
            self._check_same(before)
            drawn = start.drawn if epoch == start.epoch else 0
            rows = islice(self.epoch(epoch), drawn, None)
            listed = list(islice(rows, BATCH))
            while listed:
                drawn += len(listed)
                following = list(islice(rows, BATCH))
                yield Batch(Position(epoch, drawn), listed, not following)
                listed = following

    def epoch(self, number: int) -> Iterator[tuple[int, Row]]:
        """Yield the rows of an epoch, each with the number of its source."""
        return shuffled(self.in_order(), self.buffer, f"{self.seed} {number}")

    def in_order(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of an epoch as they stand in the files, the sources mixed."""
        held = self.held_out or [0] * len(self.jobs)
        begin: list[Callable[[], Iterator[Row]]] = [
            partial(_rows, job, first) for job, first in zip(self.jobs, held, strict=True)
        ]
        return in_turns(begin, [job.source.weight for job in self.jobs], self.mix)

    def first(self, total: int) -> list[int]:
        """Return how many rows of each source are among the first of all sources."""
        counts = [0] * len(self.jobs)
        for number, _ in islice(self.in_order(), total):
            counts[number] += 1
        return counts

    def identities(self) -> list[str]:
        """Return by what the files are known again: their sizes, beginnings and ends."""
        return [_identity(file) for job in self.jobs for file in job.files]

    def _check_same(self, before: Sequence[str]) -> None:
        if list(before) != self.identities():
            raise UserError(
                "the data have changed since the training began",
                help="start again with --overwrite when nobody writes to them",
                code=ExitCode.DATA,
            )


def _rows(job: Job, first: int) -> Iterator[Row]:
    """Yield the rows of a source after the first ones; raises `UserError` (DATA) where there are none."""
    rows = islice(rows_of(job.source, job.files), first, None)
    row = next(rows, None)
    if row is None:
        raise _nothing_left(named(job.source), first)
    yield row
    yield from rows


def _nothing_left(path: str, held_out: int) -> UserError:
    if not held_out:
        return UserError(f"{path}: the data set is empty", code=ExitCode.DATA)
    return UserError(
        f"{path}: {held_out:,} evaluation rows leave none to train on",
        help="lower `data.eval_rows`",
        code=ExitCode.DATA,
    )


def _identity(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            known = hashlib.sha256(str(size).encode())
            for start in (0, max(0, size - EDGE_BYTES)):
                file.seek(start)
                known.update(file.read(EDGE_BYTES))
    except OSError as fault:
        text = "no such data file" if isinstance(fault, FileNotFoundError) else fault.strerror
        raise UserError(f"{os.path.normpath(path)}: {text}", code=ExitCode.DATA) from None
    return known.hexdigest()
