"""Optimizers by the real engine, from the spec to the report: what they train, and runs that were interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import inprocess
import optimizers
import runs

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def _free_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the size of a micro batch to the specs."""
    import tiny

    monkeypatch.setattr(tiny, "BASE", tiny.BASE.replace("micro_size = 2\n", ""))


def whole_and_parts(workspace: Path, text: str) -> tuple[Path, Path]:
    """Return a run and one that was stopped after its third step and resumed."""
    whole, parts = (inprocess.compiled(workspace, text, name) for name in ("whole", "parts"))
    for run_dir in (whole, parts):
        inprocess.prepare(run_dir)
    inprocess.train(whole)
    inprocess.train(parts, stop_after=3)
    inprocess.train(parts, resume=True)
    return whole, parts


def changed(workspace: Path, run_dir: Path) -> set[str]:
    """Return the names of the weights that are not those of the start."""
    before = load_file(workspace / "model" / "model.safetensors")
    after = load_file(run_dir / "final" / "model.safetensors")
    return {name for name, value in after.items() if not value.equal(before[name])}


@pytest.mark.heavy
@pytest.mark.parametrize("name", optimizers.NAMES)
def test_names_of_transformers_train(workspace: Path, name: str) -> None:
    """The loss falls with each name that runs on a CPU."""
    run_dir = inprocess.compiled(workspace, optimizers.spec_text(name))
    inprocess.prepare(run_dir)
    inprocess.train(run_dir)
    losses = runs.losses(run_dir)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("badam", ("", "")),
        ("galore", ('"fp32"', '"bf16"')),
        ("badam-ratio-scatter", ('"fp32"', '"pure-bf16"')),
        ("adamw-8bit", ("zero_stage = 0", "zero_stage = 2")),
        ("galore-layerwise", ("", "")),
        ("schedule_free_adamw", ("", "")),
    ],
)
def test_resumes_to_the_same_bits(workspace: Path, name: str, change: tuple[str, str]) -> None:
    """A run that was stopped goes on to the numbers and the weights of one that was not."""
    text = optimizers.spec_text(name).replace(*change) if change[0] else optimizers.spec_text(name)
    whole, parts = whole_and_parts(workspace, text)
    assert runs.exact_numbers(parts) == runs.exact_numbers(whole)
    assert runs.weights_digest(parts) == runs.weights_digest(whole)
    report: dict[str, Any] = json.loads((whole / "report.json").read_text())
    assert report["trainable_parameters"] == 30_720
    told = sum(group["parameters"] for group in report["optimizer"]["groups"])
    assert told == 30_720


LISA = optimizers.spec_text("adamw").replace(
    'type = "full"', 'type = "lisa"\nblocks = 1\ninterval = 100'
)


def test_lisa_trains_the_blocks_it_drew(workspace: Path) -> None:
    """Within an interval one block changes and the other keeps its bits; a resumed run does the same."""
    whole, parts = whole_and_parts(workspace, LISA)
    assert runs.weights_digest(parts) == runs.weights_digest(whole)
    blocks = {name.split(".")[2] for name in changed(workspace, whole) if "layers" in name}
    assert len(blocks) == 1
    assert any("embed_tokens" in name for name in changed(workspace, whole))
