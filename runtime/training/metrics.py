"""Metrics of a run: the numbers of each step, as JSON Lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage import write_text

EVAL_LOSS = "eval_loss"
"""Name of the mean loss of an evaluation; `eval_loss/NAME` is that of one set of several."""


class MetricsFile:
    """`metrics.jsonl`: one object a line, with at least `step`."""

    def __init__(self, path: Path, *, resumed_at: int | None) -> None:
        """Open the file; after a resume the lines beyond step `resumed_at` are taken out, they come again."""
        self.path = path
        kept = [row for row in read(path) if resumed_at is not None and row["step"] <= resumed_at]
        write_text(path, "".join(_line(row) for row in kept))

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one line; a full disk must not end the training, so it is only passed over."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as fault:
            print(
                f"warning: metrics of step {row['step']} not written: {fault.strerror}", flush=True
            )


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file; a line cut off by a crash or a full disk is left out."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _line(row: Mapping[str, Any]) -> str:
    """JSON has no NaN and no infinity: such a number (a gradient norm of fp16) becomes null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(finite) + "\n"


def eval_losses(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says of the sets of an evaluation: the loss by name, the total under no name."""
    return {
        name.removeprefix(EVAL_LOSS).removeprefix("/"): value
        for name, value in row.items()
        if name == EVAL_LOSS or name.startswith(f"{EVAL_LOSS}/")
    }


def told_evaluation(row: Mapping[str, Any]) -> str:
    """Return an evaluation in words: the losses, and the other numbers of all sets together."""
    others = (
        f"{name.removeprefix('eval_')} {value:.4g}"
        for name, value in row.items()
        if name.startswith("eval_") and "/" not in name and name != EVAL_LOSS and value is not None
    )
    return ", ".join([told_losses(row), *others])


def told_losses(row: Mapping[str, Any]) -> str:
    """Return the losses of an evaluation in words: the total, and in brackets each set of several."""
    told = {
        name: "not a number" if value is None else f"{value:.4f}"
        for name, value in eval_losses(row).items()
    }
    total = told.pop("")
    return total + (f" ({', '.join(' '.join(pair) for pair in told.items())})" if told else "")
