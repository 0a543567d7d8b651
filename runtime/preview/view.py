"""What a preview shows, whatever it is shown on: statistics of each source, and chosen samples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.items import Kind
from ..data.prepared import (
    ANSWERS,
    EVAL,
    FILE,
    ORIGIN,
    Integers,
    Names,
    Problem,
    SourceReport,
    StoredRows,
    read_pointer,
    read_report,
    source_reports,
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
    names: Names
    report: SourceReport
    percentiles: tuple[int, ...]
    histogram: Histogram

    @property
    def path(self) -> str:
        """Where the rows are: a file, folder or pattern."""
        return self.names.path

    def count(self, gate: str) -> int:
        """Return how many rows came to a gate."""
        return int(getattr(self.report, gate))

    def problem_at(self, row: int) -> tuple[str, Problem] | None:
        """Return the gate and the problem of a row that is listed behind a gate."""
        for gate in GATES:
            for problem in self.report.problems.get(gate, []):
                if problem.line == row:
                    return gate, problem
        return None

    @property
    def label(self) -> str:
        """Name of the source, and its use where that is not training."""
        return f"{self.report.name} (evaluation)" if self.report.evaluation else self.report.name


@dataclass(frozen=True)
class Part:
    """A sequence of a sample; where there are two, each has a title."""

    pieces: Sequence[Piece | Gap]
    title: str = ""


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
    parts: Sequence[Part]
    notes: tuple[str, ...] = ()
    """What else is known: a label, a margin, a reference answer."""


class View:
    """The prepared data of a run, looked at."""

    def __init__(self, run_dir: Path, *, max_length: int, source: str | None = None) -> None:
        """Map the data; `source` leaves one source of them."""
        pointer = read_pointer(run_dir)
        folder = pointer.folder
        every: Integers = np.arange(len(np.load(folder / ORIGIN, mmap_mode="r")), dtype=np.int64)
        self.max_length = max_length
        self.rows = StoredRows(folder, every)
        self.origins: Integers = np.load(folder / ORIGIN, mmap_mode="r")
        self.files: Integers = np.load(folder / FILE, mmap_mode="r")
        self.evaluation = frozenset(np.load(folder / EVAL).tolist())
        report = read_report(folder)
        self.kind: Kind = report["kind"]
        reports = source_reports(report)
        answers = folder / ANSWERS
        self.answers = json.loads(answers.read_text("utf-8")) if answers.exists() else None
        self.sources = [
            self._source(number, pointer.names[number], report)
            for number, report in enumerate(reports)
            if source is None or report.name == source
        ]
        self.names = list(dict.fromkeys(report.name for report in reports))

    def _source(self, number: int, names: Names, report: SourceReport) -> SourceView:
        lengths = self.rows.longest[self.origins[:, 0] == number]
        return SourceView(number, names, report, percentiles(lengths), histogram(lengths))

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
        without = (self.rows.trainable[found] == 0) & (self.kind != "prompts")
        cut = self.rows.longest[found] == self.max_length
        return [int(index) for index in found[without | cut][:most]]

    def shown(self, index: int, tokenizer: Any, *, full: bool) -> Shown:
        """Return a sample to show."""
        number, row = (int(value) for value in self.origins[index])
        source = next(source for source in self.sources if source.number == number)
        sample = self.rows[index]
        problem = Problem(int(self.files[index]), row)
        both = [sample] if sample.rejected is None else [sample, sample.rejected]
        titles = ("chosen", "rejected") if len(both) > 1 else ("",)
        return Shown(
            source,
            source.names.place(*problem[:2]),
            source.report.evaluation or index in self.evaluation,
            sum(len(side.input_ids) for side in both),
            sum(side.num_trainable for side in both),
            tuple(self._gates(source, problem, index)),
            [
                Part(pieces_of(side, tokenizer, full=full), title)
                for side, title in zip(both, titles, strict=True)
            ],
            tuple(self._notes(index, sample.value)),
        )

    def _notes(self, index: int, value: float | None) -> Iterator[str]:
        if value is not None:
            judged = "good" if value else "bad"
            yield f"margin {value:g}" if self.kind == "pairs" else f"a {judged} answer"
        if self.answers is not None:
            yield f"reference answer {json.dumps(self.answers[index], ensure_ascii=False)}"

    def _gates(self, source: SourceView, problem: Problem, index: int) -> Iterator[str]:
        listed = source.report.problems.get("truncated", [])
        if problem in listed:
            yield "truncated"
        elif source.report.truncated > len(listed) and self.rows.longest[index] == self.max_length:
            # Only the first places are listed; a sample of just this length is as good as a cut one.
            yield "truncated"
        if self.rows.trainable[index] == 0 and self.kind != "prompts":
            yield "without_loss"


def near(place: str) -> str:
    """Return a path, or a text that begins with one, the short way where it lies in the working folder."""
    here = os.path.join(os.getcwd(), "")
    return place.removeprefix(here)
