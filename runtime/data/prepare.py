"""Preparation: files become tokens and loss flags on disk, once, before any process group exists.

The result lies in a folder named by a digest of everything that decides it: the content of the files, the
tokenizer, the template, and every option that changes a token. So it is never stale, and runs that agree share it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import storage
from ..errors import ExitCode, UserError
from .digest import ENGINE, digests_of, key_of
from .fitting import Options, all_dropped
from .formats import Source
from .light import backend_digest
from .order import Mix, mixed, repeated
from .prepared import (
    EVAL,
    TRAIN,
    Integers,
    Names,
    SourceReport,
    Writer,
    read_report,
    source_reports,
    write_pointer,
    write_report,
)
from .progress import Progress
from .samples import held_out
from .tokenizer import Tokenizer
from .users import note_use
from .work import Job, Result, work


def prepare(
    sources: Sequence[Source],
    *,
    evaluation: Sequence[Source] = (),
    tokenizer: Tokenizer,
    options: Options,
    eval_rows: int | float = 0,
    mix: Mix = "concat",
    seed: int,
    bad_rows: Literal["error", "skip"] = "error",
    max_bad_share: float = 0.01,
    output: Path,
    cache_dir: Path | None = None,
    workers: int | None = None,
    rebuild: bool = False,
    tell: bool = True,
) -> Path:
    """Tokenize all sources and return the folder with the result; `output` gets a pointer to it.

    Prepared data that fit are used again. Two runs may prepare the same at once; whoever is first wins.
    With `tell`, a line for each source says what became of its rows.

    Raises:
        UserError: (DATA) a bad row under `bad_rows = "error"`, more bad rows than `max_bad_share`, a file that is
            missing or changes while it is read, or nothing left.
    """
    jobs = [
        Job(number, source, number >= len(sources), seed)
        for number, source in enumerate((*sources, *evaluation))
    ]
    digests = [digests_of(job) for job in jobs]
    order = (eval_rows, seed, bad_rows, max_bad_share, mix)
    key = key_of(jobs, digests, tokenizer, options, order)
    folder = (cache_dir or default_cache()) / key
    if rebuild or not is_complete(folder):
        made = Preparation(jobs, options, bad_rows, max_bad_share, workers)
        made.run(tokenizer, folder, eval_rows=eval_rows, seed=seed, mix=mix, digests=digests)
    for line in _told(folder) if tell else ():
        print(line, flush=True)
    note_use(folder, output)
    write_pointer(output, folder, [names_of(job) for job in jobs])
    return folder


def names_of(job: Job) -> Names:
    """Return what a run calls a source and its files."""
    return Names(str(job.source.path), [str(file) for file in job.files])


def _told(folder: Path) -> Iterator[str]:
    """Yield a line for each source: what became of its rows."""
    for report in source_reports(read_report(folder)):
        kind = "evaluation data" if report.evaluation else "data"
        share = 100 * report.trainable / max(report.tokens, 1)
        counts = ((report.truncated, "truncated"), (report.dropped, "dropped"), (report.bad, "bad"))
        parts = [
            f"{report.read:,} rows",
            *(f"{count:,} {gate}" for count, gate in counts if count),
            f"{report.tokens:,} tokens ({share:.0f} % carry loss)",
        ]
        yield f"{kind} {report.name}: {', '.join(parts)}"


def default_cache() -> Path:
    """Return the folder that keeps prepared data: `TUNEC_CACHE`, else `tunec` in the user's cache folder."""
    named = os.environ.get("TUNEC_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) / "prepared" if named else Path(home) / "tunec" / "prepared"


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds prepared data, whole."""
    try:
        storage.verify_directory(folder, deep=False)
    except UserError:
        return False
    return True


class Preparation:
    """One preparation: parts come back from the workers in the order of the rows."""

    def __init__(
        self,
        jobs: Sequence[Job],
        options: Options,
        bad_rows: str,
        max_bad_share: float,
        workers: int | None,
    ) -> None:
        """Remember what is asked for."""
        self.jobs = jobs
        self.options = options
        self.bad_rows = bad_rows
        self.max_bad_share = max_bad_share
        self.workers = workers
        self.tokenizer = ""
        self.reports = [SourceReport(job.source.name, job.evaluation) for job in jobs]

    def run(
        self,
        tokenizer: Tokenizer,
        folder: Path,
        *,
        eval_rows: int | float,
        seed: int,
        mix: Mix,
        digests: Sequence[Sequence[str]],
    ) -> None:
        """Make the folder; nothing half-done is left behind, whatever happens."""
        staging = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            with storage.disk_errors("the prepared data", folder.parent):
                loaded = tokenizer.load_light()
                self.tokenizer = backend_digest(loaded)
                origins = self._write(loaded, staging)
                self._check_unchanged(digests)
                self._split(staging, origins, eval_rows, seed, mix)
            if not is_complete(folder):
                storage.commit_directory(staging, folder, {"engine": ENGINE})
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _write(self, tokenizer: Any, staging: Path) -> Integers:
        with closing(Writer(staging)) as writer, closing(Progress(self.jobs)) as progress:
            for result in self._results(tokenizer):
                writer.append(result.part)
                progress.add(result.report.read)
                self.reports[result.job].add(result.report)
            origins, _ = writer.finish()
        self._check_counts()
        return origins

    def _results(self, tokenizer: Any) -> Iterator[Result]:
        for result in work(self.jobs, tokenizer, self.options, self.workers):
            if result.fault is not None and self.bad_rows == "error":
                raise result.fault
            yield result

    def _check_counts(self) -> None:
        for report, job in zip(self.reports, self.jobs, strict=True):
            path = job.source.path
            if report.read == 0:
                raise UserError(f"{path}: the data set is empty", code=ExitCode.DATA)
            if report.bad > self.max_bad_share * report.read:
                first = names_of(job).told(report.problems["bad"][0])
                raise UserError(
                    f"{path}: {report.bad:,} of {report.read:,} rows are bad, more than "
                    f"`data.max_bad_share` = {self.max_bad_share:g}",
                    help=f"the first: {first}",
                    code=ExitCode.DATA,
                )

    def _check_unchanged(self, digests: Sequence[Sequence[str]]) -> None:
        """A file that changes while it is read would give data that no version of it holds."""
        for job, digest in zip(self.jobs, digests, strict=True):
            # The job is made anew, for files can have come or gone.
            if digests_of(replace(job)) != digest:
                raise UserError(
                    f"{job.source.path}: the file changed while it was read",
                    help="start again when nobody writes to it",
                    code=ExitCode.DATA,
                )

    def _split(
        self, staging: Path, origins: Integers, eval_rows: int | float, seed: int, mix: Mix
    ) -> None:
        given = np.array([job.evaluation for job in self.jobs])[origins[:, 0]]
        train = np.flatnonzero(~given)
        evaluation = np.flatnonzero(given)
        if eval_rows and not given.any():
            chosen = held_out(len(train), eval_rows, seed)
            evaluation = train[chosen]
            train = np.delete(train, chosen)
        if given.any():
            evaluation = self._ordered(evaluation, origins, True, "concat")
        # Rows are held out before any is repeated: none is trained and evaluated on.
        np.save(staging / TRAIN, self._ordered(train, origins, False, mix))
        np.save(staging / EVAL, evaluation)
        self._report(staging, held_out=0 if given.any() else len(evaluation))

    def _ordered(
        self, samples: Integers, origins: Integers, evaluation: bool, mix: Mix
    ) -> Integers:
        """Repeat the samples of sources that are to have more, and put the sources in the order of the mix."""
        jobs = [job for job in self.jobs if job.evaluation == evaluation]
        parts = []
        for job in jobs:
            part = samples[origins[samples, 0] == job.number]
            wanted = job.source.sample or 0
            # Rows that are bad, dropped or held out are not made up for.
            total = wanted - (self.reports[job.number].read - len(part))
            parts.append(repeated(part, total, f"{job.seed} {job.number} again"))
        return mixed(parts, [job.source.weight for job in jobs], mix)

    def _report(self, staging: Path, *, held_out: int) -> None:
        training = [report for report in self.reports if not report.evaluation]
        evaluation = [report for report in self.reports if report.evaluation]
        check_trainable(training, self.options.max_length)
        write_report(
            staging,
            self.reports,
            {
                "training": _counts(training, -held_out),
                "evaluation": _counts(evaluation, held_out),
                "kind": self.options.kind,
                "tokenizer": self.tokenizer,
            },
        )


def _counts(reports: Sequence[SourceReport], moved: int) -> dict[str, int]:
    sums = {
        name: sum(getattr(r, name) for r in reports) for name in ("read", "truncated", "dropped")
    }
    return {**sums, "read": sums["read"] + moved}


def check_trainable(reports: Sequence[SourceReport], max_length: int) -> None:
    """Raise `UserError` (DATA) unless something is left; each sample that is carries loss."""
    read, kept = sum(r.read for r in reports), sum(r.kept for r in reports)
    if kept == 0:
        raise all_dropped(read, max_length)
