"""What the benchmarks share: where they ran, medians, and tables that are Markdown and readable as text."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
WORK = REPO / "benchmarks" / ".work"


def machine() -> dict[str, str | int | float]:
    """Return the facts a result depends on; a load well above 0 means that others were using the cores."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def measured_on(facts: dict[str, str | int | float]) -> str:
    """Return the line that stands above a table."""
    return (
        "measured on {date}: {cpu}, {cores} cores, Python {python}, "
        "load {load_1min} at the start".format(**facts)
    )


def compile_and_prepare(spec: Path) -> None:
    """Compile a spec whose run goes to `run` beside it, and prepare its data."""
    tunec = Path(sys.executable).parent / "tunec"
    subprocess.run([str(tunec), "compile", str(spec)], check=True, stdout=2)
    subprocess.run([sys.executable, str(spec.parent / "run" / "prepare.py")], check=True, stdout=2)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; the first column is text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (header, rule, *rows))


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the ratios within each round: a slow minute hits both sides of a ratio."""
    return statistics.median(a / b for a, b in zip(values, baseline, strict=True))


def write_json(path: Path, value: object) -> None:
    """Write a result file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
