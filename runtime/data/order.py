"""The order of several sources: one after the other, or drawn in turns by their weights."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Mix = Literal["concat", "interleave-under", "interleave-over", "interleave-once"]


def repeated(samples: Integers, total: int, seed: str) -> Integers:
    """Return the samples followed by repetitions up to `total`: all of them in turn, the rest drawn at random."""
    if len(samples) == 0 or total <= len(samples):
        return samples
    times, rest = divmod(total, len(samples))
    drawn = sorted(Random(seed).sample(range(len(samples)), rest))
    return np.concatenate([*[samples] * times, samples[drawn]])


def mixed(parts: Sequence[Integers], weights: Sequence[float | None], mix: Mix) -> Integers:
    """Return the samples of all sources in the order of the mix.

    Drawn in turns means evenly: after any number of draws each source has had its share, to within one row, and
    rows of a source keep their order. `interleave-under` ends with the first source that is used up,
    `interleave-over` with the last (the others begin again), `interleave-once` takes each row once.
    """
    if mix == "concat":
        return np.concatenate([np.zeros(0, np.int64), *parts])
    shares = np.array([1.0 if weight is None else weight for weight in weights])
    lengths = np.array([len(part) for part in parts])
    counts = _counts(shares, lengths, mix)
    turns = [(np.arange(count) + 1) / share for share, count in zip(shares, counts, strict=True)]
    sources = np.repeat(np.arange(len(parts)), counts)
    rows = [part[np.arange(n) % max(len(part), 1)] for part, n in zip(parts, counts, strict=True)]
    return np.concatenate(rows)[np.lexsort((sources, np.concatenate(turns)))]


def _counts(shares: npt.NDArray[np.float64], lengths: Integers, mix: Mix) -> Integers:
    """Return how many rows of each source are drawn: draw `k` of a source has its turn at `(k + 1) / share`."""
    if mix == "interleave-once":
        return lengths
    if not lengths.any():
        return lengths
    ends = lengths[lengths > 0] / shares[lengths > 0]
    last = ends.min() if mix == "interleave-under" else ends.max()
    # What the division of exact shares loses must not lose a row.
    counts: Integers = np.floor(last * shares + 1e-9).astype(np.int64)
    return np.where(lengths > 0, counts, 0)
