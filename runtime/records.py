"""What the ranks write about themselves: who they are, in `pids/`, and how they ended.

A rank that is killed may leave half a file: whatever cannot be read counts as not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .rank import start_time


@dataclass(frozen=True)
class Rank:
    """A process that a pid file names."""

    number: int
    pid: int
    started: int


def read_pids(run_dir: Path) -> list[Rank]:
    """Return the processes that the pid files name, whether they live or not."""
    found = []
    for path in (run_dir / "pids").glob("rank-*.json"):
        with suppress(KeyError, TypeError, ValueError):
            record = cast("Mapping[str, int]", read_json(path))
            found.append(Rank(int(record["rank"]), int(record["pid"]), int(record["start_time"])))
    return found


@dataclass(frozen=True)
class Record:
    """What a rank wrote about its end during this attempt."""

    rank: int
    status: str
    exit_code: int
    message: str
    help: str
    step: int | None
    time: float


def read_result(run_dir: Path) -> Record | None:
    """Return the record of rank 0, which decides; None when it wrote none in this attempt."""
    return _record(run_dir / "result.json")


def read_records(run_dir: Path) -> list[Record]:
    """Return the records of all ranks, the earliest first."""
    paths = [run_dir / "result.json", *(run_dir / "failures").glob("rank-*.json")]
    found = [record for path in paths if (record := _record(path))]
    return sorted(found, key=lambda record: record.time)


def _record(path: Path) -> Record | None:
    data = read_json(path)
    if data.get("attempt") != f"{os.getpid()}-{start_time(os.getpid())}":
        return None
    step = data.get("step")
    with suppress(KeyError, TypeError, ValueError):
        return Record(
            rank=int(cast("int", data["rank"])),
            status=str(data["status"]),
            exit_code=int(cast("int", data["exit_code"])),
            message=str(data["message"]),
            help=str(data["help"]),
            step=step if isinstance(step, int) else None,
            time=float(cast("float", data["time"])),
        )
    return None


def read_json(path: Path) -> Mapping[str, object]:
    """Return the JSON object in a file; an empty one when there is none."""
    try:
        return parse_json(path.read_bytes())
    except OSError:
        return {}


def parse_json(data: bytes) -> Mapping[str, object]:
    """Return a JSON object; an empty one when the text is something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
