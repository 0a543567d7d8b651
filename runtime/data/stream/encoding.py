"""From batches of rows to their samples, in the order of the rows whatever sources they are from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..fitting import Options
from ..prepared import Integers, Part, Problem, SourceReport
from ..work import Chunk, Job, Result, work
from .rows import Batch


@dataclass(frozen=True)
class Encoded:
    """The samples of a batch."""

    batch: Batch
    parts: Sequence[Part]
    """The samples, source by source."""
    order: Integers
    """The samples of all parts, end to end, in the order of their rows."""
    reports: Sequence[tuple[int, SourceReport]]
    """What became of the rows of each source, by its number."""
    fault: UserError | None
    """The first row that could not be used."""


class _Rounds(list[Path]):
    """Files that are found under every number with the same remainder.

    The number of a row's file also says which row of its batch it is: the encoder hands it through.
    """

    def __getitem__(self, number: Any) -> Any:
        return super().__getitem__(number % len(self))


@dataclass(frozen=True)
class _Drawn(Job):
    """A source whose rows come in the order of a stream."""

    whole: Job | None = None

    @cached_property
    def files(self) -> list[Path]:
        assert self.whole is not None
        return _Rounds(self.whole.files)


def encoded(
    batches: Iterator[Batch],
    jobs: Sequence[Job],
    tokenizer: Any,
    options: Options,
    workers: int | None,
) -> Iterator[Encoded]:
    """Yield the samples of each batch, which several processes may encode; as `work`, it reads a little ahead."""
    drawn = [_Drawn(job.number, job.source, job.evaluation, job.seed, job) for job in jobs]
    waiting: deque[tuple[Batch, int]] = deque()

    def chunks() -> Iterator[Chunk]:
        for batch in batches:
            parts = _by_source(batch, drawn)
            waiting.append((batch, len(parts)))
            yield from parts

    results: list[Result] = []
    for result in work(drawn, tokenizer, options, workers, chunks()):
        results.append(result)
        batch, expected = waiting[0]
        if len(results) == expected:
            waiting.popleft()
            yield _gathered(batch, results, drawn)
            results = []


def _by_source(batch: Batch, jobs: Sequence[Job]) -> list[Chunk]:
    found: dict[int, Chunk] = {}
    for place, (number, (file, line, raw)) in enumerate(batch.rows):
        chunk = found.setdefault(number, Chunk(number, []))
        chunk.rows.append((place * len(jobs[number].files) + file, line, raw))
    return list(found.values())


def _gathered(batch: Batch, results: Sequence[Result], jobs: Sequence[Job]) -> Encoded:
    counts = [len(jobs[result.job].files) for result in results]
    places = [r.part.files // count for r, count in zip(results, counts, strict=True)]
    faults = [
        (result.report.problems["bad"][0].file // count, result.fault)
        for result, count in zip(results, counts, strict=True)
        if result.fault is not None
    ]
    return Encoded(
        batch,
        [replace(r.part, files=r.part.files % c) for r, c in zip(results, counts, strict=True)],
        np.argsort(np.concatenate(places), kind="stable").astype(np.int64),
        [(r.job, _placed(r.report, c)) for r, c in zip(results, counts, strict=True)],
        min(faults, key=lambda found: found[0])[1] if faults else None,
    )


def _placed(report: SourceReport, files: int) -> SourceReport:
    """Return the report with the real numbers of files."""
    problems = {
        gate: [Problem(problem.file % files, problem.line, problem.text) for problem in listed]
        for gate, listed in report.problems.items()
    }
    return replace(report, problems=problems)
