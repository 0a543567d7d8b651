"""The matrix: what the compiler lets through trains, is saved, and comes back from disk as it was."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

import inprocess
import tiny

from .cells import AXES, TABLES, Cell, cells, verdict
from .page import page

PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"
IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])
TOLERANCE = 2e-5
PARTS = (0, pytest.param(1, marks=pytest.mark.nightly), pytest.param(2, marks=pytest.mark.nightly))
"""Thirds of each table."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    workspace: Path = tmp_path_factory.mktemp("matrix")
    (workspace / "model").symlink_to(tiny_model)
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    tiny.write_kinds(workspace)
    return workspace


def test_the_page(room: Path) -> None:
    """The page says of every pair what the compiler says; no cell is empty."""
    text = page(room)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
    assert "|  |" not in text


@pytest.mark.parametrize("table", TABLES, ids="-".join)
def test_something_runs(room: Path, table: tuple[str, str]) -> None:
    """Each row has a cell that is not refused, but for what needs a GPU."""
    found = {(c.row, c.column): verdict(c, room) for c in cells(table)}
    for row in AXES[table[0]]:
        good = {value for key, value in found.items() if key[0] == row}
        assert good & {"runs", "GPU only"}, row


def _part(cell: Cell) -> int:
    """Return which part of its table a cell belongs to: on a diagonal, so that each has cells of all rows and columns."""
    rows, columns = (list(AXES[name]) for name in cell.table)
    return (rows.index(cell.row) + columns.index(cell.column)) % len(PARTS)


@pytest.mark.heavy
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("table", TABLES, ids="-".join)
def test_cells(room: Path, table: tuple[str, str], part: int, monkeypatch: Any) -> None:
    """Two steps, saved, loaded: the same logits, for every pair that is said to run."""
    monkeypatch.setenv("TUNEC_CACHE", str(room / "cache"))
    wrong = []
    for cell in cells(table):
        if _part(cell) != part or verdict(cell, room) != "runs":
            continue
        try:
            difference = _difference(room, cell)
        except Exception as fault:
            wrong.append(f"{cell.name}: {type(fault).__name__}: {str(fault)[:200]}")
        else:
            if not difference <= TOLERANCE:
                wrong.append(f"{cell.name}: logits differ by {difference:.2g}")
    assert not wrong, "\n".join(wrong)


def _difference(room: Path, cell: Cell) -> float:
    """Return how far the logits of the saved model are from those of the trained one."""
    run_dir, model = _trained(room, cell)
    if cell.column == "ZeRO-3":
        # Outside of the engine the parameters are in parts: the same model trained whole is the measure.
        whole, _ = _trained(room, evolve(cell, column="ZeRO-0"))
        expected = _logits(_loaded(whole))
    else:
        expected = _logits(model)
    return float((_logits(_loaded(run_dir)) - expected).abs().max())


def _trained(room: Path, cell: Cell) -> tuple[Path, Any]:
    run_dir = inprocess.compiled(room, cell.text(), f"{'-'.join(cell.table)}-{cell.name}")
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir).model


def _loaded(run_dir: Path) -> Any:
    """Return the trained model as the run's own `export.py` loads it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from tunec.runtime import export
    from tunec.runtime.models import load_causal_lm
    from tunec.runtime.models.variants import load_trained

    unset_hf_deepspeed_config()
    seen: dict[str, Any] = {"load": load_causal_lm}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export", seen.update)
        runpy.run_path(str(run_dir / "export.py"), run_name="__main__")
    names = ("base", "method", "load")
    return load_trained(seen["trained"], dtype="fp32", **{name: seen[name] for name in names})


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    model.eval()
    found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found.float()
