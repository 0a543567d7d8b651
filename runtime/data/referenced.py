"""Samples with the log-probabilities that a reference gave their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .samples import Sample

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class ReferencedRows(Sequence[Sample]):
    """Rows of a data set; once log-probabilities are known, each sample brings its own."""

    def __init__(self, rows: Sequence[Sample]) -> None:
        """Wrap the rows, of which nothing is known yet."""
        self._rows = rows
        self._values: Floats | None = None
        self._starts: Integers | None = None

    def put(self, values: Floats, counts: Integers) -> None:
        """Take the log-probabilities of all tokens with a label, end to end.

        `counts` says how many there are of each sequence, int64 `[samples, 2]`; the second is that of the rejected one.
        """
        self._values = values
        self._starts = np.concatenate([[0], np.cumsum(counts.ravel())])

    def __getattr__(self, name: str) -> Any:
        """Return what the rows know of themselves, such as their lengths."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._rows, name)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a sample, or several."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        sample = self._rows[index]
        if self._values is None or self._starts is None:
            return sample
        first, second, end = (int(self._starts[2 * index + offset]) for offset in range(3))
        other = sample.rejected
        if other is not None:
            other = replace(other, reference=self._values[second:end].tolist())
        return replace(sample, reference=self._values[first:second].tolist(), rejected=other)
