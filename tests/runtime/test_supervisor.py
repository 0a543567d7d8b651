"""The supervisor: trusted exit codes, nothing left behind, and a loadable checkpoint after any kill."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunec.runtime import launcher, preflight, rank, run_folder, storage
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.options import Options

DEADLINE_S = 120.0
SEED = int(os.environ.get("TEST_SEED", "1"))
HOSTILE = "a b'c\"$HOME `id` ü;&"

# Trains by counting. Files in the run folder stand in for the all-reduce of the stop flag and let a test
# hold the ranks at a moment: `hold-M` holds them there until it is gone, `at-M-R` says that rank R came.
TRAIN = """
import os, sys, time
from pathlib import Path
from tunec.runtime import rank, storage

NUMBER = rank.rank_from_env()
HERE = Path.cwd()

def moment(name):
    Path(f"at-{name}-{NUMBER}").write_text(str(os.getpid()))
    while Path(f"hold-{name}").exists():
        time.sleep(0.01)

def save(step):
    if NUMBER:
        return
    final = HERE / "checkpoints" / f"step-{step}"
    if final.exists():
        return
    staging = storage.staging_directory(final)
    (staging / "half.bin").write_text(str(step))
    if step:
        moment("save")
    (staging / "rest.bin").write_text(str(step))
    storage.commit_directory(staging, final, {"step": step, "total_steps": 1000000})
    storage.prune(HERE / "checkpoints", 2, set())

moment("import")
life = rank.enter(HERE)
rank.redirect_output(HERE, NUMBER)
print("rank", NUMBER, "prints")
source = os.environ.get("TUNEC_RESUME_FROM")
step = storage.step_of(Path(source)) if source else 0
Path("metrics.jsonl").touch()
save(step)
last = int(os.environ.get("LAST", 10**6))
while step < last:
    step += 1
    time.sleep(0.005)
    if life.stop_requested():
        Path("agreed").touch()
    if Path("agreed").exists():
        save(step)
        rank.write_result(HERE, "stopped", exit_code=75, step=step)
        life.leave()
        sys.exit(0)
    if step % 20 == 0:
        save(step)
    moment("step")
rank.write_result(HERE, "done", exit_code=0, step=step)
life.leave()
"""

# As deepspeed's two programs behave, without the seconds that they take.
FRONT = """
import os, subprocess, sys
open("who-front", "w").write(str(os.getpid()))
node = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(sys.argv[0]), "node.py"), *sys.argv[1:]])
node.wait()
sys.exit(max(node.returncode, 0))
"""
NODE = """
import os, signal, subprocess, sys, time
open("who-node", "w").write(str(os.getpid()))
ranks = [subprocess.Popen([sys.executable, *sys.argv[2:]], env={**os.environ, "RANK": str(r)}) for r in range(int(sys.argv[1]))]
def end(number, frame, code=1):
    for r in ranks:
        if r.poll() is None:
            r.terminate()
            r.wait()
    sys.exit(code)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
while any(r.poll() is None for r in ranks):
    for r in ranks:
        if r.poll():
            end(0, None, r.returncode)
    time.sleep(0.05)
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.01)


def processes_of(run_dir: Path) -> dict[int, str]:
    """Return the living processes whose command line or environment names the run folder."""
    needle, found = os.fsencode(run_dir), {}
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(entry.name) != os.getpid() and needle in text:
            found[int(entry.name)] = text[:80].decode(errors="replace")
    return found


