"""Interrupted runs: whatever is killed, the run goes on from a complete checkpoint to the same bits."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import runs
import tiny
from tunec.runtime.errors import ExitCode

pytestmark = pytest.mark.heavy

SPEC = """
[data]
eval_rows = 3
[method]
type = "lora"
rank = 4
dropout = 0.2
[training]
steps = 10
[batch]
global_size = 32
micro_size = 1
[evaluation]
every_steps = 5
[checkpoints]
every_steps = 3
[logging]
every_steps = 2
[launch]
processes = {processes}
grace_s = 60
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: Any, tiny_model: Path) -> dict[int, Path]:
    """The same run on one and on two processes, never touched."""
    finished = {}
    for processes in (1, 2):
        workspace = tmp_path_factory.mktemp("whole")
        (workspace / "model").symlink_to(tiny_model)
        tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
        run_dir = runs.compile_spec(workspace, SPEC.format(processes=processes))
        done = runs.launch(run_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        finished[processes] = run_dir
    return finished


def target(run_dir: Path, name: str, process: Any) -> int:
    """Return the process id that a case hits."""
    rank = runs.rank_pid(run_dir, int(name[-1]) if name.startswith("rank") else 0)
    assert rank is not None
    if name == "supervisor":
        return int(process.pid)
    if name == "launcher":
        return runs.parent_of(rank)
    return rank


@pytest.mark.parametrize(
    ("processes", "hit", "number", "code"),
    [
        (1, "rank-0", signal.SIGKILL, ExitCode.LOST),
        (2, "rank-1", signal.SIGKILL, ExitCode.LOST),
        (2, "launcher", signal.SIGKILL, ExitCode.RESUMABLE),
        (1, "supervisor", signal.SIGINT, ExitCode.RESUMABLE),
        (2, "supervisor", signal.SIGTERM, ExitCode.RESUMABLE),
    ],
)
def test_resumes_to_the_same_bits(
    uninterrupted: dict[int, Path],
    workspace: Path,
    processes: int,
    hit: str,
    number: signal.Signals,
    code: ExitCode,
) -> None:
    """A killed or stopped run, resumed, equals the uninterrupted one in every number and every weight."""
    run_dir = runs.compile_spec(workspace, SPEC.format(processes=processes))
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-3").exists() or process.poll() is not None
    )
    runs.kill(target(run_dir, hit, process), number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    assert runs.processes_of(run_dir) == []
    assert not (run_dir / "final").exists()

    spec = str(workspace / "spec.toml")
    refused = runs.tunec("train", spec)
    assert refused.returncode == ExitCode.CONFLICT
    assert "--resume" in refused.stderr
    assert "--overwrite" in refused.stderr

    resumed = runs.tunec("train", spec, "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    whole = uninterrupted[processes]
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(whole)
    assert runs.weights_digest(run_dir) == runs.weights_digest(whole)


def test_torn_checkpoint_is_passed_over(uninterrupted: dict[int, Path], workspace: Path) -> None:
    """A damaged newest checkpoint is reported and the one before is used, to the same bits."""
    run_dir = runs.compile_spec(workspace, SPEC.format(processes=1))
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-6").exists() or process.poll() is not None
    )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    steps = sorted((run_dir / "checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    state = next(steps[-1].glob("global_step*/*optim_states.pt"))
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    resumed = runs.tunec("train", str(workspace / "spec.toml"), "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert steps[-1].name in resumed.stdout + resumed.stderr
    whole = uninterrupted[1]
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(whole)
    assert runs.weights_digest(run_dir) == runs.weights_digest(whole)


def test_changed_spec_is_refused(workspace: Path) -> None:
    """A resume with another learning rate is refused and the difference named."""
    run_dir = runs.compile_spec(
        workspace, "[training]\nsteps = 2\n[checkpoints]\nevery_steps = 1\n"
    )
    assert runs.launch(run_dir).returncode == 0
    tiny.write_spec(
        workspace / "spec.toml",
        "[training]\nsteps = 2\nlearning_rate = 5e-3\n[checkpoints]\nevery_steps = 1\n",
    )
    refused = runs.tunec("train", str(workspace / "spec.toml"), "--resume")
    assert refused.returncode == ExitCode.CONFLICT
    assert "training.learning_rate: 0.01 there, 0.005 now" in refused.stderr
    again = runs.tunec("train", str(workspace / "spec.toml"), "--overwrite")
    assert again.returncode == 0, again.stdout + again.stderr
