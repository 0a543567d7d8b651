"""Rounding, averages, LoftQ, groups and Muon on two ranks: they save what they save on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import inprocess

pytestmark = pytest.mark.heavy
RUN = """
[data]
shuffle = false
[training]
steps = {steps}
learning_rate = 1e-3
max_grad_norm = {clip}
{more}
[batch]
global_size = 4
micro_size = {micro}
[launch]
processes = {ranks}
[deepspeed]
zero_stage = {stage}
"""
FULL, LORA = '[method]\ntype = "full"\n', '[method]\ntype = "lora"\nrank = 4\n'
SGD = '[optimizer]\ntype = "sgd"\n'
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rounded": (FULL + SGD + "[quantization_aware]\n", {"stage": 3, "steps": 1}),
    "average": (FULL, {"stage": 2, "more": "ema_decay = 0.5"}),
    "groups": (FULL, {"stage": 3, "more": 'groups = [{ pattern = "mlp", rate_factor = 3.0 }]'}),
    "muon": (FULL + '[optimizer]\ntype = "muon"\n', {"stage": 2, "clip": 0.0}),
    "muon-3": (FULL + '[optimizer]\ntype = "muon"\n', {"stage": 3, "clip": 0.0}),
    "loftq": (
        LORA + 'init = { type = "loftq" }\n[quantization]\ntype = "bitsandbytes"\n', {"stage": 2},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("ranks"), tiny_model)


def prepared(room: Path, name: str, ranks: int) -> Path:
    """Return the folder of a run on so many ranks."""
    text, numbers = CASES[name]
    numbers = {"steps": 3, "clip": 1.0, "more": "", **numbers}
    if ranks == 1:
        numbers["stage"] = 0
    run = RUN.format(**numbers, micro=4 // ranks, ranks=ranks)
    run_dir = inprocess.compiled(room, text + run, f"{name}-{ranks}")
    inprocess.prepare(run_dir)
    return run_dir


def test_two_ranks(room: Path) -> None:
    """Final weights differ from those of one rank by what the order of sums changes."""
    alone = {name: prepared(room, name, 1) for name in CASES}
    both = {name: prepared(room, name, 2) for name in CASES}
    for run_dir in alone.values():
        inprocess.train(run_dir)
    inprocess.on_two_ranks(list(both.values()))
    start = load_file(room / "model" / "model.safetensors")
    far = {}
    for name in CASES:
        found, expected = (
            load_file(next((d / "final").glob("*.safetensors"))) for d in (both[name], alone[name])
        )
        assert found.keys() == expected.keys()
        went = sum(float((v - start.get(n, 0 * v)).norm()) ** 2 for n, v in expected.items())
        apart = sum(float((found[n] - v).norm()) ** 2 for n, v in expected.items())
        far[name] = (apart / went) ** 0.5
    assert {name for name, value in far.items() if value > 0.05} == set(), far
