"""What goes wrong only when a run starts: one line, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runs
import tiny
from tunec.runtime.errors import ExitCode

pytestmark = pytest.mark.heavy


def run_alone(run_dir: Path, patch: str = "") -> subprocess.CompletedProcess[str]:
    """Prepare, then run `train.py` without launcher, after a patch."""
    prepared = subprocess.run(
        [sys.executable, "prepare.py"], cwd=run_dir, capture_output=True, text=True, check=False
    )
    if prepared.returncode:
        return prepared
    code = f"{patch}\nimport runpy\nrunpy.run_path('train.py', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=run_dir, env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_nothing_to_learn(workspace: Path) -> None:
    """A run with nothing left to learn ends before any training."""
    run_dir = runs.compile_spec(workspace, '[data]\nmax_length = 4\ntoo_long = "drop"\n')
    done = runs.launch(run_dir)
    assert done.returncode == ExitCode.DATA
    assert "all 24 samples are longer than `data.max_length` = 4 and were dropped" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_data_changed_since(workspace: Path) -> None:
    """Rows added after compiling are noticed: the plan no longer holds."""
    run_dir = runs.compile_spec(workspace, "")
    tiny.write_chats(workspace / "data" / "chat.jsonl", 25)
    done = run_alone(run_dir)
    assert done.returncode == ExitCode.CONFLICT
    assert "there are 25 training rows, the plan was made for 24" in done.stderr


def test_no_shared_memory_is_left(workspace: Path) -> None:
    """A finished run leaves none of DeepSpeed's buffers in the machine's memory, with a supervisor or alone."""
    before = buffers()
    run_dir = runs.compile_spec(workspace, "[launch]\nprocesses = 2\n")
    assert runs.launch(run_dir).returncode == 0
    assert buffers() <= before
    alone = runs.compile_spec(workspace, '[run]\noutput_dir = "runs/alone"\n', "alone.toml")
    assert run_alone(alone).returncode == 0
    assert buffers() <= before


def buffers() -> set[str]:
    """The names of DeepSpeed's buffers in shared memory that no process uses: other tests may be running."""
    names = {path.name for path in Path("/dev/shm").glob("deepspeed_allreduce_buffer_*")}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text() if names else ""
        except OSError:
            continue
        names = {name for name in names if name not in text}
    return names


def test_bad_row(workspace: Path) -> None:
    """A row broken after compiling is named with file and line."""
    run_dir = runs.compile_spec(workspace, "")
    path = workspace / "data" / "chat.jsonl"
    lines = path.read_text().splitlines()
    lines[6] = '{"messages": [{"role": "user"'
    path.write_text("\n".join(lines))
    done = run_alone(run_dir)
    assert done.returncode == ExitCode.DATA
    assert f"error: {path}:7: not JSON: " in done.stderr


def test_truncated_weights(workspace: Path) -> None:
    """Weights damaged after compiling are one line, not a traceback."""
    run_dir = runs.compile_spec(workspace, "")
    weights = workspace / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = run_alone(run_dir)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert "cannot load the model: a weight file is truncated" in done.stderr
    assert "Traceback" not in done.stderr


def test_disk_full_while_saving(workspace: Path) -> None:
    """A full disk ends the run with one line; the checkpoint before stays, no torn one is left."""
    run_dir = runs.compile_spec(workspace, "[checkpoints]\nevery_steps = 1\n")
    patch = """
import errno
import tunec.runtime.storage as storage
renames = []
rename = storage._rename
def full(source, target):
    if 'step-' in target.name:
        renames.append(target)
        if len(renames) > 1:
            raise OSError(errno.ENOSPC, 'No space left on device')
    rename(source, target)
storage._rename = full
"""
    done = run_alone(run_dir, patch)
    assert done.returncode == ExitCode.CHECKPOINT
    assert "disk full while writing checkpoint step-2" in done.stderr
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-1"]


def test_loss_not_finite(workspace: Path) -> None:
    """A loss of NaN stops the run at once and says what to do."""
    import torch
    from safetensors.torch import load_file, save_file

    run_dir = runs.compile_spec(workspace, "")
    weights = workspace / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("nan"))
    save_file(tensors, weights, metadata={"format": "pt"})
    done = run_alone(run_dir)
    assert done.returncode == ExitCode.TRAINING
    assert "the loss of step 1 is nan" in done.stderr
    assert not (run_dir / "final").exists()
