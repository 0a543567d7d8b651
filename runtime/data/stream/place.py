"""The folder of a stream inside a run folder: who writes what, and how the two sides find each other.

stream/producer.json    who produces, and what; there from the first chunk on
stream/failure.json     why the producer has failed
stream/ledger.jsonl     where the stream was after each chunk
stream/prepared.json    where the evaluation data are
stream/chunk-N/         samples from number N on, laid out as prepared data
stream/readers/         how far each rank is
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ... import storage
from ...errors import ExitCode, UserError
from ...rank import is_alive, start_time
from ...records import read_json

Packing = Literal["off", "isolated", "joined"]
STREAM = "stream"
"""Name of the folder."""
_CHUNK = "chunk-"


@dataclass(frozen=True)
class Producer:
    """The process that writes the chunks of a stream."""

    pid: int
    started: int
    first: int
    """The first sample that it was to produce, other than 0 after a resume."""
    total: int
    """Samples that the training needs."""
    packing: Packing
    """Where samples share rows, what is numbered are rows."""
    tokenizer: str
    """Digest of the tokenizer."""

    @property
    def lives(self) -> bool:
        """Tell whether the process runs."""
        return is_alive(self.pid, self.started)


@dataclass(frozen=True)
class ChunkAt:
    """A finished chunk: samples `first` to `end`, the end left out, of the stream."""

    folder: Path
    first: int
    end: int
    epoch: int
    """Epochs that were complete before it."""
    ends: Sequence[int]
    """Samples of the chunk after which an epoch was complete."""


@dataclass(frozen=True)
class Reader:
    """How far a rank is."""

    done: int
    """No sample before this one is needed any more."""
    wanted: int
    """All samples before this one are needed now."""
    num_ranks: int


class Place:
    """A stream's folder; every file in it is whole or absent."""

    def __init__(self, run_dir: Path) -> None:
        """Name the folder; nothing is made."""
        self.folder = run_dir / STREAM

    def clear(self) -> None:
        """Remove all of an earlier producer but its ledger."""
        for path in sorted(self.folder.glob("*")):
            if path.name != "ledger.jsonl":
                remove(path)
        (self.folder / "readers").mkdir(parents=True, exist_ok=True)

    # Chunks

    def chunk(self, first: int) -> Path:
        """Return the folder of the chunk that begins with sample `first`."""
        return self.folder / f"{_CHUNK}{first:012}"

    def chunks(self) -> list[ChunkAt]:
        """Return the finished chunks in order."""
        found = []
        for folder in sorted(self.folder.glob(f"{_CHUNK}*")):
            # One may be removed at this moment.
            with suppress(UserError, OSError):
                found.append(_chunk_at(folder))
        return found

    def find(self, number: int) -> ChunkAt | None:
        """Return the finished chunk with a sample; None when there is none so far."""
        firsts = [int(path.name.removeprefix(_CHUNK)) for path in self.folder.glob(f"{_CHUNK}*")]
        first = max((first for first in firsts if first <= number), default=None)
        if first is None:
            return None
        found = _chunk_at(self.chunk(first))
        return found if number < found.end else None

    # Who is there

    def announce(self, *, first: int, total: int, packing: Packing, tokenizer: str) -> None:
        """Write that this process is the producer."""
        pid = os.getpid()
        known = Producer(pid, start_time(pid) or 0, first, total, packing, tokenizer)
        storage.write_json(self.folder / "producer.json", asdict(known))

    def producer(self) -> Producer | None:
        """Return the producer, living or not; None before its first chunk."""
        found: Any = read_json(self.folder / "producer.json")
        return Producer(**found) if found else None

    def fail(self, fault: UserError) -> None:
        """Write why the producer ends."""
        record = {"message": fault.message, "help": fault.help, "code": int(fault.code)}
        storage.write_json(self.folder / "failure.json", record)

    def failure(self) -> UserError | None:
        """Return why the producer has ended, where it said so."""
        found: Any = read_json(self.folder / "failure.json")
        if not found:
            return None
        return UserError(found["message"], help=found["help"], code=ExitCode(found["code"]))

    # How far the ranks are

    def report(self, rank: int, reader: Reader) -> None:
        """Write how far a rank is; it is written each step, and a lost word is repaired by the next."""
        path = self.folder / "readers" / f"rank-{rank}.json"
        aside = path.with_suffix(".tmp")
        with suppress(FileNotFoundError):
            aside.write_text(json.dumps(asdict(reader)), encoding="utf-8")
            aside.replace(path)

    def readers(self) -> list[Reader]:
        """Return how far the ranks are, of those that have begun."""
        found: list[Any] = [read_json(path) for path in self.folder.glob("readers/*.json")]
        return [Reader(**reader) for reader in found if reader]


def _chunk_at(folder: Path) -> ChunkAt:
    meta: Any = storage.verify_directory(folder, deep=False).meta
    return ChunkAt(folder, meta["first"], meta["end"], meta["epoch"], meta["ends"])


def remove(path: Path) -> None:
    """Remove a file or a folder; of a folder nothing is left that looks like a torn one."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f".{path.name.lstrip('.')}.old.tmp")
    if path != doomed:
        path.replace(doomed)
    shutil.rmtree(doomed)
