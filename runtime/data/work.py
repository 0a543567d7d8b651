"""The work of preparation: rows are read here, and parsed, rendered and encoded by several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ..errors import ExitCode, UserError
from ..rank import PR_SET_PDEATHSIG, prctl
from .chat import Span, render
from .conversation import Conversation
from .encode import Flags, Tokens, encode
from .files import Raw, files_of
from .formats import Source
from .prepared import Part, SourceReport
from .read import parse_row, rows_of
from .tokenize import Options, fitted

CHUNK = 256
"""Rows that a worker takes at a time."""
SMALL_BYTES = 2**20
"""Below this size a second process costs more than it brings."""


Row = tuple[int, int, Raw]
"""The number of its file, its line, and the row."""
Place = tuple[int, int]
"""The number of a file, and a line in it."""


@dataclass(frozen=True)
class Job:
    """One source to prepare."""

    number: int
    source: Source
    evaluation: bool
    seed: int = 0
    """What decides which rows are drawn, where the source is to be sampled."""

    @cached_property
    def files(self) -> list[Path]:
        """The files of the source."""
        return files_of(self.source.path)

    def rows(self) -> Iterator[Row]:
        """Yield the rows that count, in the order of the files; those that are drawn several times once."""
        rows = rows_of(self.source, self.files)
        if self.source.sample is None:
            return rows
        total = sum(1 for _ in rows_of(self.source, self.files))
        if self.source.sample >= total:
            return rows
        drawn = Random(f"{self.seed} {self.number}").sample(range(total), self.source.sample)
        chosen = set(drawn)
        return (row for index, row in enumerate(rows) if index in chosen)


@dataclass(frozen=True)
class Result:
    """What became of some rows of a job. `fault` is the first row that could not be used."""

    job: int
    part: Part
    report: SourceReport
    fault: UserError | None


@dataclass(frozen=True)
class Chunk:
    """Some rows of a job, as they stand in the files."""

    job: int
    rows: list[Row]


def work(
    jobs: Sequence[Job], tokenizer: Any, options: Options, workers: int | None
) -> Iterator[Result]:
    """Yield the results of all jobs in the order of their rows, whatever the number of workers.

    Raises:
        UserError: (DATA) a file cannot be read; (ENVIRONMENT) a worker was killed.
    """
    encoder = Encoder(jobs, tokenizer, options)
    count = num_workers(jobs, workers)
    if count == 1:
        yield from map(encoder, _chunks(jobs))
    else:
        yield from _shared(encoder, _chunks(jobs), count)


def num_workers(jobs: Sequence[Job], workers: int | None) -> int:
    """Return how many processes work: as asked for, else one a core where the data are worth it."""
    if workers is not None:
        return workers
    size = sum(file.stat().st_size for job in jobs for file in job.files)
    return max(1, min(len(os.sched_getaffinity(0)), size // SMALL_BYTES))


def _chunks(jobs: Sequence[Job]) -> Iterator[Chunk]:
    for job in jobs:
        rows = job.rows()
        while listed := list(islice(rows, CHUNK)):
            yield Chunk(job.number, listed)


_encoder: Encoder | None = None
"""The encoder of a worker, which it got by being forked: a tokenizer is never sent through a pipe."""


def _enter_worker() -> None:
    """Ctrl-C is the parent's to handle, and nobody outlives it: a killed parent takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _in_worker(chunk: Chunk) -> Result:
    assert _encoder is not None
    return _encoder(chunk)


def _shared(encoder: Encoder, chunks: Iterator[Chunk], count: int) -> Iterator[Result]:
    global _encoder
    _encoder = encoder
    # The workers are the parallelism; threads of a tokenizer inside each of them would fight for the cores.
    threads = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("fork"), initializer=_enter_worker
    )
    waiting: deque[Future[Result]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_in_worker, chunk))
            # A bounded queue: memory stays constant however large the files are.
            if len(waiting) > 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a process that tokenizes was killed, probably for want of memory",
            help="lower `data.workers`",
            code=ExitCode.ENVIRONMENT,
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _encoder = None
        if threads is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = threads


class Encoder:
    """Turns rows into samples."""

    def __init__(self, jobs: Sequence[Job], tokenizer: Any, options: Options) -> None:
        """Remember what the rows need."""
        self.jobs = jobs
        self.tokenizer = tokenizer
        self.options = options

    def __call__(self, chunk: Chunk) -> Result:
        """Return the samples of a chunk, and what became of its rows."""
        job = self.jobs[chunk.job]
        report = SourceReport(job.source.name, str(job.source.path), read=len(chunk.rows))
        faults: list[UserError] = []
        conversations: list[tuple[Place, Conversation]] = []
        for number, line, raw in chunk.rows:
            try:
                parsed = parse_row(job.source, line, raw, job.files[number])
                conversations.append(((number, line), parsed))
            except UserError as fault:
                _note_bad(fault, report, faults)
        samples: list[tuple[Place, Tokens, Flags]] = []
        for (place, conversation), rendered in self._render(conversations, report, faults):
            try:
                kept = self._keep(conversation, rendered, report)
            except UserError as fault:
                _note_bad(fault, report, faults)
                continue
            if kept is not None:
                samples.append((place, *kept))
        return Result(chunk.job, _part(chunk.job, samples), report, faults[0] if faults else None)

    def _render(
        self,
        placed: list[tuple[Place, Conversation]],
        report: SourceReport,
        faults: list[UserError],
    ) -> Iterator[tuple[tuple[Place, Conversation], tuple[Tokens, Flags]]]:
        try:
            texts = render(
                self.tokenizer, [item for _, item in placed], loss_on=self.options.loss_on
            )
        except UserError as fault:
            if len(placed) == 1:
                _note_bad(fault, report, faults)
                return
            # The template refuses one of them: the others are not lost.
            for item in placed:
                yield from self._render([item], report, faults)
            return
        yield from zip(placed, encode(self.tokenizer, texts), strict=True)

    def _keep(
        self, conversation: Conversation, encoded: tuple[Tokens, Flags], report: SourceReport
    ) -> tuple[Tokens, Flags] | None:
        """Return the sample at its final length, or None when it is dropped; raises `UserError` for a bad one."""
        kept = fitted(conversation, *encoded, tokenizer=self.tokenizer, options=self.options)
        if kept is None:
            report.note("dropped", conversation.place)
            return None
        if kept.truncated:
            report.note("truncated", conversation.place)
        report.endless += kept.endless
        report.kept += 1
        report.tokens += len(kept.tokens)
        report.trainable += int(kept.loss[1:].sum())
        return kept.tokens, kept.loss


def _note_bad(fault: UserError, report: SourceReport, faults: list[UserError]) -> None:
    faults.append(fault)
    report.note("bad", fault.message)


def _part(job: int, samples: Sequence[tuple[Place, Tokens, Flags]]) -> Part:
    return Part(
        tokens=np.concatenate([np.zeros(0, np.uint32), *(tokens for _, tokens, _ in samples)]),
        loss=np.concatenate([np.zeros(0, np.bool_), *(loss for _, _, loss in samples)]),
        lengths=np.array([len(tokens) for _, tokens, _ in samples], np.int64),
        trainable=np.array([loss[1:].sum() for _, _, loss in samples], np.int64),
        origins=np.array([(job, line) for (_, line), _, _ in samples], np.int64).reshape(-1, 2),
        files=np.array([number for (number, _), _, _ in samples], np.int64),
    )


__all__ = ["Encoder", "Job", "Options", "Result", "Span", "num_workers", "work"]
