"""Prepared data: tokens, loss flags and statistics on disk, read through the page cache and never copied whole."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .. import storage
from ..errors import ExitCode, UserError
from ..records import read_json
from .encode import Encoded, Flags, Tokens, Weights
from .items import Kind
from .light import check_same
from .samples import Sample, Samples, sample_of

TOKENS, LOSS, WEIGHTS, VALUES, ANSWERS, INDEX, TRAINABLE, ORIGIN, FILE, TRAIN, EVAL, REPORT = (
    "tokens.bin",
    "loss.bin",
    "weights.bin",
    "values.npy",
    "answers.json",
    "index.npy",
    "trainable.npy",
    "origin.npy",
    "file.npy",
    "train.npy",
    "eval.npy",
    "report.json",
)
POINTER = "prepared.json"
"""File of the run folder that says where its prepared data are."""
Integers = npt.NDArray[np.int64]


class Problem(NamedTuple):
    """A row behind a gate: the number of its file in the source, its line, and what is wrong where that can be said."""

    file: int
    line: int
    text: str = ""


@dataclass
class SourceReport:
    """What became of the rows of one source."""

    name: str
    evaluation: bool = False
    read: int = 0
    kept: int = 0
    truncated: int = 0
    dropped: int = 0
    bad: int = 0
    without_loss: int = 0
    endless: int = 0
    """Samples that never show the end-of-sequence token to the loss."""
    tokens: int = 0
    trainable: int = 0
    same: int = 0
    """Pairs, among those that were dropped, whose answers are the same tokens."""
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    """The first rows behind each gate: `truncated`, `dropped`, `bad`, `without_loss`."""

    def note(self, gate: str, problem: Problem) -> None:
        """Count a row at a gate and remember the first of them."""
        setattr(self, gate, getattr(self, gate) + 1)
        listed = self.problems.setdefault(gate, [])
        if len(listed) < 20:
            listed.append(problem)

    def add(self, other: SourceReport) -> None:
        """Add the counts of another part of the same source."""
        for name in ("read", "kept", "tokens", "trainable", "endless", "same"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for gate in ("truncated", "dropped", "bad", "without_loss"):
            setattr(self, gate, getattr(self, gate) + getattr(other, gate))
            places = other.problems.get(gate, [])
            if places:
                listed = self.problems.setdefault(gate, [])
                listed += places[: 20 - len(listed)]


@dataclass(frozen=True)
class Names:
    """What a run calls a source and its files: prepared data are shared, and do not know it."""

    path: str
    files: Sequence[str]
    origins: Sequence[str] = ()
    """Where each of the files was fetched from; nothing for files that were here."""
    revision: str = ""
    """The commit of a hub data set."""

    def place(self, file: int, line: int) -> str:
        """Return `file:line` the way editors understand it."""
        name = self.files[file] if file < len(self.files) else self.path
        return f"{os.path.normpath(name)}:{line}"

    def told(self, problem: Problem) -> str:
        """Return a problem with its place."""
        place = self.place(problem.file, problem.line)
        return f"{place}: {problem.text}" if problem.text else place


@dataclass(frozen=True)
class Part:
    """Some samples end to end, as a worker returns them. A sample is one sequence, or two in a pair."""

    tokens: Tokens
    loss: Flags
    weights: Weights | None
    """How much the loss of each token counts, where one does not count once."""
    lengths: Integers
    """Tokens of each sequence, int64 `[sequences]`."""
    trainable: Integers
    """Tokens that carry loss in each sequence, int64 `[sequences]`."""
    origins: Integers
    """Source and line of each sample, int64 `[samples, 2]`."""
    files: Integers
    """Which file of its source each sample is from, int64 `[samples]`."""
    values: npt.NDArray[np.float32] | None = None
    """The margin or label of each sample, fp32 `[samples]`."""
    answers: Sequence[Any] = ()
    """What the answer to each sample is compared with, where samples are prompts."""


class StoredRows(Sequence[Sample]):
    """Samples of a prepared folder, read when they are asked for."""

    def __init__(self, folder: Path, chosen: Integers) -> None:
        """Map the files; `chosen` are the samples of the folder that belong to this set."""
        self.folder = folder
        self.chosen = chosen
        index: Integers = np.load(folder / INDEX, mmap_mode="r")
        # A pair is two sequences, one after the other.
        total = len(np.load(folder / FILE, mmap_mode="r"))
        self._width = (len(index) - 1) // total if total else 1
        self._index = index
        self._tokens = _mapped(folder / TOKENS, np.dtype(np.uint32))
        self._loss = _mapped(folder / LOSS, np.dtype(np.bool_))
        self._weights, self._values = (folder / WEIGHTS).exists(), (folder / VALUES).exists()
        self._weight_of = _mapped(folder / WEIGHTS, np.dtype(np.float32)) if self._weights else None
        self._value_of = np.load(folder / VALUES, mmap_mode="r") if self._values else None

    @property
    def lengths(self) -> Integers:
        """Number of tokens of each sample, both sequences of a pair together, int64 `[samples]`."""
        found: Integers = (
            self._index[self.chosen * self._width + self._width]
            - self._index[self.chosen * self._width]
        )
        return found

    @property
    def longest(self) -> Integers:
        """Number of tokens of each sample, of the longer sequence of a pair, int64 `[samples]`."""
        each: Integers = np.diff(self._index).reshape(-1, self._width).max(1)
        return each[self.chosen]

    @property
    def num_together(self) -> int:
        """Sequences of a sample in one forward pass: both of a pair."""
        return self._width

    @property
    def prompts(self) -> Integers:
        """Number of tokens before the first that carries loss, of the first sequence of each sample, int64 `[samples]`."""
        starts = self._index[self.chosen * self._width]
        ends = self._index[self.chosen * self._width + 1]
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return np.array([int(self._loss[start:end].argmax()) for start, end in pairs], np.int64)

    @property
    def values(self) -> npt.NDArray[np.float32] | None:
        """The margin or label of each sample, fp32 `[samples]`; None where they have none."""
        return None if self._value_of is None else self._value_of[self.chosen]

    @cached_property
    def answers(self) -> list[Any]:
        """What answers to each sample are compared with, where samples are prompts; empty where the data do not say."""
        if not (self.folder / ANSWERS).exists():
            return []
        found = json.loads((self.folder / ANSWERS).read_text(encoding="utf-8"))
        return [found[number] for number in self.chosen.tolist()]

    @property
    def trainable(self) -> Integers:
        """Number of tokens that carry loss in each sample, int64 `[samples]`."""
        each: Integers = np.load(self.folder / TRAINABLE, mmap_mode="r")
        found: Integers = each.reshape(-1, self._width).sum(1)[self.chosen]
        return found

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.chosen)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a sample, or a part of the set."""
        if isinstance(index, slice):
            return StoredRows(self.folder, self.chosen[index])
        number = int(self.chosen[index])
        first = number * self._width
        sequences = [self._sequence(first + offset) for offset in range(self._width)]
        value = None if self._value_of is None else float(self._value_of[number])
        return sample_of(sequences, None if value is None or np.isnan(value) else value)

    def _sequence(self, number: int) -> Encoded:
        part = slice(int(self._index[number]), int(self._index[number + 1]))
        weights = None if self._weight_of is None else self._weight_of[part]
        return Encoded(self._tokens[part], self._loss[part], weights)


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


