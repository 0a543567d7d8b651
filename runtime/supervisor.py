"""Start a run's launcher, watch over its ranks, and end with an exit code that can be trusted.

    python -m tunec.runtime.supervisor --run-dir DIR --processes N --device cpu -- COMMAND...

Neither DeepSpeed's launcher nor its exit code can be relied on: it hands signals on to one rank after the
other, or to none; it ends with 0 when its node process is killed; it leaves ranks behind. So this process
signals the ranks itself, inherits every orphan, ends whatever is left, and takes the exit code from what
rank 0 wrote in `result.json` during this attempt.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn, cast

from .errors import ExitCode, UserError
from .extensions import EXTENSIONS, Device, ensure_built, extensions_dir, search_path
from .rank import STOP_SIGNALS, is_alive, prctl, proc_stat, start_time
from .storage import (
    Committed,
    disk_errors,
    gib,
    newest_committed,
    sha256_file,
    step_directories,
    step_of,
    sweep,
    write_bytes,
)

OUTPUTS = (
    "checkpoints",
    "logs",
    "pids",
    "failures",
    "plots",
    "metrics.jsonl",
    "result.json",
    "report.json",
    "final",
    ".resume",
)
"""What a run writes beside the compiled files, and all that `--overwrite` deletes."""

_POLL_S = 0.1
_LINGER_S = 5.0
_END_S = 30.0
# launch.py needs a second or more to end the other ranks: what is gone sooner was gone first.
_SAME_MOMENT_S = 0.5
_TAIL_LINES = 15
_PR_SET_CHILD_SUBREAPER = 36
_STOPPING = (
    "stopping after this step, saving; press Ctrl-C again to end now without a new checkpoint"
)


@dataclass(frozen=True)
class Options:
    """One call of the supervisor."""

    run_dir: Path
    processes: int
    device: Device
    command: tuple[str, ...]
    port: int | None = None
    grace_s: float = 120.0
    on_existing: Literal["refuse", "resume", "overwrite"] = "refuse"
    need_gib: float = 0.0
    extensions: tuple[str, ...] = ()
    allow_edited: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code of `ExitCode`, or 128 + signal before any rank began."""
    options = _parse(sys.argv[1:] if argv is None else argv)
    signals = _Signals()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        signals.install()
        return supervise(options, signals)
    except UserError as error:
        _say(error.text())
        return error.code
    except _InterruptedEarlyError as error:
        _say("interrupted before the training began")
        return 128 + error.number
    except Exception:
        _say(traceback.format_exc().rstrip())
        _say("error: this is a defect of tunec's supervisor, see above")
        return ExitCode.INTERNAL
    finally:
        signals.starting = False
        end_descendants()


def supervise(options: Options, signals: _Signals) -> int:
    """Check everything, run one attempt, and return its exit code.

    Raises:
        UserError: what keeps the run from starting (codes USAGE, CONFLICT, ENVIRONMENT, CHECKPOINT).
    """
    with _locked(options.run_dir):
        _refuse_living_ranks(options.run_dir)
        if not options.allow_edited:
            check_manifest(options.run_dir)
        earlier = inspect(options.run_dir, deep=options.on_existing == "resume")
        if _is_finished(options, earlier):
            return ExitCode.OK
        resume_from = _resume_from(options, earlier)
        devices = preflight(options)
        ensure_built(options.extensions, device=options.device, say=_say)
        _clear(options)
        return _attempt(options, signals, resume_from, devices)


# --- the command line -------------------------------------------------------------------------------


