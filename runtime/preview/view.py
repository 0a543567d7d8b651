"""What a preview shows, whatever it is shown on: statistics of each source, and chosen samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.prepared import (
    EVAL,
    FILE,
    ORIGIN,
    Integers,
    SourceReport,
    StoredRows,
    read_report,
)
from .pieces import Gap, Piece, pieces_of
from .statistics import Histogram, histogram, percentiles

GATES = {
    "truncated": "truncated",
    "dropped": "dropped",
    "bad": "bad",
    "without_loss": "without loss",
}
"""Gates of the report, in the words of people."""


@dataclass(frozen=True)
class SourceView:
    """One source: what became of its rows, and how long its samples are."""

    number: int
    report: SourceReport
    percentiles: tuple[int, ...]
    histogram: Histogram

    @property
    def path(self) -> str:
        """Where the rows are: a file, folder or pattern."""
        return os.path.normpath(self.report.path)

    def count(self, gate: str) -> int:
        """Return how many rows came to a gate."""
        return int(getattr(self.report, gate))

    def file(self, number: int) -> str:
        """Return a file of the source, in the way that the places of the report begin."""
        listed = self.report.files
        return os.path.normpath(listed[number]) if number < len(listed) else self.path

    def problem_at(self, row: int) -> tuple[str, str] | None:
        """Return (gate, place and what is wrong) of a row that is listed behind a gate."""
        starts = [f"{self.file(number)}:{row}" for number in range(max(len(self.report.files), 1))]
        for gate in GATES:
            for problem in self.report.problems.get(gate, []):
                if any(problem == start or problem.startswith(f"{start}: ") for start in starts):
                    return gate, problem
        return None

    @property
    def label(self) -> str:
        """Name of the source, and its use where that is not training."""
        return f"{self.report.name} (evaluation)" if self.report.evaluation else self.report.name


@dataclass(frozen=True)
class Shown:
    """One sample."""

    source: SourceView
    place: str
    """File and row, as the report names them."""
    evaluation: bool
    length: int
    num_loss: int
    gates: tuple[str, ...]
    pieces: Sequence[Piece | Gap]


class View:
    """A prepared folder, looked at."""

    def __init__(self, folder: Path, *, max_length: int, source: str | None = None) -> None:
        """Map the folder; `source` leaves one source of it."""
        every: Integers = np.arange(len(np.load(folder / ORIGIN, mmap_mode="r")), dtype=np.int64)
        self.max_length = max_length
        self.rows = StoredRows(folder, every)
        self.origins: Integers = np.load(folder / ORIGIN, mmap_mode="r")
        self.files: Integers = np.load(folder / FILE, mmap_mode="r")
        self.evaluation = frozenset(np.load(folder / EVAL).tolist())
        listed = read_report(folder)["sources"]
        reports = [SourceReport(**report) for report in listed]
        self.sources = [
            self._source(number, report)
            for number, report in enumerate(reports)
            if source is None or report.name == source
        ]
        self.names = list(dict.fromkeys(report.name for report in reports))

    def _source(self, number: int, report: SourceReport) -> SourceView:
        lengths = self.rows.lengths[self.origins[:, 0] == number]
        return SourceView(number, report, percentiles(lengths), histogram(lengths))

    @property
    def candidates(self) -> Integers:
        """Samples of the sources that are looked at."""
        numbers = [source.number for source in self.sources]
        found: Integers = np.flatnonzero(np.isin(self.origins[:, 0], numbers))
        return found

    def drawn(self, count: int, seed: int) -> list[int]:
        """Return `count` samples drawn at random, in their order; all where there are no more."""
        found = self.candidates
        if count >= len(found):
            return [int(index) for index in found]
        chosen = np.random.default_rng(seed).choice(found, size=count, replace=False)
        return sorted(int(index) for index in chosen)

    def at_row(self, row: int) -> list[int]:
        """Return the samples of a row: none, one, or one in each of several sources."""
        found = self.candidates
        return [int(index) for index in found[self.origins[found, 1] == row]]

    def behind_gates(self, most: int) -> list[int]:
        """Return the first samples that were cut or that carry no loss."""
        found = self.candidates
        without = self.rows.trainable[found] == 0
        cut = self.rows.lengths[found] == self.max_length
        return [int(index) for index in found[without | cut][:most]]

    def shown(self, index: int, tokenizer: Any, *, full: bool) -> Shown:
        """Return a sample to show."""
        number, row = (int(value) for value in self.origins[index])
        source = next(source for source in self.sources if source.number == number)
        sample = self.rows[index]
        place = f"{source.file(int(self.files[index]))}:{row}"
        return Shown(
            source,
            place,
            source.report.evaluation or index in self.evaluation,
            len(sample.input_ids),
            sample.num_trainable,
            tuple(self._gates(source, place, len(sample.input_ids), sample.num_trainable)),
            pieces_of(sample, tokenizer, full=full),
        )

    def _gates(self, source: SourceView, place: str, length: int, num_loss: int) -> Iterator[str]:
        listed = source.report.problems.get("truncated", [])
        if place in listed:
            yield "truncated"
        elif source.report.truncated > len(listed) and length == self.max_length:
            # Only the first places are listed; a sample of just this length is as good as a cut one.
            yield "truncated"
        if num_loss == 0:
            yield "without_loss"


def near(place: str) -> str:
    """Return a path, or a text that begins with one, the short way where it lies in the working folder."""
    here = os.path.join(os.getcwd(), "")
    return place.removeprefix(here)