class Writer:
    """Appends samples to a folder that is being made."""

    def __init__(self, folder: Path) -> None:
        """Open the files."""
        self.folder = folder
        self._tokens = (folder / TOKENS).open("wb")
        self._loss = (folder / LOSS).open("wb")
        self._weights: BinaryIO | None = None
        self._parts: list[Part] = []

    def append(self, part: Part) -> None:
        """Append the samples of a part."""
        if part.weights is not None and self._weights is None:
            self._begin_weights()
        self._tokens.write(part.tokens.astype("<u4", copy=False).tobytes())
        self._loss.write(part.loss.tobytes())
        if self._weights is not None:
            weights = part.loss if part.weights is None else part.weights
            self._weights.write(weights.astype("<f4", copy=False).tobytes())
        # Tokens are on disk now; what stays is some bytes a sample.
        nothing = slice(0, 0)
        self._parts.append(
            replace(part, tokens=part.tokens[nothing], loss=part.loss[nothing], weights=None)
        )

    def _begin_weights(self) -> None:
        """Until now every token counted once, or not at all."""
        self._loss.flush()
        self._weights = (self.folder / WEIGHTS).open("wb")
        written = _mapped(self.folder / LOSS, np.dtype(np.bool_))
        for start in range(0, len(written), 2**20):
            self._weights.write(written[start : start + 2**20].astype("<f4").tobytes())

    def close(self) -> None:
        """Close the files; what is not finished is of no use."""
        for file in (self._tokens, self._loss, self._weights):
            if file is not None:
                file.close()

    def finish(self) -> tuple[Integers, Integers]:
        """Write the indices; return the origins (source, row) of all samples and the lengths of all sequences."""
        self.close()
        lengths = _joined([part.lengths for part in self._parts])
        origins = np.concatenate([np.zeros((0, 2), np.int64), *(p.origins for p in self._parts)])
        np.save(self.folder / INDEX, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        np.save(self.folder / TRAINABLE, _joined([part.trainable for part in self._parts]))
        np.save(self.folder / ORIGIN, origins)
        np.save(self.folder / FILE, _joined([part.files for part in self._parts]))
        values = [part.values for part in self._parts if part.values is not None]
        if values:
            np.save(self.folder / VALUES, np.concatenate(values))
        answers = [answer for part in self._parts for answer in part.answers]
        if any(answer is not None for answer in answers):
            (self.folder / ANSWERS).write_text(json.dumps(answers), encoding="utf-8")
        return origins, lengths


def _joined(arrays: Sequence[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def write_report(folder: Path, reports: Sequence[SourceReport], facts: Mapping[str, Any]) -> None:
    """Write what became of the rows, and `facts` about all of them."""
    content = {**facts, "sources": [asdict(report) for report in reports]}
    (folder / REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_report(folder: Path) -> dict[str, Any]:
    """Return what `write_report` wrote."""
    found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return found


def source_reports(report: Mapping[str, Any]) -> list[SourceReport]:
    """Return the reports of the sources in what `read_report` returned."""
    return [
        replace(SourceReport(**source), problems=_problems(source["problems"]))
        for source in report["sources"]
    ]


def _problems(listed: Mapping[str, Iterable[Sequence[Any]]]) -> dict[str, list[Problem]]:
    return {gate: [Problem(*problem) for problem in found] for gate, found in listed.items()}


@dataclass(frozen=True)
class Pointer:
    """Where the prepared data of a run are, and what the run calls their sources."""

    folder: Path
    names: Sequence[Names]


def write_pointer(run_dir: Path, folder: Path, names: Sequence[Names]) -> None:
    """Write where the prepared data of a run are."""
    sources = [asdict(name) for name in names]
    storage.write_json(
        run_dir / POINTER,
        {
            "folder": str(folder.absolute()),
            "key": folder.name,
            "digest": storage.sha256_file(folder / storage.MANIFEST),
            "sources": sources,
        },
    )


def read_pointer(run_dir: Path) -> Pointer:
    """Return what `write_pointer` wrote; raises `UserError` (DATA) where there is nothing."""
    found: dict[str, Any] = dict(read_json(run_dir / POINTER))
    if not isinstance(found.get("folder"), str):
        raise UserError(
            "the data are not prepared",
            help="start with ./launch.sh, or run prepare.py first",
            code=ExitCode.DATA,
        )
    return Pointer(Path(found["folder"]), [Names(**names) for names in found.get("sources", ())])


def load(run_dir: Path, tokenizer: Any = None) -> tuple[Samples, Samples]:
    """Return the (training, evaluation) samples that `prepare.py` made for a run, if with this tokenizer.

    Raises:
        UserError: (DATA) there are none, they are torn or changed, or another tokenizer made them.
    """
    pointer = read_pointer(run_dir)
    return open_prepared(pointer.folder, tokenizer, pointer.names)


def open_prepared(
    folder: Path, tokenizer: Any = None, names: Sequence[Names] = ()
) -> tuple[Samples, Samples]:
    """Return (training, evaluation) samples of a prepared folder, if made with the tokenizer that is given.

    `names` is what the run calls the sources, for warnings.

    Raises:
        UserError: (DATA) the folder is missing, torn or changed, or another tokenizer made it.
    """
    try:
        storage.verify_directory(folder, deep=False)
    except UserError as fault:
        raise UserError(
            f"the prepared data cannot be used: {fault.message}",
            help="delete that folder; it is made again at the next start",
            code=ExitCode.DATA,
        ) from None
    report = read_report(folder)
    if tokenizer is not None:
        check_same(report.get("tokenizer", ""), tokenizer)
    warnings = (*_warnings(source_reports(report), names), *report.get("served", ()))
    train = _samples(folder, TRAIN, report["training"], warnings)
    evaluation = _samples(folder, EVAL, report["evaluation"])
    return train, replace(evaluation, sets=_sets(folder, source_reports(report)))


def _sets(folder: Path, reports: Sequence[SourceReport]) -> dict[str, Samples]:
    """Return the samples of each evaluation source by its name; nothing where there are not several."""
    sources = [number for number, report in enumerate(reports) if report.evaluation]
    if len(sources) < 2:
        return {}
    chosen = np.load(folder / EVAL)
    origins = np.load(folder / ORIGIN, mmap_mode="r")[chosen, 0]
    names = _unique([reports[number].name for number in sources])
    return {
        name: Samples(StoredRows(folder, chosen[origins == number]), reports[number].read)
        for name, number in zip(names, sources, strict=True)
    }


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names, with a number after one that was there before."""
    found: list[str] = []
    for name in names:
        others = (f"{name}-{number}" for number in itertools.count(2))
        found.append(next(n for n in itertools.chain([name], others) if n not in found))
    return found


def kind_of_samples(folder: Path) -> Kind:
    """Return what the samples of a prepared folder are."""
    kind: Kind = read_report(folder)["kind"]
    return kind


def _samples(
    folder: Path, name: str, counts: Mapping[str, int], warnings: tuple[str, ...] = ()
) -> Samples:
    rows = StoredRows(folder, np.load(folder / name))
    return Samples(rows, counts["read"], counts["truncated"], counts["dropped"], warnings)


def _warnings(reports: Sequence[SourceReport], names: Sequence[Names]) -> list[str]:
    training = [(number, r) for number, r in enumerate(reports) if not r.evaluation]
    endless = sum(report.endless for _, report in training)
    bad = [(number, report) for number, report in training if report.bad]
    found = []
    if endless:
        found.append(
            f"{endless:,} samples never show the end-of-sequence token to the loss: the model may not learn to stop"
        )
    if bad:
        number, report = bad[0]
        told = _told(report.problems["bad"][0], number, names)
        count = sum(report.bad for _, report in bad)
        found.append(f"{count:,} bad rows were skipped, the first: {told}")
    return [*found, *_same(training, names)]


def _same(reports: Sequence[tuple[int, SourceReport]], names: Sequence[Names]) -> Iterator[str]:
    """Yield a line for pairs that were dropped because their answers are the same tokens."""
    count = sum(report.same for _, report in reports)
    for number, report in reports:
        first = next(
            (problem for problem in report.problems.get("dropped", ()) if problem.text), None
        )
        if first is not None:
            yield f"{count:,} pairs were dropped, there is nothing to prefer, the first: {_told(first, number, names)}"
            return


def _told(problem: Problem, number: int, names: Sequence[Names]) -> str:
    return names[number].told(problem) if number < len(names) else problem.text
