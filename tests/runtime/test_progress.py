"""Progress of a preparation: seen where it takes long, silent where it does not."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunec.runtime.data import progress
from tunec.runtime.data.progress import Progress, duration, guess_lines, guess_rows


@dataclass(frozen=True)
class Source:
    """What a guess needs of a source."""

    limit: int | None = None
    sample: int | None = None


@dataclass(frozen=True)
class Job:
    """A source and its files."""

    source: Source
    files: list[Path]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 1,000 rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * 80}) + "\n" for _ in range(1000)))
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_small_data_are_silent(rows: Path, clock: list[float]) -> None:
    """Nothing is shown for what is done at once, neither on a terminal nor elsewhere."""
    for stream in (Terminal(), io.StringIO()):
        shown = Progress([Job(Source(), [rows])], stream)
        for _ in range(10):
            clock[0] += 0.1
            shown.add(100)
        shown.close()
        assert stream.getvalue() == ""


def test_lines(rows: Path, clock: list[float]) -> None:
    """Elsewhere than on a terminal, a line each ten seconds says how fast it goes and how long it takes."""
    stream = io.StringIO()
    shown = Progress([Job(Source(), [rows])], stream)
    for _ in range(5):
        clock[0] += 6
        shown.add(120)
    assert stream.getvalue() == (
        "preparing: 240 rows, 20 rows/s, about 38 s left of 1,000 rows\n"
        "preparing: 480 rows, 20 rows/s, about 26 s left of 1,000 rows\n"
    )


def test_a_bar(rows: Path, clock: list[float]) -> None:
    """On a terminal a bar is drawn after two seconds, and taken away at the end."""
    stream = Terminal()
    shown = Progress([Job(Source(), [rows])], stream)
    clock[0] += 3
    shown.add(300)
    assert "preparing:  30%" in stream.getvalue()
    shown.close()
    assert stream.getvalue().endswith("\r")


def test_guesses(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are guessed by the beginning of a file; limits count, and what has no lines is not guessed."""
    monkeypatch.setattr(progress, "HEAD_BYTES", 5000)
    assert 950 < (guess_lines(rows) or 0) < 1050
    array = tmp_path / "array.json"
    array.write_text("[\n{},\n{}\n]")
    assert guess_lines(array) is None
    assert guess_lines(tmp_path / "rows.parquet") is None
    assert guess_rows([Job(Source(limit=7), [rows]), Job(Source(sample=5), [array])]) == 12
    assert guess_rows([Job(Source(), [rows]), Job(Source(), [array])]) is None


def test_durations() -> None:
    """Times in words."""
    assert [duration(s) for s in (9.6, 74, 7300)] == ["10 s", "1 min 14 s", "2 h 1 min"]
