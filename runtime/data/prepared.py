"""Prepared data: tokens, loss flags and statistics on disk, read through the page cache and never copied whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .. import storage
from ..errors import ExitCode, UserError
from ..records import read_json
from .encode import Flags, Tokens
from .light import check_same
from .samples import IGNORED, Sample, Samples

TOKENS, LOSS, INDEX, TRAINABLE, ORIGIN, FILE, TRAIN, EVAL, REPORT = (
    "tokens.bin",
    "loss.bin",
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


@dataclass
class SourceReport:
    """What became of the rows of one source."""

    name: str
    path: str
    evaluation: bool = False
    files: list[str] = field(default_factory=list)
    """The files that `path` names, in the order they are read."""
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
    problems: dict[str, list[str]] = field(default_factory=dict)
    """The first places behind each gate: `truncated`, `dropped`, `bad`, `without_loss`."""

    def note(self, gate: str, place: str) -> None:
        """Count a row at a gate and remember the first places."""
        setattr(self, gate, getattr(self, gate) + 1)
        listed = self.problems.setdefault(gate, [])
        if len(listed) < 20:
            listed.append(place)

    def add(self, other: SourceReport) -> None:
        """Add the counts of another part of the same source."""
        for name in ("read", "kept", "tokens", "trainable", "endless"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for gate in ("truncated", "dropped", "bad", "without_loss"):
            setattr(self, gate, getattr(self, gate) + getattr(other, gate))
            places = other.problems.get(gate, [])
            if places:
                listed = self.problems.setdefault(gate, [])
                listed += places[: 20 - len(listed)]


@dataclass(frozen=True)
class Part:
    """Some samples end to end, as a worker returns them."""

    tokens: Tokens
    loss: Flags
    lengths: Integers
    trainable: Integers
    origins: Integers
    """Source and line of each sample, int64 `[samples, 2]`."""
    files: Integers
    """Which file of its source each sample is from, int64 `[samples]`."""


class StoredRows(Sequence[Sample]):
    """Samples of a prepared folder, read when they are asked for."""

    def __init__(self, folder: Path, chosen: Integers) -> None:
        """Map the files; `chosen` are the samples of the folder that belong to this set."""
        self.folder = folder
        self.chosen = chosen
        index: Integers = np.load(folder / INDEX, mmap_mode="r")
        self._starts, self._ends = index[:-1][chosen], index[1:][chosen]
        self._tokens = _mapped(folder / TOKENS, np.dtype(np.uint32))
        self._loss = _mapped(folder / LOSS, np.dtype(np.bool_))

    @property
    def lengths(self) -> Integers:
        """Number of tokens of each sample, int64 `[samples]`."""
        return self._ends - self._starts

    @property
    def trainable(self) -> Integers:
        """Number of tokens that carry loss in each sample, int64 `[samples]`."""
        found: Integers = np.load(self.folder / TRAINABLE, mmap_mode="r")[self.chosen]
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
        part = slice(int(self._starts[index]), int(self._ends[index]))
        ids = self._tokens[part].astype(np.int64)
        labels = np.where(self._loss[part], ids, IGNORED)
        return Sample(ids.tolist(), labels.tolist())


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
        self._parts: list[Part] = []

    def append(self, part: Part) -> None:
        """Append the samples of a part."""
        self._tokens.write(part.tokens.astype("<u4", copy=False).tobytes())
        self._loss.write(part.loss.tobytes())
        # Tokens are on disk now; what stays is some bytes a sample.
        self._parts.append(replace(part, tokens=part.tokens[:0], loss=part.loss[:0]))

    def close(self) -> None:
        """Close the files; what is not finished is of no use."""
        self._tokens.close()
        self._loss.close()

    def finish(self) -> tuple[Integers, Integers]:
        """Write the indices; return the origins (source, row) and the lengths of all samples."""
        self.close()
        lengths = _joined([part.lengths for part in self._parts])
        origins = np.concatenate([np.zeros((0, 2), np.int64), *(p.origins for p in self._parts)])
        np.save(self.folder / INDEX, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        np.save(self.folder / TRAINABLE, _joined([part.trainable for part in self._parts]))
        np.save(self.folder / ORIGIN, origins)
        np.save(self.folder / FILE, _joined([part.files for part in self._parts]))
        return origins, lengths


def _joined(arrays: Sequence[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def write_report(folder: Path, reports: Sequence[SourceReport], facts: Mapping[str, Any]) -> None:
    """Write what became of the rows."""
    content = {**facts, "sources": [asdict(report) for report in reports]}
    (folder / REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_report(folder: Path) -> dict[str, Any]:
    """Return what `write_report` wrote."""
    found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return found


def load(run_dir: Path, tokenizer: Any = None) -> tuple[Samples, Samples]:
    """Return the (training, evaluation) samples that `prepare.py` made for a run, if with this tokenizer.

    Raises:
        UserError: (DATA) there are none, they are torn or changed, or another tokenizer made them.
    """
    pointer = read_json(run_dir / POINTER)
    folder = pointer.get("folder")
    if not isinstance(folder, str):
        raise UserError(
            "the data are not prepared",
            help="start with ./launch.sh, or run prepare.py first",
            code=ExitCode.DATA,
        )
    return open_prepared(Path(folder), tokenizer)


def open_prepared(folder: Path, tokenizer: Any = None) -> tuple[Samples, Samples]:
    """Return (training, evaluation) samples of a prepared folder, if made with the tokenizer that is given.

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
    return _samples(folder, TRAIN, report, False), _samples(folder, EVAL, report, True)


def _samples(folder: Path, name: str, report: Mapping[str, Any], evaluation: bool) -> Samples:
    rows = StoredRows(folder, np.load(folder / name))
    counts = report["evaluation" if evaluation else "training"]
    warnings = () if evaluation else tuple(report["warnings"])
    return Samples(rows, counts["read"], counts["truncated"], counts["dropped"], warnings)
