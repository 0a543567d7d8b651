"""One rank process: signals set a flag, a stuck rank ends, and its records are found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunec.runtime import rank
from tunec.runtime.errors import ExitCode

DEADLINE_S = 60.0

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from tunec.runtime import rank
run_dir = Path(sys.argv[1])
life = rank.enter(run_dir)
"""

STEPS = """
Path("ready").touch()
while not life.stop_requested():
    time.sleep(0.01)
print(life.stop_reason(), flush=True)
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.01)


class Ranks:
    """Starts rank processes in a run folder and ends what is left of them."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.started: list[subprocess.Popen[str]] = []

    def start(self, script: str, **env: str) -> subprocess.Popen[str]:
        """Start a script that has entered, with `life` and `run_dir`."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TUNEC_")}
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(self.run_dir)],
            cwd=self.run_dir,
            env={**clean, "RANK": "0", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def ready(self) -> None:
        """Wait until the script has made the file `ready`."""
        wait_for((self.run_dir / "ready").exists, "the script")

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Wait for the end; returns the exit code and the output."""
        out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out, err


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    """Give a starter of ranks in a fresh folder."""
    found = Ranks(tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", rank.STOP_SIGNALS)
def test_signal_sets_the_flag(ranks: Ranks, number: signal.Signals) -> None:
    """Each stop signal is a request that names it, and a clean leave removes the pid file."""
    process = ranks.start(STEPS + "life.leave(); life.leave()")
    ranks.ready()
    record = json.loads((ranks.run_dir / "pids/rank-0.json").read_text())
    assert record == {
        "pid": process.pid,
        "rank": 0,
        "start_time": rank.start_time(process.pid),
    }
    process.send_signal(number)
    assert ranks.end(process) == (0, number.name + "\n", "")
    assert os.listdir(ranks.run_dir / "pids") == []


def test_second_interrupt_does_not_tear_a_save(ranks: Ranks) -> None:
    """Signals during the save and after leaving change nothing."""
    script = STEPS + (
        "Path('saving').touch()\n"
        "while not Path('go').exists(): time.sleep(0.01)\n"
        "life.leave()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('saved')\n"
    )
    process = ranks.start(script)
    ranks.ready()
    process.send_signal(signal.SIGINT)
    wait_for((ranks.run_dir / "saving").exists, "the save")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    (ranks.run_dir / "go").touch()
    assert ranks.end(process) == (0, "SIGINT\nsaved\n", "")


STUCK = """
import ctypes
Path("ready").touch()
# Like a collective: the main thread never comes back to Python, and the GIL is free.
pause = ctypes.CDLL(None).pthread_mutex_lock
mutex = (ctypes.c_long * 16)()
pause(mutex); pause(mutex)
"""


def test_stuck_rank_ends_as_lost(ranks: Ranks) -> None:
    """A rank that cannot run handlers is ended after the grace, and says where it was."""
    process = ranks.start(STUCK, RANK="1", TUNEC_GRACE_S="0.2")
    ranks.ready()
    process.send_signal(signal.SIGTERM)
    code, _, err = ranks.end(process)
    assert code == ExitCode.LOST
    assert "rank 1 did not reach the end of a step within 0.2 s" in err
    assert "most recent call first" in err
    assert os.listdir(ranks.run_dir / "pids") == []
    record = json.loads((ranks.run_dir / "failures/rank-1.json").read_text())
    assert record["exit_code"] == ExitCode.LOST


def test_stuck_after_saving_is_resumable(ranks: Ranks) -> None:
    """A rank that hangs after it recorded a stop ends with the code of the record."""
    script = "rank.write_result(run_dir, 'stopped', exit_code=75, step=3)\n" + STUCK
    process = ranks.start(script, TUNEC_GRACE_S="0.2")
    ranks.ready()
    process.send_signal(signal.SIGTERM)
    assert ranks.end(process)[0] == ExitCode.RESUMABLE
    assert not (ranks.run_dir / "failures").exists()


def supervisor_env(process: subprocess.Popen[bytes]) -> dict[str, str]:
    return {
        "TUNEC_SUPERVISOR_PID": str(process.pid),
        "TUNEC_SUPERVISOR_START": str(rank.start_time(process.pid)),
    }


def test_death_of_the_supervisor_is_noticed(ranks: Ranks) -> None:
    """Without its supervisor a rank asks itself to stop, also while that is a zombie."""
    supervisor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = ranks.start(STEPS + "life.leave()", **supervisor_env(supervisor))
    ranks.ready()
    supervisor.kill()
    assert ranks.end(process) == (0, "the supervisor ended\n", "")
    supervisor.communicate()


def test_nothing_begins_without_the_supervisor(ranks: Ranks) -> None:
    """A rank that comes to life after its supervisor has died ends before it writes anything."""
    env = {"TUNEC_SUPERVISOR_PID": str(os.getpid()), "TUNEC_SUPERVISOR_START": "1"}
    assert ranks.end(ranks.start("print('never')", **env)) == (ExitCode.LOST, "", "")
    assert os.listdir(ranks.run_dir) == []


def test_death_of_the_launcher_asks_to_stop(ranks: Ranks) -> None:
    """A rank whose parent is killed gets a TERM from the kernel."""
    script = PRELUDE + STEPS.replace("print(", "Path('reason').write_text(").replace(
        ", flush=True", ""
    )
    (ranks.run_dir / "rank.py").write_text(script)
    parent = f"import subprocess; subprocess.run([{sys.executable!r}, 'rank.py', '.'])"
    launcher = subprocess.Popen([sys.executable, "-c", parent], cwd=ranks.run_dir)
    ranks.ready()
    launcher.kill()
    launcher.wait()
    reason = ranks.run_dir / "reason"
    wait_for(lambda: reason.exists() and reason.read_text(), "the reason")
    assert reason.read_text() == "SIGTERM"


def test_workers_ignore_stop_signals(ranks: Ranks) -> None:
    """A forked worker survives the signals, and its parent is not asked to stop by them."""
    script = """
pid = os.fork()
if pid == 0:
    rank.ignore_stop_signals(0)
    for number in rank.STOP_SIGNALS:
        os.kill(os.getpid(), number)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
import select
assert not select.select([life._wake_read], [], [], 0)[0]
assert not life.stop_requested()
life.leave()
"""
    assert ranks.end(ranks.start(script)) == (0, "", "")


def test_entering_twice_is_an_error(ranks: Ranks) -> None:
    """A second enter is a defect of the program."""
    code, _, err = ranks.end(ranks.start("rank.enter(run_dir)"))
    assert code == 1
    assert "entered already" in err


def test_output_of_other_ranks_goes_to_a_log(ranks: Ranks) -> None:
    """Also what C code and child processes write."""
    script = """
rank.redirect_output(run_dir, 1)
print("python")
os.write(2, b"descriptor\\n")
os.system("echo child")
life.leave()
"""
    assert ranks.end(ranks.start(script, RANK="1", PYTHONUNBUFFERED="1")) == (0, "", "")
    log = (ranks.run_dir / "logs/rank-1.log").read_text()
    assert log == "python\ndescriptor\nchild\n"


def test_rank_0_outlives_its_terminal(ranks: Ranks) -> None:
    """When the reader of the output is gone, the output goes on in a log."""
    script = """
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
assert rank.redirect_output(run_dir, 0) is None
print("before")
Path("ready").touch()
while not Path("go").exists(): time.sleep(0.01)
print("after ä")
print("error", file=sys.stderr)
life.leave()
Path("end").touch()
"""
    process = ranks.start(script)
    ranks.ready()
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "before\n"
    process.stdout.close()
    process.stderr.close()
    (ranks.run_dir / "go").touch()
    assert process.wait(timeout=DEADLINE_S) == 0
    assert (ranks.run_dir / "end").exists()
    assert (ranks.run_dir / "logs/rank-0.log").read_text() == "after ä\nerror\n"
    ranks.started.remove(process)


def test_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 writes the result; the first failure of another rank stays; other ends write nothing."""
    monkeypatch.setenv("RANK", "0")
    rank.write_result(tmp_path, "stopped", exit_code=75, step=4, extra={"loss": 1.5})
    result = json.loads((tmp_path / "result.json").read_text())
    assert {k: result[k] for k in ("status", "exit_code", "step", "extra")} == {
        "status": "stopped",
        "exit_code": 75,
        "step": 4,
        "extra": {"loss": 1.5},
    }
    monkeypatch.setenv("RANK", "2")
    rank.write_result(tmp_path, "done", exit_code=0)
    assert not (tmp_path / "failures").exists()
    for message in ("first", "second"):
        rank.write_result(tmp_path, "failed", exit_code=11, message=message)
    assert json.loads((tmp_path / "failures/rank-2.json").read_text())["message"] == "first"


def test_failure_of_an_earlier_attempt_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure is the first of this attempt."""
    monkeypatch.setenv("RANK", "2")
    for start in ("1", "2"):
        monkeypatch.setenv("TUNEC_SUPERVISOR_PID", "1")
        monkeypatch.setenv("TUNEC_SUPERVISOR_START", start)
        rank.write_result(tmp_path, "failed", exit_code=11, message=start)
    assert json.loads((tmp_path / "failures/rank-2.json").read_text())["message"] == "2"
