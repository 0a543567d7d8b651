"""The first rows of a stream, prepared like other data: to be held out for evaluation, or to be looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ..digest import key_of
from ..fitting import Options
from ..formats import Source
from ..order import Mix
from ..place import is_complete
from ..prepare import Preparation, default_cache, names_of
from ..prepared import write_pointer
from ..read import rows_of
from ..tokenizer import Tokenizer
from ..users import note_use
from ..work import Job, Row
from .rows import Rows


@dataclass(frozen=True)
class Span(Job):
    """Some rows of a source, from `first` to `end`, the end left out."""

    first: int = 0
    end: int = 0

    def rows(self) -> Iterator[Row]:
        """Yield these rows."""
        return islice(rows_of(self.source, self.files), self.first, self.end)


class _Head(Preparation):
    """What was read is what the name of the result digests; the rest of the files may change."""

    def _check_unchanged(self, digests: Sequence[Sequence[str]]) -> None:
        """Nothing to compare."""


def head(
    sources: Sequence[Source],
    *,
    evaluation: Sequence[Source] = (),
    tokenizer: Tokenizer,
    options: Options,
    eval_rows: int = 0,
    mix: Mix = "concat",
    seed: int,
    bad_rows: str = "error",
    num_rows: int = 1000,
    output: Path,
    cache_dir: Path | None = None,
) -> Path:
    """Prepare the first `num_rows` rows of a stream and of each evaluation source, to be shown; return their folder.

    The first `eval_rows` of the stream are evaluation data, as in training.

    Raises:
        UserError: (DATA) as `prepare`.
    """
    jobs = [Job(number, source, False, seed) for number, source in enumerate(sources)]
    rows = Rows(jobs, mix=mix)
    held, shown = rows.first(eval_rows), rows.first(eval_rows + num_rows)
    spans = [
        Span(0, job.source, False, seed, first, end)
        for job, first, end in zip(jobs, held, shown, strict=True)
    ]
    spans += spans_of(jobs, held)
    spans += [Span(0, source, True, seed, 0, num_rows) for source in evaluation]
    return prepare_spans(
        spans, tokenizer, options, mix=mix, bad_rows=bad_rows, output=output, cache_dir=cache_dir
    )


def spans_of(jobs: Sequence[Job], held_out: Sequence[int]) -> list[Span]:
    """Return the rows of each source that are held out for evaluation."""
    return [
        Span(0, job.source, True, job.seed, 0, count)
        for job, count in zip(jobs, held_out, strict=True)
    ]


def prepare_spans(
    spans: Sequence[Span],
    tokenizer: Tokenizer,
    options: Options,
    *,
    mix: Mix = "concat",
    bad_rows: str,
    output: Path,
    cache_dir: Path | None = None,
) -> Path:
    """Prepare some rows, and return the folder with the result; `output` gets a pointer to it."""
    chosen = [span for span in spans if span.end > span.first]
    jobs = [replace(span, number=number) for number, span in enumerate(chosen)]
    digests = [[_digest(job)] for job in jobs]
    places = [(job.first, job.end) for job in jobs]
    key = key_of(jobs, digests, tokenizer, options, ("head", places, mix, bad_rows))
    folder = (cache_dir or default_cache()) / key
    if not is_complete(folder):
        # So few rows do not tell what share of all is bad.
        made = _Head(jobs, options, bad_rows, 1.0, 1)
        made.run(tokenizer, folder, eval_rows=0, seed=0, mix=mix, digests=digests)
    note_use(folder, output)
    write_pointer(output, folder, [names_of(job) for job in jobs])
    return folder


def _digest(job: Job) -> str:
    known = hashlib.sha256()
    for number, line, raw in job.rows():
        known.update(repr((number, line, raw)).encode("utf-8", "surrogatepass"))
    return known.hexdigest()
