"""A process from start to exit code: whatever happens is one line, a record, and a documented number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.session import Clock

# The seeds need torch, which takes seconds to import; what is tested here comes after them.
HEAD = """
import os, sys, time
from pathlib import Path
from tunec.runtime import session
from tunec.runtime.errors import ExitCode, UserError
session._seed = lambda seed: None
session._quiet_imports = lambda: None
RUN_DIR = Path(__file__).resolve().parent
"""


def indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.strip().splitlines())


def run(folder: Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    script = folder / "train.py"
    script.write_text(HEAD + text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEC")}
    environment.pop("RANK", None)
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, check=False, timeout=60, cwd="/",
        env={**environment, "TMPDIR": str(folder), **variables},
    )  # fmt: skip


def started(folder: Path, body: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `body` inside `session.start`."""
    return run(folder, f"with session.start(run_dir=RUN_DIR, seed=1) as run:\n{indented(body)}", **variables)  # fmt: skip


def programmed(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` inside `session.program`."""
    return run(folder, f"with session.program():\n{indented(body)}")


def result(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return record


# Errors


def test_text_of_an_error() -> None:
    """An error is one line, and a second one where there is a way out."""
    assert UserError("no such file").text() == "error: no such file"
    assert UserError("no room", help="make some").text() == "error: no room\n  help: make some"
    assert UserError("x").code == ExitCode.TRAINING


# The session of a rank

FAULTS = {
    "user error": (
        "raise UserError('no rows', help='add some', code=ExitCode.DATA)",
        ExitCode.DATA,
        "error: no rows\n  help: add some\n",
    ),
    "memory": ("raise MemoryError", ExitCode.TRAINING, "error: out of memory\n  help: lower `batch.micro_size`"),
    "memory of a gpu": (
        "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
        ExitCode.TRAINING,
        "error: out of memory\n  help: lower `batch.micro_size`",
    ),
    "memory by torch": (
        "raise RuntimeError(\"DefaultCPUAllocator: can't allocate memory: you tried\")",
        ExitCode.TRAINING,
        "error: out of memory\n",
    ),
    "lost peer": (
        "raise RuntimeError('[gloo] Connection closed by peer [127.0.0.1]:1')",
        ExitCode.LOST,
        "error: another process of the run ended\n",
    ),
    "unknown": (
        "raise KeyError('a\\n b')",
        ExitCode.INTERNAL,
        "error: internal error: KeyError: 'a\\n b'\n  help: this is a fault of tunec or of a library; the traceback is in ",
    ),
    "without text": ("raise AssertionError", ExitCode.INTERNAL, "error: internal error: AssertionError\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_run(tmp_path: Path, name: str) -> None:
    """Each fault ends the rank with its documented code, lines without a traceback, and the record of it."""
    body, code, text = FAULTS[name]
    done = started(tmp_path, body)
    assert done.returncode == code
    assert done.stderr.startswith(text)
    assert "Traceback" not in done.stderr
    record = result(tmp_path)
    assert (record["status"], record["exit_code"]) == ("failed", code)
    assert done.stderr.startswith(f"error: {record['message']}\n")
    log = tmp_path / "logs" / "traceback-rank-0.txt"
    assert log.exists() == (name != "user error")
    if log.exists():
        assert "Traceback (most recent call last)" in log.read_text()
        assert 'train.py", line' in log.read_text()
    if code == ExitCode.INTERNAL:
        assert str(log) in done.stderr
    assert not list((tmp_path / "pids").iterdir())


def test_a_good_end(tmp_path: Path) -> None:
    """A program that comes to its end exits with 0, in its run folder, with all output shown."""
    done = started(tmp_path, "run.say(f'{Path.cwd() == RUN_DIR} {run.is_main} {run.num_ranks}')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True 1\n", "")


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("", 0), ("75", 75), ("'text'", 1)])
def test_own_exit(tmp_path: Path, code: str, expected: int) -> None:
    """A program that ends itself has the code it asked for."""
    assert started(tmp_path, f"raise SystemExit({code})").returncode == expected


def test_other_ranks(tmp_path: Path) -> None:
    """A rank above 0 says nothing on the terminal; its fault goes to a file of its own."""
    done = started(tmp_path, "run.say('hi')\nprint('log')\nraise UserError('no rows')", RANK="1", WORLD_SIZE="2")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.TRAINING, "", "")
    record = json.loads((tmp_path / "failures" / "rank-1.json").read_text())
    assert (record["message"], record["exit_code"]) == ("no rows", ExitCode.TRAINING)
    log = (tmp_path / "logs" / "rank-1.log").read_text()
    assert log == "log\nerror: no rows\n"
    assert not (tmp_path / "result.json").exists()


def test_disk_full_at_the_end(tmp_path: Path) -> None:
    """When neither traceback nor record can be written the process still ends, with the code and the cause shown."""
    body = """
def full(path, text):
    raise UserError("disk full while writing " + path.name)
session.write_text = full
session.rank_module.write_result = lambda *args, **options: full(Path("result.json"), "")
raise ValueError("original cause")
"""
    done = started(tmp_path, body)
    assert done.returncode == ExitCode.INTERNAL
    assert "ValueError: original cause" in done.stderr
    assert "error: internal error: ValueError: original cause\n" in done.stderr
    assert "error: result.json not written: disk full while writing result.json" in done.stderr


def test_threads_do_not_hold_the_end(tmp_path: Path) -> None:
    """A library's thread that waits for a lost peer does not keep the process."""
    body = "import threading\nthreading.Thread(target=time.sleep, args=(50,)).start()\nraise UserError('x')"
    assert started(tmp_path, body).returncode == ExitCode.TRAINING


def test_resume_place(tmp_path: Path) -> None:
    """The checkpoint to resume from is told relative to the run folder; without one there is None."""
    body = "print(run.resume_from)"
    place = str(tmp_path / "checkpoints" / "step-4")
    assert started(tmp_path, body, TUNEC_RESUME_FROM=place).stdout == "checkpoints/step-4\n"
    assert started(tmp_path, body).stdout == "None\n"


def test_phases() -> None:
    """The clock charges each second to one phase, and goes back to the outer one."""
    clock = Clock()
    clock.enter("data")
    with clock.phase("evaluate"):
        pass
    clock.enter("end")
    assert list(clock.seconds) == ["start", "data", "evaluate"]
    assert clock.seconds["start"] > 0
    assert all(seconds >= 0 for seconds in clock.seconds.values())


# A program of one process


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_program(tmp_path: Path, name: str) -> None:
    """Chat, export and fetch end in the same way; the traceback of what nobody expected goes to a file."""
    body, code, text = FAULTS[name]
    done = programmed(tmp_path, body)
    assert done.returncode == code
    assert done.stderr.startswith(text)
    assert "Traceback" not in done.stderr
    kept = list(tmp_path.glob("tunec-traceback-*.txt"))
    assert bool(kept) == (name != "user error")
    if code == ExitCode.INTERNAL:
        assert str(kept[0]) in done.stderr
        assert "Traceback (most recent call last)" in kept[0].read_text()


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C ends a program with 130, silently."""
    done = programmed(tmp_path, "raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "")


def test_reader_that_leaves(tmp_path: Path) -> None:
    """`tunec chat | head -1` ends without a complaint when the reader has seen enough."""
    script = tmp_path / "train.py"
    script.write_text(HEAD + "with session.program():\n    for n in range(99999):\n        print(n, flush=True)\n")  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", '"$0" "$1" | head -1', sys.executable, str(script)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")
