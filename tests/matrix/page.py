"""The page of the matrix: a table for each pair of axes."""

from __future__ import annotations

from pathlib import Path

from .cells import AXES, TABLES, Cell, cells, verdict

HEAD = """# What goes with what

Every pair of a method, a quantization of the frozen weights, a ZeRO stage, an objective and an optimizer. The rest of the spec is
LoRA on queries and values with AdamW, stage 0, without quantization (full training where optimizers meet stages).

`runs`: a test of the project compiles it, trains two steps of a tiny model on a CPU, saves, loads what was saved, and finds the same
logits (a third of each table in `make test`, all in `make nightly`). `GPU only`: it compiles for a GPU, and is refused for a CPU. A code is the rule that refuses it: `tunec explain CODE` says why.
The names of the rows stand for the specs in `tests/methods.py`, `tests/quantizations.py` and `tests/optimizers.py`.

Written by `UPDATE_GOLDEN=1 pytest tests/matrix`; the tests compare it.
"""
TITLES = {
    "method": "Methods",
    "quantization": "quantizations",
    "zero": "ZeRO stages",
    "objective": "objectives",
    "optimizer": "optimizers",
}


def page(workspace: Path) -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *(_section(table, workspace) for table in TABLES)])


def _section(table: tuple[str, str], workspace: Path) -> str:
    rows, columns = table
    verdicts = {(c.row, c.column): _shown(c, workspace) for c in cells(table)}
    lines = [
        f"## {TITLES[rows].capitalize()} and {TITLES[columns]}\n",
        f"| | {' | '.join(AXES[columns])} |",
        f"| --- |{' --- |' * len(AXES[columns])}",
    ]
    for row in AXES[rows]:
        shown = " | ".join(verdicts[row, column] for column in AXES[columns])
        lines.append(f"| {row} | {shown} |")
    return "\n".join(lines) + "\n"


def _shown(cell: Cell, workspace: Path) -> str:
    found = verdict(cell, workspace)
    return found if found in {"runs", "GPU only"} else f"`{found}`"