def _parse(argv: Sequence[str]) -> Options:
    parser = _parser()
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    known = parser.parse_args(words[:cut])
    command = tuple(words[cut + 1 :])
    if not command:
        parser.error("the command to start is missing after --")
    return Options(
        run_dir=Path(known.run_dir).absolute(),
        processes=known.processes,
        device=known.device,
        command=command,
        port=known.port,
        grace_s=known.grace_s,
        on_existing=known.on_existing,
        need_gib=known.need_gib,
        extensions=tuple(dict.fromkeys(known.extension)),
        allow_edited=known.allow_edited,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launch", allow_abbrev=False)
    add = parser.add_argument
    add("--run-dir", required=True, help="the compiled run folder")
    add("--processes", required=True, type=_count, help="the number of ranks")
    add("--device", required=True, choices=["cpu", "gpu"])
    add("--port", type=_port, help="port of rank 0 (default: a free one)")
    add("--grace-s", type=_amount, default=120.0, help="seconds to save in when stopped")
    add("--need-gib", type=_amount, default=0.0, help="free disk space to ask for")
    add("--extension", action="append", default=[], choices=sorted(EXTENSIONS))
    add("--allow-edited", action="store_true", help="run files that were edited by hand")
    choices = ["refuse", "resume", "overwrite"]
    # What the spec says stands in the script; what a person adds by hand comes after it and wins.
    add("--on-existing", choices=choices, default="refuse")
    existing = parser.add_mutually_exclusive_group()
    for choice, text in (
        ("resume", "continue from the newest checkpoint"),
        ("overwrite", "delete what an earlier run wrote and start again"),
    ):
        existing.add_argument(
            f"--{choice}", dest="on_existing", action="store_const", const=choice, help=text
        )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError("must lie between 1 and 65535")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be a number of 0 or more")
    return value


def _say(text: str) -> None:
    # The terminal may be gone (SIGHUP): the run matters more than its messages.
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


# --- signals ----------------------------------------------------------------------------------------


class _InterruptedEarlyError(BaseException):
    """A stop signal before the launcher was started."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class _Signals:
    """What the user or the scheduler asked for so far."""

    starting: bool = True
    stop: int = 0
    end_now: bool = False

    def install(self) -> None:
        for number in STOP_SIGNALS:
            # nohup and background jobs of scripts have asked not to be stopped by these.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.starting:
            raise _InterruptedEarlyError(number)
        self.end_now = self.end_now or (number == signal.SIGINT and self.stop != 0)
        self.stop = self.stop or number


# --- the run folder ---------------------------------------------------------------------------------


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    if not run_dir.is_dir():
        raise UserError(f"there is no run folder {run_dir}", code=ExitCode.USAGE)
    try:
        fd = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(run_dir, error) from error
    try:
        _lock(fd, run_dir)
        info = {"pid": os.getpid(), "host": socket.gethostname(), "start": _now()}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(info).encode(), 0)
        yield
        os.ftruncate(fd, 0)
    finally:
        # The file stays: removing it would let two runs hold locks on two files of one name.
        os.close(fd)


def _lock(fd: int, run_dir: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        info = _parse_record(os.pread(fd, 4096, 0))
        holder = "process {pid} on {host} since {start}".format_map(_Unknown(info))
        raise UserError(
            f"{run_dir} is in use by {holder}",
            help="wait for that run, or stop it first",
            code=ExitCode.CONFLICT,
        ) from error


class _Unknown(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


def _refuse_living_ranks(run_dir: Path) -> None:
    """Refuse while ranks live whose supervisor was killed: they are about to save in this folder."""
    living = [rank.pid for rank in _read_pids(run_dir) if is_alive(rank.pid, rank.started)]
    if living:
        pids = ", ".join(map(str, sorted(living)))
        raise UserError(
            f"processes of an earlier attempt still run in {run_dir}: {pids}",
            help="they save and end by themselves; wait for them, or end them with kill",
            code=ExitCode.CONFLICT,
        )


def check_manifest(run_dir: Path) -> None:
    """Compare the compiled files with `manifest.json`.

    Raises:
        UserError: files were edited or are missing, or there is no manifest (code CONFLICT).
    """
    files = _read_record(run_dir / "manifest.json").get("files")
    if not isinstance(files, dict):
        raise UserError(
            f"{run_dir} has no readable manifest.json: it is no compiled run folder",
            help="compile the spec again",
            code=ExitCode.CONFLICT,
        )
    changed = [name for name, digest in sorted(files.items()) if _digest(run_dir / name) != digest]
    if changed:
        raise UserError(
            f"changed since they were compiled: {', '.join(changed)}",
            help="compile the spec again, or start with `--allow-edited` to run them as they are",
            code=ExitCode.CONFLICT,
        )


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""


@dataclass(frozen=True)
class Earlier:
    """What an earlier attempt left in the run folder."""

    done: bool
    newest: Committed | None
    skipped: list[str]
    has_steps: bool
    has_metrics: bool

    def exists(self) -> bool:
        """Tell whether there is anything to lose."""
        return self.done or self.newest is not None or self.has_metrics

    def progress(self) -> str:
        """Return how far it came, for people."""
        if self.newest is None:
            return "the beginning (it has no complete checkpoint)"
        total = self.newest.meta.get("total_steps")
        suffix = f" of {total}" if isinstance(total, int) else ""
        return f"step {step_of(self.newest.path)}{suffix}"


def inspect(run_dir: Path, *, deep: bool) -> Earlier:
    """Look at what is in the run folder; `deep` reads the newest checkpoint through."""
    skipped: list[str] = []
    checkpoints = run_dir / "checkpoints"
    return Earlier(
        done=_read_record(run_dir / "result.json").get("status") == "done",
        newest=newest_committed(checkpoints, deep=deep, skipped=skipped),
        skipped=skipped,
        has_steps=bool(step_directories(checkpoints)),
        has_metrics=(run_dir / "metrics.jsonl").exists(),
    )


def _is_finished(options: Options, earlier: Earlier) -> bool:
    """Say so when there is nothing left to resume; refuse what nobody has decided on."""
    if options.on_existing == "refuse" and earlier.exists():
        raise _existing_error(options.run_dir, earlier)
    if options.on_existing == "resume" and earlier.done:
        _say(f"this run is finished already: {options.run_dir}")
        return True
    return False


def _existing_error(run_dir: Path, earlier: Earlier) -> UserError:
    if earlier.done:
        what, resume = "a finished run", "has nothing left to do"
    else:
        what, resume = "an earlier run", f"continues from {earlier.progress()}"
    return UserError(
        f"{run_dir} holds {what}; choose what becomes of it",
        help=f"`--resume` {resume}\n"
        "        `--overwrite` deletes checkpoints, logs, metrics, plots and final weights of the "
        "earlier run and starts again",
        code=ExitCode.CONFLICT,
    )


def _resume_from(options: Options, earlier: Earlier) -> Path | None:
    if options.on_existing != "resume":
        return None
    for line in earlier.skipped:
        _say(f"warning: {line}")
    if earlier.newest is not None:
        _say(f"resuming from {earlier.progress()}")
        return earlier.newest.path
    if earlier.has_steps:
        raise UserError(
            "no checkpoint of this run is usable, see above",
            help="`--overwrite` deletes what the run has written and starts again",
            code=ExitCode.CHECKPOINT,
        )
    if earlier.exists():
        _say("the earlier attempt saved no checkpoint: starting from the beginning")
    return None


def _clear(options: Options) -> None:
    """Delete the records of earlier attempts, and with `overwrite` all that they wrote."""
    names = OUTPUTS if options.on_existing == "overwrite" else ("pids", "failures", "result.json")
    with disk_errors("to the run folder", options.run_dir, code=ExitCode.ENVIRONMENT):
        for name in names:
            _delete(options.run_dir / name)
        sweep(options.run_dir)
        sweep(options.run_dir / "checkpoints")
        for name in ("logs", "pids", "failures"):
            (options.run_dir / name).mkdir(exist_ok=True)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_record(path: Path) -> Mapping[str, object]:
    try:
        return _parse_record(path.read_bytes())
    except OSError:
        return {}


def _parse_record(data: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


# --- before the start -------------------------------------------------------------------------------


def preflight(options: Options) -> tuple[str, ...] | None:
    """Check the machine; returns the GPUs to use when `CUDA_VISIBLE_DEVICES` narrows them, else None.

    Raises:
        UserError: what is missing (code ENVIRONMENT).
    """
    _check_packages()
    _check_writable(options.run_dir)
    _check_space(options)
    if options.port is not None:
        _check_port(options.port)
    return _check_gpus(options.processes) if options.device == "gpu" else None


def _environment_error(message: str, help: str = "") -> UserError:
    return UserError(message, help=help, code=ExitCode.ENVIRONMENT)


def _check_packages() -> None:
    missing = []
    for name in ("torch", "transformers", "deepspeed"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise _environment_error(
            f"not installed in {sys.prefix}: {', '.join(missing)}",
            "pip install 'tunec[train]'",
        )


def _unwritable(run_dir: Path, error: OSError) -> UserError:
    return _environment_error(
        f"the run folder {run_dir} cannot be written ({error.strerror})",
        "check its owner and mode, and that its disk is not mounted read-only",
    )


def _check_writable(run_dir: Path) -> None:
    probe = run_dir / ".probe"
    try:
        write_bytes(probe, b"tunec\n")
        probe.unlink()
    except OSError as error:
        raise _unwritable(run_dir, error) from error


def _check_space(options: Options) -> None:
    checkpoints = options.run_dir / "checkpoints"
    place = checkpoints if checkpoints.is_dir() else options.run_dir
    free = shutil.disk_usage(place).free
    if options.on_existing == "overwrite":
        free += sum(_size(options.run_dir / name) for name in OUTPUTS)
    needed = int(options.need_gib * 2**30)
    if free < needed:
        raise _environment_error(
            f"too little free space on the disk of {place}: {gib(needed)} needed, {gib(free)} free",
            "free space there, or keep fewer checkpoints",
        )


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in path.rglob("*")) if path.is_dir() else 0


def _check_port(port: int) -> None:
    try:
        _bind(port)
    except OSError as error:
        raise _environment_error(
            f"port {port} cannot be used ({error.strerror})",
            "give another one, or leave `--port` away to have a free one picked",
        ) from error


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # As torch does it: connections of an earlier run that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", port))
        return cast("int", probe.getsockname()[1])


def _check_gpus(processes: int) -> tuple[str, ...] | None:
    listed = _list_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        usable, note = [str(index) for index in range(len(listed))], ""
    else:
        usable = _visible_gpus(visible, listed)
        note = f" (CUDA_VISIBLE_DEVICES={visible})"
    if len(usable) < processes:
        raise _environment_error(
            f"{processes} GPUs are needed, {len(usable)} can be used{note}",
            "set fewer processes in the spec and compile again, or make more GPUs visible",
        )
    return None if visible is None else tuple(usable[:processes])


def _list_gpus() -> list[str]:
    """Return the UUID of each GPU, in the order of the driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _environment_error(
            "no GPU can be used: `nvidia-smi -L` does not work",
            "check the driver, or compile for `cpu`",
        ) from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    found = [re.search(r"UUID: ([^)\s]+)", line) for line in lines]
    return [match[1] if match else "" for match in found]


def _visible_gpus(visible: str, listed: list[str]) -> list[str]:
    """Return the indices that CUDA would see: up to the first entry that it does not know."""
    usable: list[str] = []
    for word in (word.strip() for word in visible.split(",")):
        index = _gpu_index(word, listed)
        if index is None or str(index) in usable:
            break
        usable.append(str(index))
    return usable


def _gpu_index(word: str, listed: list[str]) -> int | None:
    if word.isascii() and word.isdigit():
        return int(word) if int(word) < len(listed) else None
    matches = [i for i, uuid in enumerate(listed) if len(word) > 4 and uuid.startswith(word)]
    return matches[0] if len(matches) == 1 else None


# --- the launcher -----------------------------------------------------------------------------------


def launcher_command(
    command: Sequence[str], port: int, gpus: tuple[str, ...] | None = None
) -> list[str]:
    """Return the command with the launcher's flags that are known only now; other programs get none."""
    if Path(command[0]).name not in ("deepspeed", "ds"):
        return list(command)
    # A /job/hostfile on the machine would silently make this a run over several nodes.
    flags = ["--master_port", str(port), "--hostfile", "/dev/null"]
    if not {"--log_level", "-q", "--quiet"} & set(command):
        # Its errors only repeat, with the command line, that a rank has ended.
        flags += ["--log_level", "critical"]
    rest = list(command[1:])
    if gpus is not None and "--num_gpus" in rest:
        # The launcher ignores CUDA_VISIBLE_DEVICES beside --num_gpus and takes the first GPUs.
        at = rest.index("--num_gpus")
        rest[at : at + 2] = ["--include", f"localhost:{','.join(gpus)}"]
    return [command[0], *flags, *rest]


def child_environment(
    options: Options, *, port: int, resume_from: Path | None, gpus: tuple[str, ...] | None = None
) -> dict[str, str]:
    """Return the environment of the launcher and the ranks."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TUNEC_")}
    grace_s = options.grace_s - min(5.0, options.grace_s / 10)
    env |= {
        "PATH": search_path(),
        "PWD": str(options.run_dir),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "MASTER_PORT": str(port),
        "TORCH_EXTENSIONS_DIR": str(extensions_dir(options.device)),
        "TUNEC_RUN_DIR": str(options.run_dir),
        "TUNEC_SUPERVISOR_PID": str(os.getpid()),
        "TUNEC_SUPERVISOR_START": str(start_time(os.getpid())),
        # A little less than the time until the ranks are killed, so that they can say where they hang.
        "TUNEC_GRACE_S": f"{grace_s:g}",
    }
    env.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // options.processes)))
    if resume_from is not None:
        env["TUNEC_RESUME_FROM"] = str(resume_from)
    if options.device == "cpu":
        env |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if gpus is not None:
        given = env.pop("CUDA_VISIBLE_DEVICES", "")
        if "GPU-" in given:
            # The indices were looked up in nvidia-smi's order.
            env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return env


def usable_cpus() -> int:
    """Return the number of processors this process may use, by affinity and by cgroup quota."""
    count = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def _attempt(
    options: Options,
    signals: _Signals,
    resume_from: Path | None,
    gpus: tuple[str, ...] | None,
) -> int:
    port = options.port or _bind(0)
    command = launcher_command(options.command, port, gpus)
    env = child_environment(options, port=port, resume_from=resume_from, gpus=gpus)
    killed_before = _oom_kills()
    signals.starting = False
    pid = _start(command, env, options.run_dir)
    watch = _Watch(options, signals, pid)
    try:
        while watch.step():
            time.sleep(_POLL_S)
    finally:
        end_descendants(watch.note_end)
    watch.out_of_memory = _oom_kills() > killed_before
    code, text = outcome(watch)
    _delete(options.run_dir / "pids")
    if text:
        _say(text)
    return code


def _start(command: list[str], env: Mapping[str, str], run_dir: Path) -> int:
    try:
        process = subprocess.Popen(
            command, env=env, cwd=run_dir, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise _environment_error(f"{command[0]} cannot be started ({error.strerror})") from error
    # All children are reaped by hand, together with inherited orphans; Popen must not wait as well.
    process.returncode = 0
    return process.pid


def _oom_kills() -> int:
    """Return how often the kernel has killed for memory in this container so far."""
    with suppress(OSError, ValueError):
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


# --- watching ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rank:
    """A process that a pid file names."""

    number: int
    pid: int
    started: int


def _read_pids(run_dir: Path) -> list[_Rank]:
    found = []
    for path in (run_dir / "pids").glob("rank-*.json"):
        with suppress(KeyError, TypeError, ValueError):
            record = cast("Mapping[str, int]", _read_record(path))
            found.append(_Rank(int(record["rank"]), int(record["pid"]), int(record["start_time"])))
    return found


@dataclass
class _Watch:
    """The state of one attempt; `step` is called until it returns False."""

    options: Options
    signals: _Signals
    launcher: int
    launcher_status: int | None = None
    out_of_memory: bool = False
    timed_out: bool = False
    never_entered: bool = False
    ranks: dict[int, _Rank] = field(default_factory=dict)
    """Every rank ever seen, by number."""
    ended: dict[int, int] = field(default_factory=dict)
    """The exit status of processes that were children in the end, by pid."""
    lost: dict[int, float] = field(default_factory=dict)
    """When it was seen that a rank had ended without a word, by number."""
    _asked: set[_Rank] = field(default_factory=set)
    _stopping: bool = False
    _deadline: float = math.inf
    _linger_until: float = math.inf

    def step(self) -> bool:
        """Look once, and act; False when every process of the run has ended."""
        running = reap(self.note_end)
        self._look()
        if not running:
            return False
        reason = "" if self._stopping else self._reason_to_stop()
        if reason:
            _say(reason)
            self._stopping = True
            self._deadline = time.monotonic() + self.options.grace_s
        if self._stopping:
            self._ask_to_stop()
        return not self._is_over()

    def note_end(self, pid: int, status: int) -> None:
        """Record how a child ended."""
        self.ended[pid] = status
        if pid == self.launcher:
            self.launcher_status = status

    def living(self) -> list[_Rank]:
        """Return the ranks that run."""
        return [rank for rank in self.ranks.values() if is_alive(rank.pid, rank.started)]

    def entered(self) -> bool:
        """Tell whether any rank has come to life."""
        return bool(self.ranks) or bool(read_result(self.options.run_dir))

    def _look(self) -> None:
        present = {rank.number: rank for rank in _read_pids(self.options.run_dir)}
        self.ranks |= present
        gone = [rank for rank in present.values() if not is_alive(rank.pid, rank.started)]
        for rank in gone:
            if rank.number not in self.lost and self._has_vanished(rank):
                self.lost[rank.number] = time.time()
                if status := _zombie_status(rank.pid):
                    self.ended.setdefault(rank.pid, status)

    def _has_vanished(self, rank: _Rank) -> bool:
        # Read again: a rank that ends well removes its file first, perhaps just after it was listed.
        if rank not in _read_pids(self.options.run_dir):
            return False
        return rank.number not in {record.rank for record in read_records(self.options.run_dir)}

    def _reason_to_stop(self) -> str:
        if self.signals.stop:
            # On a terminal the message would otherwise stand in the middle of the progress bar.
            bar = "\n" if sys.stderr.isatty() else ""
            return bar + (_STOPPING if self.entered() else "stopping")
        if self.lost:
            return (
                f"rank {min(self.lost)} has ended unexpectedly; the other ranks are asked to save"
            )
        if self.launcher_status is not None and self.living():
            return "the launcher has ended unexpectedly; the ranks are asked to save"
        return ""

    def _ask_to_stop(self) -> None:
        for rank in self.living():
            if rank not in self._asked:
                self._asked.add(rank)
                _send(rank, signal.SIGTERM)

    def _is_over(self) -> bool:
        """Tell whether what still runs is to be killed."""
        if self.signals.end_now:
            return True
        if self._stopping and not self.entered():
            self.never_entered = True
            return True
        if self.launcher_status is not None and not self.living():
            if not self.entered():
                return True
            # Ranks that have left may still be closing down; a data worker may hang about.
            self._linger_until = min(self._linger_until, time.monotonic() + _LINGER_S)
        self.timed_out = time.monotonic() >= self._deadline
        return self.timed_out or time.monotonic() >= self._linger_until


def _zombie_status(pid: int) -> int:
    """Return how a process ended that its parent has not waited for yet; 0 when that is not known."""
    stat = proc_stat(pid)
    if stat is None or stat[0] != "Z":
        return 0
    return os.waitstatus_to_exitcode(int(stat[49]))


def _send(rank: _Rank, number: int) -> None:
    """Signal a rank, and no other process that may have got its pid since."""
    with suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(rank.pid)
        try:
            if is_alive(rank.pid, rank.started):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def reap(note: Callable[[int, int], None] | None = None) -> bool:
    """Collect every child that has ended; False when there is no child left at all."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            if note is not None:
                note(pid, os.waitstatus_to_exitcode(status))
    except ChildProcessError:
        return False


def descendants() -> list[int]:
    """Return every process below this one; orphans come to this one too."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := proc_stat(int(entry))):
            children.setdefault(int(stat[1]), []).append(int(entry))
    found, queue = list[int](), [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_descendants(note: Callable[[int, int], None] | None = None) -> None:
    """Kill every process below this one and wait until none is left."""
    deadline = time.monotonic() + _END_S
    while reap(note):
        for pid in descendants():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            _say(f"warning: these processes cannot be ended: {descendants()}")
            return
        time.sleep(_POLL_S / 5)


# --- how it ended -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What a rank wrote about its end during this attempt."""

    rank: int
    status: str
    exit_code: int
    message: str
    help: str
    step: int | None
    time: float


def read_result(run_dir: Path) -> Record | None:
    """Return the record of rank 0, which decides; None when it wrote none in this attempt."""
    return _record(run_dir / "result.json")


def read_records(run_dir: Path) -> list[Record]:
    """Return the records of all ranks, the earliest first."""
    paths = [run_dir / "result.json", *(run_dir / "failures").glob("rank-*.json")]
    found = [record for path in paths if (record := _record(path))]
    return sorted(found, key=lambda record: record.time)


def _record(path: Path) -> Record | None:
    data = _read_record(path)
    if data.get("attempt") != f"{os.getpid()}-{start_time(os.getpid())}":
        return None
    step = data.get("step")
    with suppress(KeyError, TypeError, ValueError):
        return Record(
            rank=int(cast("int", data["rank"])),
            status=str(data["status"]),
            exit_code=int(cast("int", data["exit_code"])),
            message=str(data["message"]),
            help=str(data["help"]),
            step=step if isinstance(step, int) else None,
            time=float(cast("float", data["time"])),
        )
    return None


def outcome(watch: _Watch) -> tuple[int, str]:
    """Return the exit code of the attempt and what to say about it."""
    run_dir = watch.options.run_dir
    result = read_result(run_dir)
    if result is not None and result.status == "done":
        return ExitCode.OK, ""
    failures = [record for record in read_records(run_dir) if record.status == "failed"]
    # A rank that hangs after the others have saved does not make the checkpoint any less complete.
    deciding = [f for f in failures if f.exit_code != ExitCode.LOST or result is None]
    if result is not None and result.status == "stopped" and not deciding:
        return ExitCode.RESUMABLE, _stopped_text(result)
    first = failures[0] if failures else None
    if first is None or _was_lost_before(watch, first):
        return _lost(watch)
    return _failed(run_dir, first)


def _stopped_text(result: Record) -> str:
    at = "" if result.step is None else f" at step {result.step}"
    return f"stopped{at} with a complete checkpoint; start again with `--resume` to go on"


def _was_lost_before(watch: _Watch, first: Record) -> bool:
    """Tell whether a rank died first: the others then fail in a collective, with a message about that."""
    return any(
        number != first.rank and when <= first.time + _SAME_MOMENT_S
        for number, when in watch.lost.items()
    )


def _failed(run_dir: Path, first: Record) -> tuple[int, str]:
    message = first.message or "the training failed"
    rank = f"rank {first.rank}: " if first.rank else ""
    text = UserError(f"{rank}{message}", help=first.help).text()
    log = run_dir / "logs" / f"rank-{first.rank}.log"
    if first.rank and log.exists():
        text += f"\n  log: {log}"
    return first.exit_code or ExitCode.TRAINING, text


def _lost(watch: _Watch) -> tuple[int, str]:
    if watch.never_entered and watch.signals.stop:
        return 128 + watch.signals.stop, "stopped before the training began"
    number = min(watch.lost, key=lambda rank: watch.lost[rank]) if watch.lost else None
    text = UserError(_what_happened(watch, number), help=_way_out(watch)).text()
    if number:
        text += _tail(watch.options.run_dir / "logs" / f"rank-{number}.log")
    return ExitCode.LOST, text


def _what_happened(watch: _Watch, number: int | None) -> str:
    if watch.signals.end_now:
        return "ended at once as asked, without a new checkpoint"
    if number is not None:
        how = _how_it_ended(watch, watch.ranks[number].pid)
        memory = ": the machine ran out of memory" if watch.out_of_memory else ""
        return f"rank {number} {how}{memory}"
    if watch.timed_out and watch.signals.stop:
        return f"the ranks did not save within {watch.options.grace_s:g} s and were ended"
    if not watch.entered():
        return f"the launcher {_ending(watch.launcher_status)} before any rank had started"
    return f"the run ended without a result (the launcher {_ending(watch.launcher_status)})"


def _how_it_ended(watch: _Watch, pid: int) -> str:
    status = watch.ended.get(pid)
    # The launcher ends with 256 - signal when a signal has ended a rank.
    if status is None and watch.launcher_status is not None and watch.launcher_status > 192:
        status = watch.launcher_status - 256
    return "ended without saying why" if status is None else _ending(status)


def _ending(status: int | None) -> str:
    if status is None:
        return "was ended"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _way_out(watch: _Watch) -> str:
    if not watch.entered():
        return "the lines above say why"
    newest = newest_committed(watch.options.run_dir / "checkpoints")
    if newest is None:
        return "no checkpoint was complete yet: start again with `--overwrite`"
    return f"`--resume` continues from {newest.path.name}"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return ""
    return (
        "".join([f"\n  the end of {path}:", *(f"\n    {line}" for line in lines)]) if lines else ""
    )


def _exit(code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
