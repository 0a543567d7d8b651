"""The work of preparation: rows are read here, and parsed, rendered and encoded by several processes, in order."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ExitCode, UserError
from ..rank import PR_SET_PDEATHSIG, prctl
from .conversation import place_of
from .encode import Encoded, end_to_end
from .files import Raw
from .fitting import Fitted, Options, are_same, fitted
from .formats import Source
from .items import Item, Judged, Pair, Prompt
from .prepared import Part, Problem, SourceReport
from .read import parse_row, rows_of
from .remote import find, is_remote
from .sequences import Sequences, encoded
from .store import Found

CHUNK = 256
"""Rows that a worker takes at a time."""
SMALL_BYTES = 2**20
"""Below this size a second process costs more than it brings."""
NOTHING = Encoded(np.zeros(0, np.uint32), np.zeros(0, np.bool_))
SAME = "both answers are the same tokens"
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
        return list(self.found.files)

    @cached_property
    def found(self) -> Found:
        """The files and where they come from; what is elsewhere is fetched."""
        return find(self.source)

    def anew(self) -> Job:
        """Return the job as it would be found now; what was fetched stays as it is."""
        return self if is_remote(self.source) else replace(self)

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
    jobs: Sequence[Job],
    tokenizer: Any,
    options: Options,
    workers: int | None,
    chunks: Iterator[Chunk] | None = None,
    num_rows: int = CHUNK,
) -> Iterator[Result]:
    """Yield the results of all jobs in the order of their rows, whatever the number of workers.

    `chunks` are the rows where they are not to be read job after job, `num_rows` of them at a time.

    Raises:
        UserError: (DATA) a file cannot be read; (ENVIRONMENT) a worker was killed.
    """
    encoder = Encoder(jobs, tokenizer, options)
    count = num_workers(jobs, workers)
    rows = _chunks(jobs, num_rows) if chunks is None else chunks
    if count == 1:
        yield from map(encoder, rows)
    else:
        yield from _shared(encoder, rows, count)


def num_workers(jobs: Sequence[Job], workers: int | None) -> int:
    """Return how many processes work: as asked for, else one a core where the data are worth it."""
    if workers is not None:
        return workers
    size = sum(file.stat().st_size for job in jobs for file in job.files)
    return max(1, min(len(os.sched_getaffinity(0)), size // SMALL_BYTES))


def _chunks(jobs: Sequence[Job], num_rows: int) -> Iterator[Chunk]:
    for job in jobs:
        rows = job.rows()
        while listed := list(islice(rows, num_rows)):
            yield Chunk(job.number, listed)


_encoder: Encoder | None = None
"""The encoder of a worker, which it got by being forked: a tokenizer is never sent through a pipe."""


def _enter_worker() -> None:
    """Ctrl-C is the parent's to handle, and nobody outlives it: a killed parent takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # What there is at the fork stays: no collection looks at it again, and its pages stay shared.
    gc.freeze()


def _in_worker(chunk: Chunk) -> Result:
    assert _encoder is not None
    return _encoder(chunk)


def _shared(encoder: Encoder, chunks: Iterator[Chunk], count: int) -> Iterator[Result]:
    global _encoder
    _encoder = encoder
    # Learned once here, not once in each worker.
    getattr(encoder.tokenizer, "byte_level", None)
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
        return _Chunk(self, self.jobs[chunk.job]).result(chunk)


class _Chunk:
    """The rows of a chunk on their way to samples."""

    def __init__(self, encoder: Encoder, job: Job) -> None:
        self.tokenizer = encoder.tokenizer
        self.options = encoder.options
        self.job = job
        self.report = SourceReport(job.source.name)
        self.fault: UserError | None = None

    def result(self, chunk: Chunk) -> Result:
        self.report.read = len(chunk.rows)
        samples = [
            (place, item, sample)
            for place, item, sequences in self._encoded(list(self._items(chunk.rows)))
            for sample in self._kept(place, item, sequences)
        ]
        return Result(chunk.job, _part(chunk.job, samples), self.report, self.fault)

    def _items(self, rows: Sequence[Row]) -> Iterator[tuple[Place, Item]]:
        source, kind = self.job.source, self.options.kind
        for number, line, raw in rows:
            try:
                yield (number, line), parse_row(source, line, raw, self.job.files[number], kind)
            except UserError as fault:
                self._note_bad((number, line), fault)

    def _encoded(
        self, placed: Sequence[tuple[Place, Item]]
    ) -> Iterator[tuple[Place, Item, Sequences]]:
        try:
            found = encoded(self.tokenizer, [item for _, item in placed], self.options)
        except UserError as fault:
            if len(placed) == 1:
                self._note_bad(placed[0][0], fault)
                return
            # The template refuses one of them: the others are not lost.
            for one in placed:
                yield from self._encoded([one])
            return
        for (place, item), sequences in zip(placed, found, strict=True):
            yield place, item, sequences

    def _kept(self, place: Place, item: Item, sequences: Sequences) -> Sequence[Fitted]:
        """Return the samples of an item at their final length: one, several pieces of a text, or none."""
        try:
            kept = fitted(item, sequences, tokenizer=self.tokenizer, options=self.options)
        except UserError as fault:
            self._note_bad(place, fault)
            return ()
        if not kept:
            is_same = are_same(sequences, self.options)
            self.report.same += is_same
            self.report.note("dropped", Problem(*place, SAME if is_same else ""))
        for sample in kept:
            if sample.truncated:
                self.report.note("truncated", Problem(*place))
            self.report.kept += 1
            self.report.endless += sample.endless
            self.report.tokens += sum(map(len, sample.sequences))
            self.report.trainable += sum(s.num_learned for s in sample.sequences)
        return kept

    def _note_bad(self, place: Place, fault: UserError) -> None:
        if self.fault is None:
            self.fault = fault
        number, line = place
        beginning = f"{place_of(self.job.files[number], line)}: "
        self.report.note("bad", Problem(number, line, fault.message.removeprefix(beginning)))


def _part(job: int, samples: Sequence[tuple[Place, Item, Fitted]]) -> Part:
    sequences = [sequence for _, _, sample in samples for sequence in sample.sequences]
    whole = end_to_end([NOTHING, *sequences])
    items = [item for _, item, _ in samples]
    return Part(
        tokens=whole.tokens,
        loss=whole.loss,
        weights=whole.weights,
        lengths=np.array([len(sequence) for sequence in sequences], np.int64),
        trainable=np.array([sequence.num_learned for sequence in sequences], np.int64),
        origins=np.array([(job, line) for (_, line), _, _ in samples], np.int64).reshape(-1, 2),
        files=np.array([number for (number, _), _, _ in samples], np.int64),
        values=_values(items),
        answers=[item.answer for item in items if isinstance(item, Prompt)],
    )


def _values(items: Sequence[Item]) -> npt.NDArray[np.float32] | None:
    """Return labels as 1 and 0, margins as they are (not a number where a pair has none), None for other items."""
    found = []
    for item in items:
        if isinstance(item, Judged):
            found.append(float(item.good))
        elif isinstance(item, Pair):
            found.append(math.nan if item.margin is None else item.margin)
    return np.array(found, np.float32) if found else None