@dataclass
class Run:
    """A run folder, and the supervisors started in it."""

    run_dir: Path
    tools: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, script: str = TRAIN) -> None:
        """Write the compiled files."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "train.py").write_text(script)
        digest = hashlib.sha256(script.encode()).hexdigest()
        (self.run_dir / "manifest.json").write_text(json.dumps({"files": {"train.py": digest}}))

    def command(self, processes: int = 2) -> list[str]:
        """Return the stand-in for the launcher."""
        return [sys.executable, str(self.tools / "front.py"), str(processes), "train.py"]

    def start(
        self, *flags: str, command: list[str] | None = None, cwd: Path | None = None, **env: str
    ) -> subprocess.Popen[str]:
        """Start a supervisor."""
        words = [sys.executable, "-m", "tunec.runtime.supervisor", "--run-dir", str(self.run_dir)]
        words += ["--processes", "2", "--device", "cpu", *flags, "--"]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TUNEC_")}
        process = subprocess.Popen(
            words + (self.command() if command is None else command),
            cwd=cwd or self.tools,
            env={**clean, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the supervisor; returns its exit code and the output, and checks what must hold."""
        # Not the end of the output: a process left behind would hold that open.
        wait_for(lambda: process.poll() is not None, "the supervisor")
        code = process.returncode
        if code >= 0:
            assert processes_of(self.run_dir) == {}
        # After a SIGKILL of the supervisor its processes end by themselves.
        wait_for(lambda: not processes_of(self.run_dir), f"the end of {processes_of(self.run_dir)}")
        return code, process.communicate()[0]

    def run(self, *flags: str, **kwargs: object) -> tuple[int, str]:
        """Start a supervisor and wait for it."""
        return self.end(self.start(*flags, **kwargs))  # type: ignore[arg-type]

    def hold(self, name: str) -> None:
        """Hold the ranks at a moment."""
        (self.run_dir / f"hold-{name}").touch()

    def release(self) -> None:
        """Let the ranks go on."""
        for path in self.run_dir.glob("hold-*"):
            path.unlink()

    def pid(self, who: str) -> int:
        """Wait for a process of the run to say its pid."""
        path = self.run_dir / who
        found: list[int] = []

        def read() -> bool:
            # The rank writes it anew at each step, and it is empty for an instant.
            text = path.read_text() if path.exists() else ""
            found.extend([int(text)] if text else [])
            return bool(found)

        wait_for(read, who)
        return found[0]

    def newest(self) -> storage.Committed | None:
        """Return the newest complete checkpoint, read through."""
        return storage.newest_committed(self.run_dir / "checkpoints", deep=True)

    def fresh(self) -> None:
        """Forget the marks of the moments."""
        for pattern in ("at-*", "hold-*", "who-*", "agreed"):
            for path in self.run_dir.glob(pattern):
                path.unlink()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Give a compiled run folder with a hostile name and a stand-in launcher."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "front.py").write_text(FRONT)
    (tools / "node.py").write_text(NODE)
    found = Run(tmp_path / HOSTILE, tools)
    found.write()
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        for pid in processes_of(found.run_dir):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


# --- kill anything, any time ------------------------------------------------------------------------

SIGNALS = ("TERM", "INT", "HUP", "KILL")
TARGETS = ("supervisor", "who-front", "who-node", "at-{}-0", "at-{}-1")


def expected_code(target: str, name: str, moment: str) -> int:
    """Return the documented exit code."""
    number = signal.Signals[f"SIG{name}"]
    if target == "supervisor" and name == "KILL":
        return -number
    if moment == "import":
        return 128 + number if target == "supervisor" else ExitCode.LOST
    if target == "at-{}-0" and name == "KILL":
        return ExitCode.LOST
    return ExitCode.RESUMABLE


@pytest.mark.parametrize("moment", ["import", "step", "save"])
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("target", TARGETS)
def test_kill_matrix(run: Run, target: str, name: str, moment: str) -> None:
    """Whoever gets whichever signal whenever: the documented code, no process left, a loadable checkpoint."""
    run.hold(moment)
    process = run.start("--grace-s", "60")
    # In the save only rank 0 passes by; rank 1 is then somewhere among its steps.
    run.pid(f"at-{moment}-0")
    pid = process.pid
    if target != "supervisor":
        pid = run.pid(target.format("step" if moment == "save" and "1" in target else moment))
    run.pid("at-import-1")
    if moment != "import":
        wait_for((run.run_dir / "pids/rank-1.json").exists, "rank 1")
    os.kill(pid, signal.Signals[f"SIG{name}"])
    if moment == "import" or (target == "supervisor" and name == "KILL"):
        # Else the ranks might come to life before the signal has had its effect.
        wait_for(lambda: process.poll() is not None, "the end of the supervisor")
    elif name == "KILL":
        wait_for(lambda: rank.start_time(pid) is None, f"the end of {target}")
    run.release()
    code, output = run.end(process)
    assert code == expected_code(target, name, moment), output
    newest = run.newest()
    if moment == "import":
        assert newest is None
        return
    assert newest is not None
    run.fresh()
    step = storage.step_of(newest.path)
    code, output = run.run("--resume", LAST=str((step or 0) + 3))
    assert code == ExitCode.OK, output
    assert f"resuming from step {step} of 1000000" in output


