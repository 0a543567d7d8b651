"""Preparation: files become tokens and loss flags on disk, once, before any process group exists.

The result lies in a folder named by a digest of everything that decides it: the content of the files, the
tokenizer, the template, and every option that changes a token. So it is never stale, and runs that agree share it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import storage
from ..errors import ExitCode, UserError
from .digest import ENGINE, basis_of, digests_of, key_from
from .ends import named_in, stop_tokens
from .fitting import Options, all_dropped
from .formats import Source
from .items import Item, Kind
from .light import backend_digest
from .order import Mix, mixed, repeated
from .place import first_come, fits, is_complete, refuse_strange, write_basis
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
from .read import parse_row, rows_of
from .remote import named
from .samples import held_out
from .served import check_served
from .store import cache_folder
from .tokenizer import Tokenizer
from .users import note_use
from .work import CHUNK, Job, Result, work


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
    prepared_dir: Path | None = None,
    workers: int | None = None,
    batch_rows: int = CHUNK,
    shared_storage: bool = True,
    rebuild: bool = False,
    tell: bool = True,
) -> Path:
    """Tokenize all sources and return the folder with the result; `output` gets a pointer to it.

    Prepared data that fit are used again. Without `prepared_dir` they lie in a cache, named by what decides them. The
    folder `prepared_dir` is used when it holds just these data, filled when it is empty, and else refused. What it
    holds may be used without the sources where all settings are those it was made with.

    With `shared_storage`, who comes second waits for the first. Two runs may still prepare the same at once; whoever
    is first wins. `workers` processes tokenize, `batch_rows` rows at a time. With `tell`, a line for each source says
    what became of its rows.

    Raises:
        UserError: (DATA) a bad row under `bad_rows = "error"`, more bad rows than `max_bad_share`, a file that is
            missing or changes while it is read, or nothing left; (CONFLICT) `prepared_dir` holds something else.
    """
    jobs = [
        Job(number, source, number >= len(sources), seed)
        for number, source in enumerate((*sources, *evaluation))
    ]
    order = {
        "eval_rows": eval_rows, "seed": seed, "bad_rows": bad_rows, "max_bad_share": max_bad_share, "mix": mix,
    }  # fmt: skip
    may_lack = prepared_dir is not None and not rebuild and is_complete(prepared_dir)
    digests = [_digests(job, may_lack) for job in jobs]
    basis = basis_of(jobs, digests, tokenizer, options, order)
    folder = prepared_dir or (cache_dir or default_cache()) / key_from(basis)

    def is_there() -> bool:
        return is_complete(folder) if prepared_dir is None else fits(folder, basis)

    if rebuild or not is_there():
        made = Preparation(jobs, options, bad_rows, max_bad_share, workers, batch_rows)
        made.basis, made.replaces = basis, rebuild
        found = [digest for digest in digests if digest is not None]
        if prepared_dir is not None:
            refuse_strange(folder)
        with first_come(folder) if shared_storage else nullcontext():
            if rebuild or not is_there():
                made.run(tokenizer, folder, eval_rows=eval_rows, seed=seed, mix=mix, digests=found)
    here = [job for job, digest in zip(jobs, digests, strict=True) if digest is not None]
    for line in (*_fetched(here), *_without(jobs, here, folder), *_told(folder)) if tell else ():
        print(line, flush=True)
    note_use(folder, output)
    write_pointer(output, folder, [_names(job, job in here) for job in jobs])
    return folder


def _digests(job: Job, may_lack: bool) -> list[str] | None:
    """Return the digests of a job's files; None where they are not here and need not be."""
    try:
        return digests_of(job)
    except UserError:
        if may_lack:
            return None
        raise


def _names(job: Job, is_here: bool) -> Names:
    return names_of(job) if is_here else Names(named(job.source), [])


def _without(jobs: Sequence[Job], here: Sequence[Job], folder: Path) -> Iterator[str]:
    """Yield a line for each source that is not here."""
    for job in jobs:
        if job not in here:
            yield f"data {job.source.name}: {named(job.source)} is not here; {folder} holds what was made of it"


def names_of(job: Job) -> Names:
    """Return what a run calls a source and its files."""
    found, path = job.found, named(job.source)
    return Names(path, [str(file) for file in found.files], list(found.origins), found.revision)


