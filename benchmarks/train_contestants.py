"""Who takes part in `train_speed.py`, and how each is started. Standard library only: the driver stays small."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import REPO
from train_settings import Settings

HERE = REPO / "benchmarks"
TRL_VENV = HERE / ".venv-trl"
TRL_CONSTRAINTS = HERE / "constraints-trl.txt"
_STEP_LINE = re.compile(rb"step (\d+)/\d+ ")

SPEC = """\
# Written by benchmarks/train_speed.py.
[run]
name = "benchmark"
output_dir = "run"

[model]
path = {model}

[data]
max_length = {length}
shuffle = false

[[data.sources]]
format = "messages"
path = {conversations}

[method]
type = "lora"
rank = {rank}
targets = "all-linear"

[training]
steps = {steps}
learning_rate = {learning_rate}
schedule = "constant"
max_grad_norm = {max_grad_norm}
precision = "fp32"
gradient_checkpointing = false
seed = {seed}

[batch]
global_size = {batch_size}
micro_size = {batch_size}

[launch]
device = "cpu"
processes = 1

[checkpoints]
every_steps = 0

[logging]
every_steps = 1
plot = false
"""


@dataclass(frozen=True)
class Contestant:
    """One way to do the training; `prepare` is called once and returns the command to start it."""

    about: str
    prepare: Callable[[Settings, Path], list[str]]
    result: Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """What one process showed."""

    stamps_s: list[float]
    """When each step was over, in seconds since the start of the process."""

    losses: list[float]
    peak_bytes: int

    def tokens_per_s(self, settings: Settings, warmup: int) -> float:
        """Return the throughput of the steps after the first `warmup`."""
        seconds = self.stamps_s[-1] - self.stamps_s[warmup - 1]
        tokens = (settings.steps - warmup) * settings.batch_size * settings.length
        return tokens / seconds


def run(name: str, command: list[str], settings: Settings, folder: Path, threads: int) -> Run:
    """Start the contestant in its folder, follow it to its end, and return what it did."""
    stamps = _follow(command, folder, threads)
    result = CONTESTANTS[name].result(folder)
    if not len(stamps) == len(result["losses"]) == settings.steps:
        sys.exit(
            f"error: {name} made {len(stamps)} steps of {settings.steps}, see {folder / 'log.txt'}"
        )
    return Run(stamps, result["losses"], result["peak_bytes"])


def _follow(command: list[str], folder: Path, threads: int) -> list[float]:
    """Return the seconds after which each line `step N/...` arrived; all output goes to `log.txt`."""
    stamps: list[float] = []
    started = time.perf_counter()
    with (
        (folder / "log.txt").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(threads)
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if _STEP_LINE.match(line):
                stamps.append(time.perf_counter() - started)
            log.write(line)
    if process.returncode:
        tail = "\n".join((folder / "log.txt").read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"error: exit code {process.returncode} from {command[0]}:\n{tail}")
    return stamps


def _environment(threads: int) -> dict[str, str]:
    """The same for all: the same threads, and no network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TUNEC_PYTHON": sys.executable,
    }


# The hand-written loop


def _prepare_limit(head: str) -> Callable[[Settings, Path], list[str]]:
    def prepare(settings: Settings, folder: Path) -> list[str]:
        return [*_script(sys.executable, "train_limit.py", settings, folder), "--head", head]

    return prepare


def _script(python: str, name: str, settings: Settings, folder: Path) -> list[str]:
    settings.write(folder / "settings.json")
    return [python, str(HERE / name), str(folder / "settings.json"), str(folder / "result.json")]


def _script_result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


# TRL


def _prepare_trl(settings: Settings, folder: Path) -> list[str]:
    return _script(str(trl_python()), "train_trl.py", settings, folder)


def trl_python() -> Path:
    """Return the interpreter of TRL's environment; create it first where it is missing or outdated."""
    python, mark = TRL_VENV / "bin" / "python", TRL_VENV / ".made-from"
    wanted = TRL_CONSTRAINTS.read_text(encoding="utf-8")
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return python
    print(f"setting up {TRL_VENV}: this takes a few minutes, once", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(TRL_VENV)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(TRL_CONSTRAINTS)]
    # torch alone and first: pip then takes the CPU build it is offered and never looks for another.
    subprocess.run([*install, "torch==2.13.0"], check=True)
    subprocess.run([*install, "trl", "peft"], check=True)
    mark.write_text(wanted, encoding="utf-8")
    return python


# tunec


def _prepare_tunec(more: str) -> Callable[[Settings, Path], list[str]]:
    def prepare(settings: Settings, folder: Path) -> list[str]:
        spec = folder / "spec.toml"
        spec.write_text(_spec(settings) + more, encoding="utf-8")
        tunec = Path(sys.executable).parent / "tunec"
        subprocess.run([str(tunec), "compile", str(spec)], check=True, stdout=subprocess.DEVNULL)
        return [str(folder / "run" / "launch.sh"), "--overwrite"]

    return prepare


def _spec(settings: Settings) -> str:
    return SPEC.format(
        model=json.dumps(settings.model),
        conversations=json.dumps(settings.conversations),
        length=settings.length,
        rank=settings.rank,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )


def _tunec_result(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    return {"losses": losses, "peak_bytes": report["peak_memory_bytes"]}


CONTESTANTS = {
    "limit": Contestant(
        "bare torch loop, the model's loss", _prepare_limit("full"), _script_result
    ),
    "limit-kept": Contestant(
        "bare torch loop, head only where a token carries loss",
        _prepare_limit("kept"),
        _script_result,
    ),
    "trl": Contestant("TRL 1.16 SFTTrainer", _prepare_trl, _script_result),
    "tunec": Contestant(
        "tunec, launch.sh, ZeRO stage as by default", _prepare_tunec(""), _tunec_result
    ),
    "tunec-zero0": Contestant(
        "tunec, launch.sh, ZeRO stage 0",
        _prepare_tunec("\n[deepspeed]\nzero_stage = 0\n"),
        _tunec_result,
    ),
}
