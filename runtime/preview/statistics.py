"""Lengths of samples in numbers: percentiles, and a histogram of equal and round bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.prepared import Integers

PERCENTS = (5, 25, 50, 75, 95, 100)


def percentiles(lengths: Integers) -> tuple[int, ...]:
    """Return the lengths that `PERCENTS` of the samples do not exceed; each is the length of a sample."""
    if len(lengths) == 0:
        return ()
    return tuple(int(n) for n in np.percentile(lengths, PERCENTS, method="inverted_cdf"))


@dataclass(frozen=True)
class Histogram:
    """Samples by length: bin `i` counts lengths from `i * width` up to `(i + 1) * width - 1`."""

    width: int
    counts: tuple[int, ...]


def histogram(lengths: Integers, *, most_bins: int = 24) -> Histogram:
    """Return the counts of at most `most_bins` bins from 0 to the longest sample."""
    longest = int(lengths.max()) if len(lengths) else 0
    width = _round_up((longest + 1) / most_bins)
    counts = np.bincount(lengths // width, minlength=1)
    return Histogram(width, tuple(int(count) for count in counts))


def _round_up(least: float) -> int:
    """Return the first of 1, 2, 5, 10, 20, 50, ... that is not below."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if factor * size >= least:
                return factor * size
        size *= 10
