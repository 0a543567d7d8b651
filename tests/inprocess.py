"""Compiled runs on one process inside this one: the generated programs with the real engine, without launching."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}


class Stopped:
    """Asks a run to stop after so many steps; None never does."""

    def __init__(self, after: int | None) -> None:
        """Count the questions, one at the end of each step."""
        self.after, self.asked = after, 0

    def stop_requested(self) -> bool:
        """Tell whether that many steps are done."""
        self.asked += 1
        return self.after is not None and self.asked >= self.after


def make_room(folder: Path, model: Path) -> Path:
    """Put a model and conversations for many runs into a folder, and return it."""
    (folder / "model").symlink_to(model)
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    return folder


def compiled(workspace: Path, text: str, name: str = "first") -> Path:
    """Compile `text` over the small base and prepare its data; return the run folder."""
    from tunec.compiler import compile_spec, from_toml

    text = f'[run]\noutput_dir = "runs/{name}"\n{text}'
    spec = tiny.write_spec(workspace / f"{name}.toml", text)
    return Path(compile_spec(from_toml(spec), base_dir=workspace))


def prepare(run_dir: Path) -> None:
    """Run `prepare.py` here."""
    runpy.run_path(str(run_dir / "prepare.py"), run_name="__main__")


def train(run_dir: Path, *, stop_after: int | None = None, resume: bool = False) -> Any:
    """Run `train.py` here; return what its `training.fit` was given and made: `trainer` and `model`."""
    from tunec.runtime import session as sessions
    from tunec.runtime import training
    from tunec.runtime.training import trainer as trainers

    seen = SimpleNamespace(trainer=None)

    @contextmanager
    def start(*, run_dir: Path, seed: int, packages: Collection[str] = ()) -> Iterator[Any]:
        sessions._seed(seed)
        session = sessions.Session(run_dir, seed, Stopped(stop_after))  # type: ignore[arg-type]
        session.clock.enter("data")
        yield session

    made = trainers.Trainer.__init__

    def keep(self: Any, **kwargs: Any) -> None:
        made(self, **kwargs)
        seen.trainer = self

    with _same_environment(), pytest.MonkeyPatch.context() as patch:
        _reset(patch)
        patch.chdir(run_dir)
        patch.setattr(sessions, "start", start)
        patch.setattr(trainers.Trainer, "__init__", keep)
        if resume:
            steps = (run_dir / "checkpoints").glob("step-*")
            newest = max(steps, key=lambda path: int(path.name.removeprefix("step-")))
            patch.setenv("TUNEC_RESUME_FROM", str(newest))
        runpy.run_path(str(run_dir / "train.py"), run_name="__main__")
    assert training.fit is not None
    return seen.trainer


def on_two_ranks(run_dirs: list[Path]) -> None:
    """Train the runs, whose data are prepared, one after the other in two processes that meet once."""
    shared = {**os.environ, **_MEETING, "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, str(Path(__file__).parent / "one_rank.py"), *map(str, run_dirs)]
    ranks = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [rank.communicate(timeout=500)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], told[0][-3000:]


@contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what the engine and accelerate set: tests that start processes must not hand it on."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        # Or models that later tests load would be spread as those of the last run were.
        unset_hf_deepspeed_config()


def _reset(patch: pytest.MonkeyPatch) -> None:
    """Forget what accelerate kept of the run before, and keep what the engine changes for good."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        patch.delenv(name)
    # ZeRO stage 3 puts its own in place, and leaves it.
    patch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)
    # The process group of the first run serves all, and the engine wants these each time.
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **_MEETING}.items():
        os.environ.setdefault(name, value)
    patch.setenv("TUNEC_SUPERVISOR_PID", "0")
