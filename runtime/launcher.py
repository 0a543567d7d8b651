"""The launcher, such as DeepSpeed's: its command line, its environment and its start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import ExitCode, UserError
from .extensions import extensions_dir, search_path
from .options import Options
from .rank import start_time


def launcher_command(
    command: Sequence[str], port: int, gpus: tuple[str, ...] | None = None
) -> list[str]:
    """Return the command with the launcher's flags that are known only now; other programs get none."""
    if not _is_deepspeed(command):
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


def _is_deepspeed(command: Sequence[str]) -> bool:
    return Path(command[0]).name in ("deepspeed", "ds")


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
    is_rank = options.processes == 1 and not _is_deepspeed(options.command)
    if is_rank:
        # No launcher stands between: this is what it would tell the only rank.
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    if gpus is not None:
        given = env.pop("CUDA_VISIBLE_DEVICES", "")
        if is_rank:
            env["CUDA_VISIBLE_DEVICES"] = gpus[0]
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


def start_launcher(command: list[str], env: Mapping[str, str], run_dir: Path) -> int:
    """Start the launcher in a session of its own; returns its pid."""
    try:
        process = subprocess.Popen(
            command, env=env, cwd=run_dir, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        message = f"{command[0]} cannot be started ({error.strerror})"
        raise UserError(message, code=ExitCode.ENVIRONMENT) from error
    # All children are reaped by hand, together with inherited orphans; Popen must not wait as well.
    process.returncode = 0
    return process.pid
