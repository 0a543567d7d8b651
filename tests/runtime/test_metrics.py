"""`metrics.jsonl`: one object a line, whole after crashes and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunec.runtime.training.metrics import MetricsFile, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the metrics go."""
    return tmp_path / "metrics.jsonl"


def write(path: Path, *steps: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"step": step, "loss": 1 / step} for step in steps]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_rows_come_back(path: Path) -> None:
    """What was added is what is read, each line JSON by itself, numbers exact."""
    metrics = MetricsFile(path, resumed_at=None)
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "eval_loss": 1e-30}]
    for row in rows:
        metrics.add(row)
    assert read(path) == rows
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_new_run(path: Path) -> None:
    """A run from the start begins with an empty file."""
    write(path, 1, 2)
    MetricsFile(path, resumed_at=None)
    assert path.read_text() == ""


@pytest.mark.parametrize("step", [1, 3, 4, 9])
def test_resumed_run(path: Path, step: int) -> None:
    """A resumed run keeps the lines up to its checkpoint; later ones come again and must not come twice."""
    rows = write(path, 1, 2, 3, 3, 4, 5)
    metrics = MetricsFile(path, resumed_at=step)
    kept = [row for row in rows if row["step"] <= step]
    assert read(path) == kept
    metrics.add({"step": step + 1})
    assert read(path) == [*kept, {"step": step + 1}]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "{", "\x00\x00\x00", '{"step": 3}x'])
def test_torn_last_line(path: Path, torn: str) -> None:
    """A line that a crash cut off is left out, and does not swallow what a resumed run adds."""
    rows = write(path, 1, 2)
    with path.open("a") as file:
        file.write(torn)
    assert read(path) == rows
    metrics = MetricsFile(path, resumed_at=2)
    metrics.add({"step": 3})
    assert read(path) == [*rows, {"step": 3}]


def test_torn_line_in_the_middle(path: Path) -> None:
    """One line lost to a full disk does not hide those after it."""
    write(path, 1)
    with path.open("a") as file:
        file.write('{"step": 2, "lo\n{"step": 3}\n')
    assert [row["step"] for row in read(path)] == [1, 3]


def test_line_that_is_no_text(path: Path) -> None:
    """Bytes a power cut left behind are no reason to lose the rest."""
    rows = write(path, 1, 2)
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    assert read(path) == rows


def test_missing_file(path: Path) -> None:
    """A run that has not logged yet has no rows."""
    assert read(path) == []


def test_numbers_that_json_lacks(path: Path) -> None:
    """NaN and infinity (a gradient norm that overflowed) are null: every JSON reader takes the file."""
    MetricsFile(path, resumed_at=None).add(
        {"step": 1, "grad_norm": float("nan"), "loss": float("-inf")}
    )
    assert path.read_text() == '{"step": 1, "grad_norm": null, "loss": null}\n'


def test_full_disk(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """A line that cannot be written is warned of and passed over: training goes on."""
    metrics = MetricsFile(path, resumed_at=None)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    metrics.add({"step": 7})
    assert capsys.readouterr().out == (
        "warning: metrics of step 7 not written: No space left on device\n"
    )
