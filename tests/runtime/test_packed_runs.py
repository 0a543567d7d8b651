"""Whole runs on rows that samples share: the numbers of padded runs, on any number of processes, also resumed."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path

import pytest

import runs
import tiny
from tunec.runtime.data import pack
from tunec.runtime.data.prepared import load
from tunec.runtime.errors import ExitCode

pytestmark = pytest.mark.heavy

SPEC = """
[run]
output_dir = "runs/{name}"
[data]
eval_rows = 4
packing = "{packing}"
[method]
type = "lora"
rank = 4
dropout = {dropout}
[training]
{length}
[batch]
global_size = 4
micro_size = {micro}
[deepspeed]
zero_stage = {stage}
[checkpoints]
every_steps = 2
[launch]
processes = {processes}
"""
DEFAULTS = {
    "packing": "off", "dropout": "0.0", "length": "steps = 4", "micro": "2", "stage": "2", "processes": "1",
}  # fmt: skip


def compiled(workspace: Path, name: str, **values: str) -> Path:
    text = SPEC.format(name=name, **{**DEFAULTS, **values})
    spec = tiny.write_over(workspace / f"{name}.toml", text)
    done = runs.tunec("compile", str(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "runs" / name


def trained(workspace: Path, name: str, **values: str) -> Path:
    run_dir = compiled(workspace, name, **values)
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return run_dir


def evaluation(run_dir: Path) -> float:
    return float(json.loads((run_dir / "report.json").read_text())["eval_loss"])


def test_padding_free(workspace: Path) -> None:
    """Without padding, a run has the losses, the evaluation and the tokens of the padded one."""
    padded = trained(workspace, "padded")
    free = trained(workspace, "free", packing="padding-free", processes="2", micro="1", stage="3")
    whole = trained(workspace, "whole", packing="padding-free", micro="4")
    for run_dir in (free, whole):
        assert runs.losses(run_dir) == pytest.approx(runs.losses(padded), rel=1e-5)
        assert evaluation(run_dir) == pytest.approx(evaluation(padded), rel=1e-5)
        tokens = [[row.get("tokens") for row in runs.metrics(run)] for run in (run_dir, padded)]
        assert tokens[0] == tokens[1]


def test_packed(workspace: Path) -> None:
    """Packed runs take their steps from the rows there are, and are the same on one and on two processes."""
    shape = {"packing": "isolated", "length": "epochs = 3"}
    one = trained(workspace, "one", **shape)
    two = trained(workspace, "two", **shape, processes="2", micro="1", stage="3")
    rows = pack(load(one)[0], max_length=128)
    steps = json.loads((one / "report.json").read_text())["steps"]
    assert steps == math.ceil(3 * len(rows) / 4) < math.ceil(3 * rows.num_samples / 4)
    assert runs.losses(two) == pytest.approx(runs.losses(one), rel=2e-5)
    assert evaluation(two) == pytest.approx(evaluation(one), rel=2e-5)
    # Every token of an epoch is seen.
    last = runs.metrics(one)[-2]
    assert last["tokens"] >= 3 * rows.num_tokens
    assert last["epoch"] == pytest.approx(steps * 4 / len(rows), abs=1e-4)


@pytest.mark.parametrize("packing", ["isolated", "padding-free"])
def test_resumed(workspace: Path, tmp_path: Path, packing: str) -> None:
    """A killed run, resumed, equals the uninterrupted one in every number and every weight, dropout included."""
    shape = {"packing": packing, "dropout": "0.2", "length": "steps = 6"}
    whole = tmp_path / "whole"
    shutil.move(trained(workspace, "run", **shape), whole)
    run_dir = compiled(workspace, "run", **shape)
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-2").exists() or process.poll() is not None
    )
    rank = runs.rank_pid(run_dir, 0)
    assert rank is not None
    runs.kill(rank, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.LOST, output
    resumed = runs.tunec("train", str(workspace / "run.toml"), "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(whole)
    assert runs.weights_digest(run_dir) == runs.weights_digest(whole)