def test_done(run: Run) -> None:
    """A finished run ends with 0 and without a word of ours; rank 1 has its log."""
    assert run.run(LAST="3") == (0, "rank 0 prints\n")
    assert (run.run_dir / "logs/rank-1.log").read_text() == "rank 1 prints\n"
    assert not (run.run_dir / "pids").exists()


def test_second_interrupt_ends_at_once(run: Run) -> None:
    """The second Ctrl-C does not wait for the save, and the earlier checkpoint stays."""
    run.hold("save")
    process = run.start("--grace-s", "600")
    run.pid("at-save-0")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    lines = []
    while "press Ctrl-C again" not in (line := process.stdout.readline()):
        lines.append(line)
        assert line
    process.send_signal(signal.SIGINT)
    code, output = run.end(process)
    assert code == ExitCode.LOST
    assert "ended at once as asked, without a new checkpoint" in output
    assert "`--resume` continues from step-0" in output
    assert run.newest() is not None


def test_stop_message_comes_once(run: Run) -> None:
    """Repeated signals that are no second Ctrl-C change nothing."""
    run.hold("step")
    process = run.start()
    run.pid("at-step-0")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    wait_for((run.run_dir / "pids/rank-0.json").exists, "rank 0")
    run.release()
    code, output = run.end(process)
    assert code == ExitCode.RESUMABLE
    assert output.count("stopping after this step") == 1
    assert "start again with `--resume`" in output


def test_grace_runs_out(run: Run) -> None:
    """Ranks that do not come to the end of a step are ended, and that is said."""
    run.hold("save")
    process = run.start("--grace-s", "0.5")
    run.pid("at-save-0")
    process.send_signal(signal.SIGTERM)
    code, output = run.end(process)
    assert code == ExitCode.LOST
    assert "within 0.45 s" in output
    assert run.newest() is not None


def test_no_other_process_stays(run: Run) -> None:
    """A daemon that a rank has detached, deaf to TERM, goes too."""
    stray = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import signal, time\\n"
        "for n in (15, 2, 1): signal.signal(n, signal.SIG_IGN)\\n"
        'open("stray", "w").close()\\nwhile True: time.sleep(1)\'], start_new_session=True)\n'
        "import os, time\n"
        "while not os.path.exists('stray'): time.sleep(0.01)\n"
    )
    run.write(stray + TRAIN)
    assert run.run(LAST="1")[0] == 0


def test_failure_of_a_rank_is_shown(run: Run) -> None:
    """The first rank that failed gives the message and the code, not the ones that failed after it."""
    run.write(
        "from pathlib import Path; from tunec.runtime import rank; import time, sys\n"
        "life = rank.enter(Path.cwd()); number = rank.rank_from_env()\n"
        "rank.redirect_output(Path.cwd(), number)\n"
        "if number: rank.write_result(Path.cwd(), 'failed', exit_code=11, message='bad row', help='fix it')\n"
        "else:\n"
        "    while not Path('failures/rank-1.json').exists(): time.sleep(0.01)\n"
        "    rank.write_result(Path.cwd(), 'failed', exit_code=10, message='connection closed')\n"
        "sys.exit(1)\n"
    )
    code, output = run.run()
    assert code == ExitCode.DATA
    assert "error: rank 1: bad row\n  help: fix it\n" in output
    assert "connection closed" not in output


def test_killed_rank_is_named_before_its_victims(run: Run) -> None:
    """Rank 1 is killed and rank 0 fails in the collective: the message names rank 1 and its last lines."""
    run.write(
        "from pathlib import Path; from tunec.runtime import rank; import os, time, signal, sys\n"
        "life = rank.enter(Path.cwd()); number = rank.rank_from_env()\n"
        "rank.redirect_output(Path.cwd(), number)\n"
        "if number:\n"
        "    while not Path('at-0').exists(): time.sleep(0.01)\n"
        "    print('my last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path('at-0').touch()\n"
        "while not life.stop_requested(): time.sleep(0.01)\n"
        "rank.write_result(Path.cwd(), 'failed', exit_code=10, message='connection closed')\n"
        "sys.exit(10)\n"
    )
    code, output = run.run()
    assert code == ExitCode.LOST
    assert "error: rank 1 " in output
    assert "my last words" in output
    assert "connection closed" not in output


