"""The order of the rows of a stream: the turns of several sources, and a shuffle within a buffer."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any, Generic, TypeVar

from ..order import Mix

T = TypeVar("T")
_END: Any = object()


def in_turns(
    sources: Sequence[Callable[[], Iterator[T]]], weights: Sequence[float | None], mix: Mix
) -> Iterator[tuple[int, T]]:
    """Yield (number of the source, row) in the order that `order.mixed` gives the same rows, without counting them.

    Each source is a function that begins to read it. One that has no rows takes no turns.
    """
    if mix == "concat":
        for number, begin in enumerate(sources):
            yield from ((number, row) for row in begin())
        return
    shares = [1.0 if weight is None else weight for weight in weights]
    readers = [_Reader(begin) for begin in sources]
    waiting = [(1 / share, number) for number, share in enumerate(shares) if readers[number].left]
    heapq.heapify(waiting)
    unread = {number for _, number in waiting}
    last = math.inf
    while waiting:
        _, number = heapq.heappop(waiting)
        reader, share = readers[number], shares[number]
        if last < math.inf and reader.taken + 1 > math.floor(last * share + 1e-9):
            continue
        yield number, reader.take()
        if not reader.left:
            unread.discard(number)
            if mix == "interleave-once":
                continue
            if last == math.inf and (mix == "interleave-under" or not unread):
                last = reader.taken / share
            if mix == "interleave-under":
                continue
            reader.begin_again()
        heapq.heappush(waiting, ((reader.taken + 1) / share, number))


class _Reader(Generic[T]):
    """Rows of a source, one of them read ahead: a source is known to be used up with its last row."""

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin
        self.taken = 0
        self.begin_again()

    def begin_again(self) -> None:
        self._rows = self._begin()
        self._next: Any = next(self._rows, _END)

    @property
    def left(self) -> bool:
        return self._next is not _END

    def take(self) -> T:
        row: T = self._next
        self._next = next(self._rows, _END)
        self.taken += 1
        return row


def shuffled(rows: Iterator[T], size: int, seed: str) -> Iterator[T]:
    """Yield every row once, drawn at random from a buffer of `size` rows; a buffer of 1 keeps the order."""
    random = Random(seed)
    buffer = list(islice(rows, size))
    for row in rows:
        at = random.randrange(len(buffer))
        drawn, buffer[at] = buffer[at], row
        yield drawn
    random.shuffle(buffer)
    yield from buffer
