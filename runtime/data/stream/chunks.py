"""Chunks: some samples of a stream in a folder, laid out as prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ... import storage
from ..joining import JoinedRows
from ..packing import Bins, PackedRows, best_fit
from ..prepared import TRAIN, Integers, StoredRows, Writer
from ..samples import Samples
from .encoding import Encoded
from .place import Packing

BINS = "bins.npz"
"""File of a chunk that says which samples share a row."""
JOINED = "joined.npy"
"""File of a chunk that says how long the rows are into which its samples are cut, end to end."""

Rows = StoredRows | PackedRows | JoinedRows


class ChunkWriter:
    """Gathers the samples of a chunk on disk, aside."""

    def __init__(self, folder: Path, packing: Packing, max_length: int) -> None:
        """Begin the chunk that is to become `folder`; packed samples share rows of `max_length` tokens."""
        self.folder = folder
        self.packing = packing
        self.max_length = max_length
        self.staging = storage.staging_directory(folder)
        self.writer = Writer(self.staging)
        self.num_batches = 0
        self.num_samples = 0
        self._orders: list[Integers] = []
        self._ends: list[int] = []

    def add(self, encoded: Encoded) -> None:
        """Append the samples of a batch."""
        for part in encoded.parts:
            self.writer.append(part)
        self._orders.append(self.num_samples + encoded.order)
        self.num_batches += 1
        self.num_samples += len(encoded.order)
        if encoded.batch.ends_epoch:
            self._ends.append(self.num_samples)

    def commit(self, *, first: int, epoch: int) -> int:
        """Publish the chunk, whose first sample is number `first` of the stream, after `epoch` epochs; return the number after its last."""
        self.writer.finish()
        order = np.concatenate(self._orders)
        np.save(self.staging / TRAIN, order)
        self._pack(order)
        count = len(open_chunk(self.staging))
        # Where samples share rows, an epoch ends about there.
        ends = [end * count // self.num_samples for end in self._ends]
        meta = {"first": first, "end": first + count, "epoch": epoch, "ends": ends}
        storage.commit_directory(self.staging, self.folder, meta)
        return first + count

    def _pack(self, order: Integers) -> None:
        if self.packing == "joined":
            np.save(self.staging / JOINED, self.max_length)
        elif self.packing == "isolated":
            lengths = StoredRows(self.staging, order).lengths
            bins = best_fit(lengths, capacity=self.max_length)
            np.savez(self.staging / BINS, members=bins.members, borders=bins.borders)


def open_chunk(folder: Path) -> Rows:
    """Return the rows of a finished chunk."""
    rows = StoredRows(folder, np.load(folder / TRAIN))
    if (folder / JOINED).exists():
        return JoinedRows(Samples(rows), int(np.load(folder / JOINED)))
    if (folder / BINS).exists():
        bins: Any = np.load(folder / BINS)
        return PackedRows(Samples(rows), Bins(bins["members"], bins["borders"]))
    return rows
