"""The ranks' side of a stream: samples by their number, as soon as the producer has them."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from ...errors import ExitCode, UserError
from ...rank import rank_from_env
from ..light import check_same
from ..prepared import POINTER, Integers, load
from ..samples import Sample, Samples
from .chunks import Rows, open_chunk
from .ledger import Ledger
from .place import ChunkAt, Packing, Place, Producer

POLL_S = 0.05
TOLD_S = 30.0
"""Seconds between lines that say that data are waited for."""
LONGEST_S = 1800.0
"""A producer that gives nothing for so long has lost its source."""
OPEN_CHUNKS = 8
"""Chunks kept mapped."""


def stream(run_dir: Path, tokenizer: Any = None) -> tuple[StreamedSamples, Samples]:
    """Return the samples that `prepare.py` produces for this run, as they come, and the evaluation samples.

    Raises:
        UserError: (DATA) nobody produces them, or another tokenizer makes them.
    """
    place = Place(run_dir)
    producer = place.producer()
    if producer is None:
        raise place.failure() or UserError(
            "nobody reads the data of this stream",
            help="start with ./launch.sh, or run prepare.py beside this program",
            code=ExitCode.DATA,
        )
    if tokenizer is not None:
        check_same(producer.tokenizer, tokenizer)
    has_evaluation = (place.folder / POINTER).exists()
    evaluation = load(place.folder, tokenizer)[1] if has_evaluation else Samples(())
    return StreamedSamples(StreamedRows(place, producer), packing=producer.packing), evaluation


class StreamedRows(Sequence[Sample]):
    """Samples of a stream by their number; asking for one that is not there yet waits for it."""

    def __init__(self, place: Place, producer: Producer) -> None:
        """Open nothing yet."""
        self.place = place
        self.producer = producer
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of samples that the training takes."""
        return self.producer.total

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a sample, or several. That before the first is one that is at hand."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            return self._at_hand()
        if index >= len(self):
            raise IndexError(index)
        found = self._chunk(index)
        return found.rows[index - found.at.first]

    def length(self, number: int) -> int:
        """Return the number of tokens of a sample, of a pair that of the longer answer."""
        found = self._chunk(number)
        return int(found.lengths[number - found.at.first])

    def epoch(self, number: int) -> int:
        """Return how many epochs are complete with a sample."""
        at = self._chunk(number).at
        return at.epoch + sum(end <= number + 1 - at.first for end in at.ends)

    def wait_for(self, number: int) -> None:
        """Return once the sample is there; raises `UserError` when it never will be."""
        self._chunk(number)

    def _at_hand(self) -> Sample:
        if not self._open:
            self._chunk(self.producer.first)
        return next(reversed(self._open.values())).rows[0]

    def _chunk(self, number: int) -> _Open:
        for known in self._open.values():
            if known.at.first <= number < known.at.end:
                return known
        found = _Open(_wait(self.place, self.producer, number))
        self._open[found.at.first] = found
        while len(self._open) > OPEN_CHUNKS:
            self._open.popitem(last=False)
        return found


class _Open:
    """A chunk that is mapped."""

    def __init__(self, at: ChunkAt) -> None:
        self.at = at
        self.rows: Rows = open_chunk(at.folder)
        # Of a pair the longer answer: rows are padded to it.
        self.lengths: Integers = np.asarray(getattr(self.rows, "longest", self.rows.lengths))


def _wait(place: Place, producer: Producer, number: int) -> ChunkAt:
    """Return the chunk with a sample; raises `UserError` (DATA, LOST) when it never comes."""
    started = told = time.monotonic()
    while True:
        # Asked before: a producer that ends well has written everything by then.
        lives = producer.lives
        found = place.find(number)
        if found is not None:
            return found
        fault = place.failure()
        if fault is not None:
            raise fault
        if not lives:
            raise _lost()
        now = time.monotonic()
        if now - started > LONGEST_S:
            raise _nothing(number)
        if now - told > TOLD_S and rank_from_env() == 0:
            told = now
            print(
                f"waiting for data: {_known(place):,} samples are there",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(POLL_S)


def _known(place: Place) -> int:
    return max((chunk.end for chunk in place.chunks()), default=0)


def _lost() -> UserError:
    return UserError(
        "the process that reads the data was killed, probably for want of memory",
        help="lower `data.shuffle_buffer`; `--resume` goes on from the newest checkpoint",
        code=ExitCode.LOST,
    )


def _nothing(number: int) -> UserError:
    return UserError(
        f"no data for {LONGEST_S / 60:g} minutes: sample {number:,} does not come",
        help="look at what `data.sources` reads from",
        code=ExitCode.DATA,
    )


@dataclass(frozen=True)
class StreamedSamples(Samples):
    """The samples of a stream, of which only so many are there at a time."""

    packing: Packing = "off"

    @property
    def streamed(self) -> StreamedRows:
        """The rows, for what only streams can say."""
        assert isinstance(self.rows, StreamedRows)
        return self.rows

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Number of tokens of each sample, by its number; of a pair that of the longer answer."""
        return ByNumber(len(self), self.streamed.length)

    @property
    def longest(self) -> Sequence[int]:
        """Number of tokens of the longest sequence of each sample, by its number."""
        return self.lengths

    @property
    def num_together(self) -> int:
        """Sequences of a sample that stand in one forward pass: two of a pair."""
        return 1 + (self.rows[-1].rejected is not None)

    @property
    def shortest(self) -> int:
        """A sample that is at hand."""
        return -1

    def summary(self) -> str:
        """Return the line that is logged before training."""
        what = "samples" if self.packing == "off" else "packed rows"
        return f"a stream, of which {len(self):,} {what} are trained"

    def report(self) -> dict[str, Any]:
        """Return what became of the rows until the training had all it needed."""
        entry = Ledger(self.streamed.place.folder).at(len(self))
        return {key: value for key, value in asdict(entry).items() if key != "chunks"}

    def close(self) -> None:
        """Remove what is left of the stream, when the training is over."""
        self.streamed.place.clear()


class ByNumber(Sequence[int]):
    """Numbers that are looked up when they are asked for."""

    def __init__(self, count: int, look_up: Callable[[int], int]) -> None:
        self._count = count
        self._look_up = look_up

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._look_up(index)
