"""Packing: samples end to end in rows of one length, by best fit, so that almost nothing is left empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from ..errors import ExitCode, UserError
from .samples import IGNORED, Sample, Samples

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Which samples share a row: row `n` holds `members[borders[n]:borders[n + 1]]`."""

    members: Integers
    borders: Integers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.borders) - 1

    def __getitem__(self, row: int) -> Integers:
        """Return the samples of a row, int64 `[samples]`."""
        return self.members[self.borders[row] : self.borders[row + 1]]


def best_fit(lengths: Sequence[int] | Integers, *, capacity: int) -> Bins:
    """Return rows of at most `capacity` tokens that hold every sample once, by best-fit decreasing.

    The longest sample comes first, and each goes where the least room is left after it. The same lengths give the
    same rows everywhere. Rows are numbered by their first sample's place in the data, not by how full they are, so
    that data read in file order stay nearly so.

    Raises:
        UserError: (DATA) a sample is longer than a row.
    """
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and sizes.max() > capacity:
        raise UserError(
            f"a sample has {sizes.max():,} tokens, a packed row holds {capacity:,}",
            help="prepare the data again: start with ./launch.sh",
            code=ExitCode.DATA,
        )
    # Stable: among equal lengths the file's order decides.
    order = np.argsort(-sizes, kind="stable")
    row_of = np.empty(len(sizes), np.int64)
    row_of[order] = _place(sizes[order].tolist(), capacity)
    return _gathered(row_of)


def _place(decreasing: list[int], capacity: int) -> list[int]:
    """Return the row of each sample, given from the longest to the shortest."""
    rows_with: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit n is set where some row has room for n more tokens: the best fit is its lowest bit from `size` on
    rows, count = [], 0
    for size in decreasing:
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, count
            count += 1
        left = room - size
        rows_with[left].append(row)
        rooms |= 1 << left
        rows.append(row)
    return rows


def _gathered(row_of: Integers) -> Bins:
    """Return the members of each row in the data's order, rows by their first member."""
    _, first = np.unique(row_of, return_index=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    number = rank[row_of]
    borders = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(first)))])
    return Bins(np.argsort(number, kind="stable").astype(np.int64), borders.astype(np.int64))


class PackedRows(Sequence[Sample]):
    """Samples put together when a row is asked for; each keeps its length, and its first token no label."""

    def __init__(self, samples: Samples, bins: Bins) -> None:
        """Remember which samples go into which row."""
        self.samples = samples
        self.bins = bins

    def _sums(self, values: Sequence[int]) -> Integers:
        if not len(self.bins):
            return np.zeros(0, np.int64)
        ordered = np.asarray(values, np.int64)[self.bins.members]
        return np.add.reduceat(ordered, self.bins.borders[:-1])

    @property
    def lengths(self) -> Integers:
        """Number of tokens of each row, int64 `[rows]`."""
        return self._sums(self.samples.lengths)

    @property
    def trainable(self) -> Integers:
        """Number of tokens that carry loss in each row, int64 `[rows]`."""
        return self._sums(self.samples.trainable)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.bins)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a row, or several."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return joined([self.samples[int(member)] for member in self.bins[index % len(self)]])


def joined(samples: Sequence[Sample]) -> Sample:
    """Return the samples end to end; no label of a first token is left, as the token before is another's."""
    if any(sample.rejected is not None for sample in samples):
        raise ValueError("the two answers of pairs cannot share a row: rule D730 was not asked")
    weighted = any(sample.weights is not None for sample in samples)
    return Sample(
        [token for sample in samples for token in sample.input_ids],
        [label for sample in samples for label in _without_first(sample.labels)],
        tuple(part for sample in samples for part in sample.part_lengths),
        weights=[w for sample in samples for w in sample.token_weights] if weighted else None,
    )


def _without_first(labels: list[int]) -> list[int]:
    return [IGNORED] * len(labels[:1]) + labels[1:]


@dataclass(frozen=True)
class PackedSamples(Samples):
    """Rows of several samples each: what is counted, ordered and batched are rows."""

    unpacked: Samples = field(default_factory=lambda: Samples(()))
    max_length: int = 0

    @property
    def num_samples(self) -> int:
        """Samples in all rows."""
        return len(self.unpacked)

    @property
    def efficiency(self) -> float:
        """Share of the rows' room that tokens fill."""
        return self.num_tokens / max(1, len(self) * self.max_length)

    def summary(self) -> str:
        """Return the line that is logged before training."""
        packed = f"packed into {len(self):,} rows of {self.max_length:,}"
        return f"{self.unpacked.summary()}, {packed} ({100 * self.efficiency:.1f} % full)"


def pack(samples: Samples, *, max_length: int) -> PackedSamples:
    """Return the samples in rows of at most `max_length` tokens, which keep them apart.

    Raises:
        UserError: (DATA) a sample is longer than that.
    """
    rows = PackedRows(samples, best_fit(samples.lengths, capacity=max_length))
    return PackedSamples(
        rows,
        samples.num_read,
        samples.num_truncated,
        samples.num_dropped,
        samples.warnings,
        unpacked=samples,
        max_length=max_length,
    )
