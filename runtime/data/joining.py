"""Joining: texts end to end, cut into rows of one length wherever the cut falls. For pretraining, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from .samples import Sample, Samples

Integers = npt.NDArray[np.int64]


class JoinedRows(Sequence[Sample]):
    """Row `n` holds the tokens `n * length` up to `(n + 1) * length - 1` of all samples end to end.

    Texts are told apart by their end-of-sequence tokens alone: attention sees what stands before in the row. A last
    row of a single token, which nothing predicts, is left out.
    """

    def __init__(self, samples: Samples, length: int) -> None:
        """Remember where each sample ends."""
        self.samples = samples
        self.length = length
        self._ends: Integers = np.cumsum(np.asarray(samples.lengths, np.int64))

    @property
    def total(self) -> int:
        """Tokens of all samples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def lengths(self) -> Integers:
        """Number of tokens of each row, int64 `[rows]`."""
        starts = np.arange(len(self), dtype=np.int64) * self.length
        return np.minimum(self.total - starts, self.length)

    def __len__(self) -> int:
        """Return the number of rows."""
        whole, rest = divmod(self.total, self.length)
        return whole + (rest > 1)

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
        start = index % len(self) * self.length
        end = min(start + self.length, self.total)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, end, side="left"))
        ids: list[int] = []
        labels: list[int] = []
        for number in range(first, last + 1):
            sample = self.samples[number]
            before = int(self._ends[number]) - len(sample.input_ids)
            part = slice(max(start - before, 0), end - before)
            ids += sample.input_ids[part]
            labels += sample.labels[part]
        return Sample(ids, labels)


@dataclass(frozen=True)
class JoinedSamples(Samples):
    """Rows of texts end to end: what is counted, ordered and batched are rows."""

    apart: Samples = field(default_factory=lambda: Samples(()))
    max_length: int = 0

    @property
    def num_samples(self) -> int:
        """Texts in all rows."""
        return len(self.apart)

    def summary(self) -> str:
        """Return the line that is logged before training."""
        return f"{self.apart.summary()}, joined into {len(self):,} rows of {self.max_length:,}"


def join(samples: Samples, *, max_length: int) -> JoinedSamples:
    """Return the samples end to end in rows of `max_length` tokens; what follows sees what stands before."""
    rows = JoinedRows(samples, max_length)
    counts = (samples.num_read, samples.num_truncated, samples.num_dropped)
    return JoinedSamples(rows, *counts, samples.warnings, samples, max_length)
