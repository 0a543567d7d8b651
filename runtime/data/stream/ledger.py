"""The ledger of a stream: after each chunk a line that says where the stream is, so that it can go on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...records import parse_json
from ...storage import write_text
from ..prepared import SourceReport

COUNTS = (
    "read",
    "kept",
    "truncated",
    "dropped",
    "bad",
    "without_loss",
    "endless",
    "tokens",
    "trainable",
)


@dataclass(frozen=True)
class Entry:
    """Where a stream is after a chunk."""

    chunks: int = 0
    end: int = 0
    """Samples so far."""
    epoch: int = 0
    drawn: int = 0
    """Rows drawn in this epoch."""
    sources: Sequence[dict[str, Any]] = ()
    """What became of the rows of each source so far, by counts."""

    def reports(self, names: Sequence[str]) -> list[SourceReport]:
        """Return the counts as reports, which go on from there."""
        counts = self.sources or [{}] * len(names)
        return [SourceReport(name, **known) for name, known in zip(names, counts, strict=True)]


def counts_of(reports: Sequence[SourceReport]) -> list[dict[str, Any]]:
    """Return what an entry keeps of reports."""
    return [{name: getattr(report, name) for name in COUNTS} for report in reports]


class Ledger:
    """The file with the entries."""

    def __init__(self, folder: Path) -> None:
        """Name it; nothing is made."""
        self.path = folder / "ledger.jsonl"

    def entries(self) -> list[Entry]:
        """Return all entries; a line that is torn, and what follows it, does not count."""
        found = []
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            record: Any = parse_json(line)
            if not record:
                break
            found.append(Entry(**record))
        return found

    def go_back(self, number: int) -> Entry:
        """Forget what came after sample `number` was produced; return where to go on, at it or before it."""
        kept = [entry for entry in self.entries() if entry.end <= number]
        write_text(self.path, "".join(map(_line, kept)))
        return kept[-1] if kept else Entry()

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))

    def at(self, number: int) -> Entry:
        """Return the entry of the chunk that holds the sample before `number`, or the last there is."""
        entries = self.entries()
        behind = [entry for entry in entries if entry.end >= number]
        return behind[0] if behind else (entries[-1] if entries else Entry())


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"
