"""The producer of a stream: from files to finished chunks of samples, a little ahead of those who train."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from ... import storage
from ...errors import ExitCode, UserError
from ...rank import PR_SET_PDEATHSIG, STOP_SIGNALS, prctl
from ..fitting import Options, all_dropped
from ..formats import Source
from ..light import backend_digest
from ..order import Mix
from ..prepare import names_of, prepare
from ..prepared import SourceReport
from ..remote import named
from ..tokenizer import Tokenizer
from ..work import Job
from .chunks import ChunkWriter
from .encoding import Encoded, encoded
from .head import prepare_spans, spans_of
from .ledger import Entry, Ledger, counts_of
from .place import Packing, Place, remove
from .rows import Position, Rows

CHUNK_BATCHES = 4
"""Batches of rows in a chunk; the first chunks have fewer, so that the training can begin."""
WINDOW_BATCHES = 80
"""Batches in a chunk whose samples are packed: the more there are, the better they fit together."""
AHEAD = 8
"""Chunks that lie ready beyond what is asked for."""
POLL_S = 0.1
TOLD_S = 60.0
"""Least seconds between lines that say what became of the rows so far, which come at the end of epochs."""
JUDGED_ROWS = 1000
"""Rows that the share of bad ones is judged by at least, until an epoch is complete."""


def feed(
    sources: Sequence[Source],
    *,
    evaluation: Sequence[Source] = (),
    tokenizer: Tokenizer,
    options: Options,
    eval_rows: int = 0,
    mix: Mix = "concat",
    seed: int,
    bad_rows: Literal["error", "skip"] = "error",
    max_bad_share: float = 0.01,
    shuffle_buffer: int = 1,
    packing: Packing = "off",
    num_steps: int,
    global_size: int,
    output: Path,
    cache_dir: Path | None = None,
    workers: int | None = None,
    rebuild: bool = False,
) -> None:
    """Produce the samples of a training, epoch after epoch, until it has all: `num_steps` of `global_size` each.

    Rows are shuffled within `shuffle_buffer`, each epoch in another way; 1 keeps their order. The evaluation data are
    prepared first: sources of their own, or the first `eval_rows` rows of the stream, which are then left out of it.
    Packed samples share rows of `options.max_length` tokens, and a step takes rows.

    A resumed run goes on from where its checkpoint was: rows before that are read again, but not tokenized.

    Raises:
        UserError: (DATA) a bad row under `bad_rows = "error"`, more bad rows than `max_bad_share`, a file that is
            missing or has changed, or nothing left.
    """
    place = Place(output)
    place.clear()
    _join_run()
    try:
        jobs = [Job(number, source, False, seed) for number, source in enumerate(sources)]
        held = Rows(jobs, mix=mix).first(eval_rows)
        # A preview may write the pointer of the run folder at any time.
        common: dict[str, Any] = {
            "bad_rows": bad_rows,
            "output": place.folder,
            "cache_dir": cache_dir,
        }
        if evaluation:
            prepare(
                [], evaluation=evaluation, tokenizer=tokenizer, options=options, seed=seed, max_bad_share=max_bad_share,
                workers=workers, rebuild=rebuild, **common,
            )  # fmt: skip
        elif eval_rows:
            prepare_spans(spans_of(jobs, held), tokenizer, options, **common)
        made = Production(
            place,
            Rows(jobs, held, mix, shuffle_buffer, seed),
            Limits(bad_rows, max_bad_share),
            packing,
            first=_resumed_at() * global_size,
            total=num_steps * global_size,
        )
        made.run(tokenizer.load_light(), options, workers)
    except UserError as fault:
        place.fail(fault)
        raise


def _join_run() -> None:
    """As part of a run, end with it and not before: ranks that are asked to stop finish their step first."""
    if "TUNEC_SUPERVISOR_PID" in os.environ:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _resumed_at() -> int:
    """Return the step of the checkpoint that the run goes on from, 0 without one."""
    path = os.environ.get("TUNEC_RESUME_FROM")
    return (storage.step_of(Path(path)) or 0) if path else 0


class Limits:
    """The gates: what rows may be bad."""

    def __init__(self, bad_rows: str, max_bad_share: float) -> None:
        """Remember the policy."""
        self.bad_rows = bad_rows
        self.max_bad_share = max_bad_share

    def check(self, report: SourceReport, job: Job, *, complete: bool) -> None:
        """Raise `UserError` (DATA) when too many rows of a source are bad; `complete` after an epoch."""
        read = report.read if complete else max(report.read, JUDGED_ROWS)
        if report.bad > self.max_bad_share * read:
            listed = report.problems.get("bad", [])
            raise UserError(
                f"{named(job.source)}: {report.bad:,} of {report.read:,} rows are bad, more than "
                f"`data.max_bad_share` = {self.max_bad_share:g}",
                help=f"the first: {names_of(job).told(listed[0])}" if listed else "",
                code=ExitCode.DATA,
            )


class Production:
    """Chunk after chunk."""

    def __init__(
        self,
        place: Place,
        rows: Rows,
        limits: Limits,
        packing: Packing,
        *,
        first: int,
        total: int,
    ) -> None:
        """Find where to begin: at sample `first`, or before it where the ledger says how."""
        self.place = place
        self.rows = rows
        self.limits = limits
        self.first = first
        self.total = total
        self.packing = packing
        self.ledger = Ledger(place.folder)
        self.entry = self.ledger.go_back(first)
        self.reports = self.entry.reports([job.source.name for job in rows.jobs])
        self.told = -TOLD_S

    def run(self, tokenizer: Any, options: Options, workers: int | None) -> None:
        """Produce until the training has all it needs; raises `UserError` as `feed`."""
        digest = backend_digest(tokenizer)
        start = Position(self.entry.epoch, self.entry.drawn)
        found = encoded(self.rows.batches(start), self.rows.jobs, tokenizer, options, workers)
        announced = False
        with storage.disk_errors("the stream", self.place.folder):
            while self.entry.end < self.total:
                self._chunk(found, options.max_length)
                if not announced:
                    self.place.announce(
                        first=self.first, total=self.total, packing=self.packing, tokenizer=digest
                    )
                    announced = True
                if self.entry.end < self.total:
                    self._wait()
        self._tell()

    def _chunk(self, found: Iterator[Encoded], max_length: int) -> None:
        """Produce the next chunk."""
        most = CHUNK_BATCHES if self.packing == "off" else WINDOW_BATCHES
        wanted = min(2 ** min(self.entry.chunks, 16), most)
        writer = ChunkWriter(self.place.chunk(self.entry.end), self.packing, max_length)
        position = Position(self.entry.epoch, self.entry.drawn)
        for each in found:
            self._count(each, max_length)
            writer.add(each)
            position = each.batch.end
            if each.batch.ends_epoch:
                position = Position(position.epoch + 1)
            if writer.num_batches >= wanted and writer.num_samples:
                break
        end = writer.commit(first=self.entry.end, epoch=self.entry.epoch)
        self.entry = Entry(
            self.entry.chunks + 1, end, position.epoch, position.drawn, counts_of(self.reports)
        )
        self.ledger.add(self.entry)

    def _count(self, each: Encoded, max_length: int) -> None:
        """Pass a batch through the gates."""
        if each.fault is not None and self.limits.bad_rows == "error":
            raise each.fault
        for number, report in each.reports:
            self.reports[number].add(report)
            self.limits.check(self.reports[number], self.rows.jobs[number], complete=False)
        if not each.batch.ends_epoch:
            return
        for report, job in zip(self.reports, self.rows.jobs, strict=True):
            self.limits.check(report, job, complete=True)
        if not any(report.kept for report in self.reports):
            read, same = (sum(getattr(r, name) for r in self.reports) for name in ("read", "same"))
            raise all_dropped(read, max_length, same)
        if time.monotonic() - self.told > TOLD_S:
            self._tell()

    def _wait(self) -> None:
        """Wait while enough lies ready; remove what nobody needs any more."""
        while True:
            readers = self.place.readers()
            wanted = max((reader.wanted for reader in readers), default=self.first)
            complete = readers and len(readers) == readers[0].num_ranks
            done = min(reader.done for reader in readers) if complete else self.first
            chunks = self.place.chunks()
            for chunk in chunks:
                if chunk.end <= done:
                    remove(chunk.folder)
            if sum(chunk.first >= max(wanted, self.first) for chunk in chunks) < AHEAD:
                return
            time.sleep(POLL_S)

    def _tell(self) -> None:
        """Say what became of the rows so far."""
        self.told = time.monotonic()
        for report in self.reports:
            counts = (
                (report.truncated, "truncated"),
                (report.dropped, "dropped"),
                (report.bad, "bad"),
            )
            parts = [
                f"{report.read:,} rows read",
                *(f"{count:,} {gate}" for count, gate in counts if count),
                f"{report.tokens:,} tokens",
            ]
            print(f"data {report.name}: {', '.join(parts)}", flush=True)
