"""Batches of a stream: which samples each step takes."""

from __future__ import annotations

import os

from ...rank import rank_from_env
from ..batches import GlobalBatches
from .place import Reader
from .reader import ByNumber, StreamedSamples


class StreamBatches(GlobalBatches):
    """Samples of every step of a stream: step `s` takes `global_size` of them from `s * global_size` on."""

    def __init__(self, samples: StreamedSamples, *, global_size: int) -> None:
        """Remember the stream."""
        self.rows = samples.streamed
        lengths = ByNumber(len(samples), self._length)
        super().__init__(lengths, global_size=global_size, seed=0, shuffle=False)
        self._done = self.rows.producer.first
        self._wanted = 0
        self._tell()

    def step(self, number: int) -> list[int]:
        """Return the samples of step `number` (from 0), the longest first; waits until they are there.

        Steps that a resumed run has behind it are passed over, not read.
        """
        start = number * self.global_size
        chosen = range(start, start + self.global_size)
        if chosen.stop <= self.rows.producer.first:
            return list(chosen)
        if chosen.stop > self._wanted:
            self._wanted = chosen.stop
            self._tell()
        self.rows.wait_for(chosen.stop - 1)
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))

    def finish(self, step: int) -> None:
        """Give back the samples of all steps before `step`."""
        self._done = max(self._done, step * self.global_size)
        self._tell()

    def epochs_done(self, step: int) -> int:
        """Return how many epochs are complete after so many steps."""
        return self.rows.epoch(step * self.global_size - 1)

    def epoch(self, step: int) -> float:
        """Return how many epochs are complete before `step`; how far the next one is, nobody knows."""
        return float(self.rows.epoch(step * self.global_size - 1))

    def _length(self, index: int) -> int:
        return 1 if index < self.rows.producer.first else self.rows.length(index)

    def _tell(self) -> None:
        ranks = int(os.environ.get("WORLD_SIZE") or 1)
        self.rows.place.report(rank_from_env(), Reader(self._done, self._wanted, ranks))
