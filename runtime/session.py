"""A session: one process of a run from its first line to its exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from . import rank as rank_module
from .agreement import check_same_data
from .errors import ExitCode, UserError
from .libraries import leave_out
from .shared_memory import remove_buffers
from .storage import write_text

Device = Literal["cpu", "gpu"]


class Clock:
    """Wall-clock time, split into named phases."""

    def __init__(self) -> None:
        """Count from the start of this process, imports included."""
        self.seconds: dict[str, float] = {}
        self._phase = "start"
        self._since = time.time() - _process_age_s()

    def enter(self, phase: str) -> str:
        """Charge the time until now to the current phase and go on in `phase`; return the old one."""
        now = time.time()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        before, self._phase, self._since = self._phase, phase, now
        return before

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time inside to `name`."""
        before = self.enter(name)
        try:
            yield
        finally:
            self.enter(before)


class Session:
    """What the phases of a program share: who this process is, when to stop, where things go."""

    def __init__(self, run_dir: Path, seed: int, life: rank_module.RankLife) -> None:
        """Describe this process."""
        self.run_dir = run_dir
        self.seed = seed
        self.life = life
        self.rank = rank_module.rank_from_env()
        self.num_ranks = int(os.environ.get("WORLD_SIZE") or 1)
        self.clock = Clock()
        self.device: Device = "cpu"
        self.deepspeed: dict[str, Any] = {}
        self._keep: Any = None

    @property
    def is_main(self) -> bool:
        """Tell whether this is rank 0, the one that talks and writes."""
        return self.rank == 0

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, relative to the run folder (the working directory), or None."""
        value = os.environ.get("TUNEC_RESUME_FROM")
        return Path(os.path.relpath(value, self.run_dir)) if value else None

    def say(self, text: str) -> None:
        """Print a line on rank 0."""
        if self.is_main:
            print(text, flush=True)

    def connect(self, *, deepspeed: Path, device: Device, timeout_s: int = 1800) -> None:
        """Join the other processes and let models load the way `deepspeed` (a JSON file) shards them.

        A collective that takes longer than `timeout_s` ends the run.

        Raises:
            UserError: (DATA) the processes hold different prepared data.
        """
        import deepspeed as engine
        import torch
        from transformers.integrations import HfDeepSpeedConfig

        self.clock.enter("load")
        self.device = device
        self.deepspeed = json.loads(deepspeed.read_text(encoding="utf-8"))
        if device == "gpu":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK") or 0))
        if not torch.distributed.is_initialized():
            _alone_without_launcher()
            # DeepSpeed prints that it loaded an extension; the supervisor has said so when it built it.
            with contextlib.redirect_stdout(io.StringIO()):
                engine.init_distributed(
                    dist_backend="nccl" if device == "gpu" else "gloo",
                    auto_mpi_discovery=False,
                    verbose=False,
                    timeout=timedelta(seconds=timeout_s),
                )
        check_same_data(self.run_dir, num_ranks=self.num_ranks)
        # transformers looks this up while it loads weights; it only keeps a weak reference.
        self._keep = HfDeepSpeedConfig(self.deepspeed)


@contextmanager
def start(*, run_dir: Path, seed: int, packages: Collection[str] = ()) -> Iterator[Session]:
    """Run the program inside: seeds, stop signals, log files, and an exit code for whatever happens.

    `packages` names the optional libraries the run uses (`libraries.OPTIONAL`); the others are not imported.
    A `UserError` is shown as one line and the way out; anything unexpected leaves its traceback in
    `logs/` and a line that says where. Rank 0 records how the run ended in `result.json`.
    """
    os.chdir(run_dir)
    life = rank_module.enter(run_dir)
    rank_module.redirect_output(run_dir, rank_module.rank_from_env())
    _quiet_libraries()
    leave_out(unless=packages)
    _quiet_imports()
    _seed(seed)
    session = Session(run_dir, seed, life)
    session.clock.enter("data")
    try:
        yield session
    except BaseException as fault:
        _leave(session, _failed(session, fault))
    else:
        # Also after a stop: the supervisor takes the run's code from result.json, and a launcher that sees
        # one process end with another code kills the rest.
        _leave(session, ExitCode.OK)


@contextmanager
def program(*, light: bool = False, packages: Collection[str] | None = None) -> Iterator[None]:
    """Run a program of one process (prepare, chat, export, fetch): every fault becomes one line and an exit code.

    The traceback of what nobody expected goes to a file, which the line names. A `light` program may have
    nothing to do: it imports torch only where it needs it. `packages` are as in `start`; None leaves none out.
    """
    _quiet_libraries()
    if packages is not None:
        leave_out(unless=packages)
    if not light:
        _quiet_imports()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this Python complains again while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(int(ExitCode.OK)) from None
    except Exception as fault:
        error = fault if isinstance(fault, UserError) else _explain_alone(fault)
        print(error.text(), file=sys.stderr, flush=True)
        raise SystemExit(int(error.code)) from None


def _terminated(number: int, frame: FrameType | None) -> None:
    """End as after any fault, so that what is half-done is cleaned up."""
    raise SystemExit(128 + number)


def _failed(session: Session, fault: BaseException) -> int:
    if isinstance(fault, SystemExit):
        return int(fault.code or 0) if isinstance(fault.code, int | None) else 1
    error = fault if isinstance(fault, UserError) else _explain(session, fault)
    if "TUNEC_SUPERVISOR_PID" not in os.environ:
        # With a supervisor it is told once, by the supervisor, from the record below.
        print(error.text(), file=sys.stderr, flush=True)
    try:
        rank_module.write_result(
            session.run_dir,
            "failed",
            exit_code=int(error.code),
            message=error.message,
            help=error.help,
        )
    except (OSError, UserError) as second:
        # The disk that ended the run may well refuse this, too; the process must still end.
        print(f"error: result.json not written: {second}", file=sys.stderr, flush=True)
    return int(error.code)


def _explain(session: Session, fault: BaseException) -> UserError:
    log = session.run_dir / "logs" / f"traceback-rank-{session.rank}.txt"
    return _explanation(fault, _keep_traceback(fault, log))


def _explain_alone(fault: Exception) -> UserError:
    log = Path(tempfile.gettempdir()) / f"tunec-traceback-{os.getpid()}.txt"
    return _explanation(fault, _keep_traceback(fault, log))


def _keep_traceback(fault: BaseException, log: Path) -> str:
    """Write the traceback aside and say where; on standard error when that fails (a full disk)."""
    text = "".join(traceback.format_exception(fault))
    try:
        log.parent.mkdir(exist_ok=True)
        write_text(log, text)
    except (OSError, UserError):
        print(text, file=sys.stderr, flush=True)
        return "printed above"
    return f"in {log}"


def _explanation(fault: BaseException, kept: str) -> UserError:
    text = str(fault)
    if isinstance(fault, KeyboardInterrupt):
        return UserError("interrupted before training started", code=ExitCode.LOST)
    if isinstance(fault, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return UserError(
            "out of memory",
            help="lower `batch.micro_size` or `data.max_length`, switch on `training.gradient_checkpointing`, "
            "or raise `deepspeed.zero_stage`",
        )
    if "DataLoader worker" in text:
        return UserError(
            "a process that puts batches together was killed, probably for want of memory",
            help="lower `data.loader_workers` or `data.loader_prefetch`",
            code=ExitCode.ENVIRONMENT,
        )
    if "Connection closed by peer" in text or "Connection reset by peer" in text:
        return UserError("another process of the run ended", code=ExitCode.LOST)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return UserError(
        f"internal error: {type(fault).__name__}{': ' if first else ''}{first}",
        help=f"this is a fault of tunec or of a library; the traceback is {kept}",
        code=ExitCode.INTERNAL,
    )


def _leave(session: Session, code: int) -> None:
    """End this process at once: a library's exit hook that waits for a lost peer must not keep it."""
    session.life.leave()
    if code == ExitCode.OK:
        _disconnect()
    if "TUNEC_SUPERVISOR_PID" not in os.environ and "MASTER_PORT" in os.environ:
        # With a supervisor it is done when the last rank has ended.
        remove_buffers(os.environ["MASTER_PORT"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _disconnect() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def _alone_without_launcher() -> None:
    """Let `python train.py` work by itself: one process that meets nobody, on a free port."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _quiet_libraries() -> None:
    import logging
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore")
    # The last three tell at import which of their own extensions this machine lacks.
    for name in (
        "DeepSpeed",
        "accelerate",
        "torch.distributed",
        "bitsandbytes",
        "torchao",
        "torch.utils._pytree",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def _quiet_imports() -> None:
    """Keep DeepSpeed from announcing the accelerator it found, and transformers from drawing bars of its own."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from transformers.utils import logging

    logging.disable_progress_bar()


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def _process_age_s() -> float:
    started = rank_module.start_time(os.getpid())
    if started is None:
        return 0.0
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, uptime - started / os.sysconf("SC_CLK_TCK"))
