"""Compiling and launching runs the way a user does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

TUNEC = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]


def compile_spec(workspace: Path, text: str, name: str = "spec.toml") -> Path:
    """Write a spec over the base, compile it, return its run folder."""
    spec = tiny.write_spec(workspace / name, text)
    done = tunec("compile", str(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    import tomli

    return workspace / str(tomli.loads(spec.read_text())["run"]["output_dir"])


def tunec(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [*TUNEC, *arguments], capture_output=True, text=True, timeout=600, check=False, **options
    )


def launch(run_dir: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `launch.sh` to its end."""
    return subprocess.run(
        [str(run_dir / "launch.sh"), *flags],
        env={**os.environ, "TUNEC_PYTHON": sys.executable},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def start(run_dir: Path, *flags: str) -> subprocess.Popen[str]:
    """Start `launch.sh` and return at once."""
    return subprocess.Popen(
        [str(run_dir / "launch.sh"), *flags],
        env={**os.environ, "TUNEC_PYTHON": sys.executable},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], Any], timeout_s: float = 300) -> Any:
    """Return the first true value of `condition`; fail when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("the condition never held")


def rank_pid(run_dir: Path, rank: int) -> int | None:
    """Return the process id of a running rank."""
    try:
        return int(json.loads((run_dir / "pids" / f"rank-{rank}.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def parent_of(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that must exist."""
    os.kill(pid, number)


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> list[float]:
    """Return the training losses, in order."""
    return [row["loss"] for row in metrics(run_dir) if "loss" in row]


def exact_numbers(run_dir: Path) -> list[tuple[Any, ...]]:
    """Return everything of the metrics that a repeated run must repeat."""
    names = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens")
    return [tuple(row.get(name) for name in names) for row in metrics(run_dir)]


def weights_digest(run_dir: Path) -> str:
    """Return the sha256 of the final weights."""
    (file,) = (run_dir / "final").glob("*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def processes_of(run_dir: Path) -> list[int]:
    """Return the processes whose environment names the run folder."""
    mark = str(run_dir).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