def _fetched(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each data set of a hub: the commit that was read."""
    read = {(job.source.path, job.found.revision) for job in jobs if job.found.revision}
    for path, revision in sorted(read, key=str):
        yield f"read {path} at revision {revision}"


def first_items(job: Job, kind: Kind) -> Iterator[Item]:
    """Yield what the first rows of a job hold, those that can be used."""
    for number, line, raw in islice(rows_of(job.source, job.files), 100):
        with suppress(UserError):
            yield parse_row(job.source, line, raw, job.files[number], kind)


def _told(folder: Path) -> Iterator[str]:
    """Yield a line for each source: what became of its rows."""
    for report in source_reports(read_report(folder)):
        kind = "evaluation data" if report.evaluation else "data"
        share = 100 * report.trainable / max(report.tokens, 1)
        counts = ((report.truncated, "truncated"), (report.dropped, "dropped"), (report.bad, "bad"))
        same = f" ({report.same:,} pairs of the same tokens)" if report.same else ""
        parts = [
            f"{report.read:,} rows",
            *(f"{count:,} {gate}{same * (gate == 'dropped')}" for count, gate in counts if count),
            f"{report.tokens:,} tokens ({share:.0f} % carry loss)",
        ]
        yield f"{kind} {report.name}: {', '.join(parts)}"
    for text in read_report(folder).get("served", ()):
        yield f"warning: {text}"


def default_cache() -> Path:
    """Return the folder that keeps prepared data: `TUNEC_CACHE`, else `tunec` in the user's cache folder."""
    return cache_folder("prepared")


class Preparation:
    """One preparation: parts come back from the workers in the order of the rows."""

    def __init__(
        self,
        jobs: Sequence[Job],
        options: Options,
        bad_rows: str,
        max_bad_share: float,
        workers: int | None,
        batch_rows: int = CHUNK,
    ) -> None:
        """Remember what is asked for."""
        self.jobs = jobs
        self.options = options
        self.bad_rows = bad_rows
        self.max_bad_share = max_bad_share
        self.workers = workers
        self.batch_rows = batch_rows
        self.basis: Mapping[str, Any] | None = None
        """What decides the result, where it is to be written down beside it."""
        self.replaces = False
        """Whether complete data in the folder give way."""
        self.tokenizer = ""
        self.served: list[str] = []
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
                self._check_served(loaded, tokenizer.path)
                origins = self._write(loaded, staging)
                self._check_unchanged(digests)
                self._split(staging, origins, eval_rows, seed, mix)
                if self.basis is not None:
                    write_basis(staging, self.basis)
            self._publish(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _check_served(self, tokenizer: Any, path: Path | str) -> None:
        stops = stop_tokens(tokenizer, named_in(path) if isinstance(path, Path) else None)
        for job in self.jobs:
            items = first_items(job, self.options.kind)
            found = check_served(tokenizer, items, options=self.options, stops=stops)
            self.served += [text for text in found if text not in self.served]

    def _publish(self, staging: Path, folder: Path) -> None:
        if not is_complete(folder):
            storage.commit_directory(staging, folder, {"engine": ENGINE})
        elif self.replaces:
            whole = folder.parent / f"{staging.name}.whole"
            storage.commit_directory(staging, whole, {"engine": ENGINE})
            storage.replace_directory(whole, folder)

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
        for result in self._work(tokenizer):
            if result.fault is not None and self.bad_rows == "error":
                raise result.fault
            yield result

    def _work(self, tokenizer: Any) -> Iterator[Result]:
        return work(self.jobs, tokenizer, self.options, self.workers, num_rows=self.batch_rows)

    def _check_counts(self) -> None:
        for report, job in zip(self.reports, self.jobs, strict=True):
            path = named(job.source)
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
            # Files can have come or gone.
            if digests_of(job.anew()) != digest:
                raise UserError(
                    f"{named(job.source)}: the file changed while it was read",
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
        # Of a stream, the evaluation data alone are prepared.
        check_trainable(training or evaluation, self.options.max_length)
        write_report(
            staging,
            self.reports,
            {
                "training": _counts(training, -held_out),
                "evaluation": _counts(evaluation, held_out),
                "kind": self.options.kind,
                "tokenizer": self.tokenizer,
                "served": self.served,
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
        raise all_dropped(read, max_length, sum(r.same for r in reports))