@pytest.mark.parametrize("script", ["raise SystemExit(0)", "raise ValueError('x')", "os.abort()"])
def test_no_result_is_never_success(run: Run, script: str) -> None:
    """Without a record of rank 0 the code is 14, whatever the launcher says."""
    run.write("import os\n" + script)
    code, output = run.run()
    assert code == ExitCode.LOST
    assert "before any rank had started" in output


def test_result_of_an_earlier_attempt_does_not_count(run: Run) -> None:
    """A record that this attempt did not write is no success."""
    run.write("import json; json.dump({'status': 'done', 'attempt': ''}, open('result.json', 'w'))")
    assert run.run()[0] == ExitCode.LOST


def test_interrupt_before_the_start(run: Run, tmp_path: Path) -> None:
    """A signal while an extension is built ends with 130, and the build is gone."""
    (tmp_path / "ext").mkdir()
    holder = os.open(tmp_path / "ext/.tunec.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    process = run.start("--extension", "shm_comm", TORCH_EXTENSIONS_DIR=str(tmp_path / "ext"))
    assert process.stdout is not None
    assert "waiting for another run" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, output = run.end(process)
    os.close(holder)
    assert code == 130
    assert "interrupted before the training began" in output


# --- the run folder ---------------------------------------------------------------------------------


def stopped(run: Run) -> int:
    """Bring the run to a stop by TERM; returns the step."""
    process = run.start()
    run.pid("at-step-0")
    wait_for((run.run_dir / "checkpoints/step-0").exists, "the first checkpoint")
    process.send_signal(signal.SIGTERM)
    code, output = run.end(process)
    assert code == ExitCode.RESUMABLE, output
    run.fresh()
    newest = run.newest()
    assert newest is not None
    return storage.step_of(newest.path) or 0


def test_existing_run_is_refused_with_both_choices(run: Run) -> None:
    """The message names `--resume` and `--overwrite` and what each would do."""
    step = stopped(run)
    before = sorted(run.run_dir.rglob("*"))
    code, output = run.run()
    assert code == ExitCode.CONFLICT
    assert f"`--resume` continues from step {step} of 1000000" in output
    assert "`--overwrite` deletes checkpoints, logs, metrics, plots and final weights" in output
    assert sorted(run.run_dir.rglob("*")) == before


def test_finished_run_is_not_resumed(run: Run) -> None:
    """Nothing is left to do: 0 with `--resume`, a refusal without."""
    run.run(LAST="2")
    code, output = run.run("--resume")
    assert (code, "finished already" in output) == (0, True)
    code, output = run.run()
    assert (code, "finished run" in output) == (ExitCode.CONFLICT, True)


def test_overwrite_deletes_the_outputs_and_nothing_else(run: Run) -> None:
    """Files that the run did not write stay."""
    stopped(run)
    for name in (*run_folder.OUTPUTS, "notes.txt", "data"):
        path = run.run_dir / name
        if not path.exists():
            path.mkdir() if "." not in name[1:] else path.touch()
    (run.run_dir / "final" / "old").touch()
    code, output = run.run("--overwrite", LAST="1")
    assert code == 0, output
    names = {path.name for path in run.run_dir.iterdir()}
    assert {"notes.txt", "data", "train.py", "manifest.json"} <= names
    assert not {"final", "plots", ".resume", "report.json"} & names
    newest = run.newest()
    assert newest is not None
    assert newest.path.name == "step-0"


def test_overwrite_follows_no_link(run: Run, tmp_path: Path) -> None:
    """A link among the outputs is removed, and what it points to stays."""
    stopped(run)
    elsewhere = tmp_path / "elsewhere"
    (run.run_dir / "checkpoints").rename(elsewhere)
    (run.run_dir / "checkpoints").symlink_to(elsewhere)
    assert run.run("--overwrite", LAST="1")[0] == 0
    assert storage.newest_committed(elsewhere) is not None


def test_resume_passes_over_damage_and_says_so(run: Run) -> None:
    """A checkpoint that was changed on disk is named, and the one before it is used."""
    step = stopped(run)
    folder = run.run_dir / "checkpoints"
    shutil.copytree(folder / f"step-{step}", folder / "step-999")
    path = folder / "step-999" / "half.bin"
    path.write_text("x" * len(path.read_text()))
    code, output = run.run("--resume", LAST=str(step + 1))
    assert code == 0
    assert "warning: checkpoint step-999 is not usable: half.bin was changed" in output
    assert f"resuming from step {step} of" in output


def test_resume_without_a_usable_checkpoint(run: Run) -> None:
    """It does not silently start over."""
    stopped(run)
    for path in (run.run_dir / "checkpoints").glob("*/half.bin"):
        path.unlink()
    code, output = run.run("--resume")
    assert code == ExitCode.CHECKPOINT
    assert "half.bin is missing" in output
    assert "`--overwrite`" in output


def test_edited_files_are_named(run: Run) -> None:
    """A changed and a missing file are refused; `--allow-edited` runs them."""
    (run.run_dir / "train.py").write_text("# mine\n" + TRAIN)
    code, output = run.run(LAST="1")
    assert code == ExitCode.CONFLICT
    assert "changed since they were compiled: train.py" in output
    assert run.run("--allow-edited", LAST="1")[0] == 0


def test_folder_without_manifest_is_refused(run: Run) -> None:
    """Only a compiled folder is run."""
    (run.run_dir / "manifest.json").unlink()
    assert run.run()[0] == ExitCode.CONFLICT


def test_second_run_is_refused(run: Run) -> None:
    """The message says who holds the folder."""
    run.hold("step")
    first = run.start()
    run.pid("at-step-0")
    code, output = second(run)
    assert code == ExitCode.CONFLICT
    assert f"is in use by process {first.pid} on {socket.gethostname()} since 2" in output
    first.send_signal(signal.SIGTERM)
    run.release()
    assert run.end(first)[0] == ExitCode.RESUMABLE


def second(run: Run) -> tuple[int, str]:
    """Start a second supervisor while the first one runs."""
    process = run.start()
    output = process.communicate(timeout=DEADLINE_S)[0]
    return process.returncode, output


def test_living_ranks_of_a_killed_supervisor_are_waited_for(run: Run) -> None:
    """Their lock is gone with the supervisor, but they still save in the folder."""
    run.hold("save")
    first = run.start()
    run.pid("at-save-0")
    first.kill()
    first.wait()
    code, output = second(run)
    assert code == ExitCode.CONFLICT
    assert "processes of an earlier attempt still run" in output
    run.release()
    run.end(first)


# --- preflight --------------------------------------------------------------------------------------


def options(run_dir: Path, **changes: object) -> Options:
    base: dict[str, object] = {
        "run_dir": run_dir,
        "processes": 2,
        "device": "cpu",
        "command": ("true",),
    }
    return Options(**{**base, **changes})  # type: ignore[arg-type]


def test_too_little_space(tmp_path: Path) -> None:
    """The message has both sizes."""
    with pytest.raises(UserError, match=r"1000000\.0 GiB needed, .* free") as caught:
        preflight.preflight(options(tmp_path, need_gib=1e6))
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_busy_port(tmp_path: Path) -> None:
    """A port that listens is refused before anything starts."""
    with socket.socket() as holder:
        holder.bind(("", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be used"):
            preflight.preflight(options(tmp_path, port=port))


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe tells the reason of the system."""

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight, "write_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
        preflight.preflight(options(tmp_path))


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for nvidia-smi with two GPUs first in PATH."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    lines = [f"GPU {i}: NVIDIA X (UUID: GPU-{i}{i}{i}{i}-abcd)" for i in range(2)]
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "processes", "gpus"),
    [
        (None, 2, None),
        ("1", 1, ("1",)),
        ("1,0", 2, ("1", "0")),
        ("1,0", 1, ("1",)),
        ("GPU-1111", 1, ("1",)),
        (" 0 , 1 ", 2, ("0", "1")),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_gpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    processes: int,
    gpus: tuple[str, ...] | None,
) -> None:
    """Visible GPUs are given to the launcher by number, since it ignores CUDA_VISIBLE_DEVICES."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    command = ["deepspeed", "--num_gpus", str(processes), "train.py"]
    chosen = options(tmp_path, device="gpu", processes=processes, command=command)
    assert preflight.preflight(chosen) == gpus
    words = launcher.launcher_command(command, 1234, gpus)
    wanted = ["--num_gpus", str(processes)]
    if gpus:
        wanted = ["--include", f"localhost:{','.join(gpus)}"]
        env = launcher.child_environment(chosen, port=1, resume_from=None, gpus=gpus)
        assert "CUDA_VISIBLE_DEVICES" not in env
    assert words[-3:] == [*wanted, "train.py"]


@pytest.mark.usefixtures("two_gpus")
def test_the_gpu_of_a_single_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher the only rank gets its GPU, and is told who it is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    chosen = options(tmp_path, device="gpu", processes=1, command=["python3", "train.py"])
    gpus = preflight.preflight(chosen)
    env = launcher.child_environment(chosen, port=1234, resume_from=None, gpus=gpus)
    names = (
        "CUDA_VISIBLE_DEVICES",
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    )
    assert [env[name] for name in names] == ["1", "0", "0", "1", "127.0.0.1", "1234"]


@pytest.mark.parametrize(
    ("visible", "says"),
    [
        (None, "3 GPUs are needed, 2 can be used"),
        ("", "3 GPUs are needed, 0 can be used"),
        ("0,-1,1", "1 can be used"),
        ("0,5,1", "1 can be used"),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_too_few_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, says: str
) -> None:
    """The count follows CUDA: an unknown entry hides the ones after it."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UserError, match=says) as caught:
        preflight.preflight(options(tmp_path, device="gpu", processes=3))
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_no_gpu_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver the message says how it was looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="nvidia-smi"):
        preflight.preflight(options(tmp_path, device="gpu"))


# --- command and environment ------------------------------------------------------------------------


def test_flags_of_the_launcher() -> None:
    """DeepSpeed gets its flags right after its name; another program is left alone."""
    words = launcher.launcher_command(["deepspeed", "--num_gpus", "2", "train.py"], 7)
    assert words[:3] == ["deepspeed", "--master_port", "7"]
    assert "--log_level" in words
    assert words[-3:] == ["--num_gpus", "2", "train.py"]
    words = launcher.launcher_command(["deepspeed", "--log_level", "info", "train.py"], 7)
    assert words.count("--log_level") == 1
    assert launcher.launcher_command(["python", "train.py"], 7) == ["python", "train.py"]


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children get what they need, and nothing of an outer run."""
    monkeypatch.setenv("TUNEC_RESUME_FROM", "/of/another/run")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = launcher.child_environment(options(tmp_path, grace_s=20), port=7, resume_from=None)
    assert "TUNEC_RESUME_FROM" not in env
    assert env["DS_ACCELERATOR"] == "cpu"
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["TUNEC_GRACE_S"] == "18"
    assert env["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert env["OMP_NUM_THREADS"] == str(max(1, launcher.usable_cpus() // 2))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    env = launcher.child_environment(options(tmp_path), port=7, resume_from=tmp_path / "step-4")
    assert env["OMP_NUM_THREADS"] == "5"
    assert env["TUNEC_RESUME_FROM"] == str(tmp_path / "step-4")


def test_unknown_program(run: Run) -> None:
    """A launcher that is not installed is a matter of the environment."""
    code, output = run.run(command=["no-such-launcher"])
    assert code == ExitCode.ENVIRONMENT
    assert "no-such-launcher cannot be started" in output


@pytest.mark.parametrize(
    "flags",
    [
        ["--resume", "--overwrite"],
        ["--processes", "0"],
        ["--port", "70000"],
        ["--grace-s", "nan"],
        ["--unknown"],
    ],
)
def test_wrong_usage(run: Run, flags: list[str]) -> None:
    """Wrong flags end with 2 and write nothing."""
    assert run.run(*flags)[0] == ExitCode.USAGE
    assert not (run.run_dir / ".lock").exists()


@pytest.mark.heavy
def test_random_kills(run: Run) -> None:
    """A run that is killed again and again at any instant never loses a checkpoint or hangs."""
    chance = random.Random(SEED)
    reached = -1
    for _ in range(50):
        process = run.start("--resume")
        run.pid("at-import-1")
        # At any instant: the one place where a test must not wait for a condition.
        time.sleep(chance.random() * 0.5)
        target = chance.choice(
            ("supervisor", "who-front", "who-node", "at-import-0", "at-import-1")
        )
        name = chance.choice(SIGNALS)
        pid = process.pid if target == "supervisor" else run.pid(target)
        os.kill(pid, signal.Signals[f"SIG{name}"])
        code, output = run.end(process)
        early = 128 + signal.Signals[f"SIG{name}"]
        allowed = (ExitCode.RESUMABLE, ExitCode.LOST, early, -signal.SIGKILL)
        assert code in allowed, f"seed {SEED}, {name} to {target}: {output}"
        newest = run.newest()
        step = -1 if newest is None else storage.step_of(newest.path) or 0
        assert step >= reached, f"seed {SEED}, {name} to {target}: {output}"
        assert code != ExitCode.RESUMABLE or step > reached, output
        reached = step
        run.fresh()
    assert run.run("--resume", LAST=str(reached + 1))[0] == 0


# --- with deepspeed's launcher ----------------------------------------------------------------------

GLOO = """
import os, sys
from pathlib import Path
from tunec.runtime import rank, storage
life = rank.enter(Path.cwd())
number = rank.rank_from_env()
rank.redirect_output(Path.cwd(), number)
import torch, torch.distributed as dist
dist.init_process_group("gloo")
source = os.environ.get("TUNEC_RESUME_FROM")
step = storage.step_of(Path(source)) if source else 0
Path("metrics.jsonl").touch()

def save():
    final = Path("checkpoints", f"step-{step}").absolute()
    if number == 0:
        storage.staging_directory(final)
    dist.barrier()
    staging = final.parent / f".{final.name}.tmp"
    torch.save(torch.full((4,), step), staging / f"rank-{number}.pt")
    dist.barrier()
    if number == 0:
        storage.commit_directory(staging, final, {"step": step})
    dist.barrier()

last = int(os.environ.get("LAST", 10**9))
try:
    while step < last:
        step += 1
        flag = torch.tensor(int(life.stop_requested()))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        if flag or step == 3:
            save()
        if flag:
            break
        if step > 5:
            Path(f"at-step-{number}").write_text(str(os.getpid()))
except RuntimeError as error:
    rank.write_result(Path.cwd(), "failed", exit_code=10, message=f"collective: {error}")
    os._exit(10)
if step < last:
    rank.write_result(Path.cwd(), "stopped", exit_code=75, step=step)
else:
    rank.write_result(Path.cwd(), "done", exit_code=0, step=step)
life.leave()
dist.destroy_process_group()
"""
DEEPSPEED = ["deepspeed", "--no_local_rank", "--num_gpus", "2", "train.py"]


def child_of(pid: int, text: str) -> int:
    """Return the child of a process whose command line holds a text."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = rank.proc_stat(int(entry.name))
            if stat and int(stat[1]) == pid and text in (entry / "cmdline").read_text():
                return int(entry.name)
    raise AssertionError(f"{pid} has no child {text}")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("target", "name", "code"),
    [
        ("supervisor", "TERM", ExitCode.RESUMABLE),
        ("supervisor", "KILL", -signal.SIGKILL),
        ("front", "KILL", ExitCode.RESUMABLE),
        ("node", "KILL", ExitCode.RESUMABLE),
        ("node", "TERM", ExitCode.RESUMABLE),
        ("rank", "KILL", ExitCode.LOST),
    ],
)
def test_deepspeed_kills(run: Run, target: str, name: str, code: int) -> None:
    """With deepspeed's own launcher and collectives between the ranks the same holds."""
    run.write(GLOO)
    process = run.start(command=DEEPSPEED)
    ranks = [run.pid(f"at-step-{number}") for number in range(2)]
    front = child_of(process.pid, "deepspeed")
    node = child_of(front, "deepspeed.launcher.launch")
    pid = {"supervisor": process.pid, "front": front, "node": node, "rank": ranks[1]}[target]
    os.kill(pid, signal.Signals[f"SIG{name}"])
    found, output = run.end(process)
    assert found == code, output
    if code == ExitCode.LOST:
        # On a machine with much to do the node launcher can collect its rank before anybody has looked.
        assert re.search("rank 1 (was killed by SIGKILL|ended without saying why)", output), output
    assert "Traceback" not in output
    newest = run.newest()
    assert newest is not None
    assert {path.name for path in newest.path.iterdir()} >= {"rank-0.pt", "rank-1.pt"}
    assert (storage.step_of(newest.path) == 3) == (code == ExitCode.LOST)


@pytest.mark.heavy
def test_deepspeed_finishes_quietly(run: Run) -> None:
    """A run that is done ends with 0, and the launcher prints nothing of its own."""
    run.write(GLOO)
    code, output = run.run(command=DEEPSPEED, LAST="8")
    assert (code, output) == (0, "")
