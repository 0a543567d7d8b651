"""Checks of the machine before anything starts: packages, disk, port and GPUs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import cast

from .errors import ExitCode, UserError
from .options import Options
from .run_folder import OUTPUTS, unwritable
from .storage import gib, write_bytes


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


def _check_writable(run_dir: Path) -> None:
    probe = run_dir / ".probe"
    try:
        write_bytes(probe, b"tunec\n")
        probe.unlink()
    except OSError as error:
        raise unwritable(run_dir, error) from error


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
        bind_port(port)
    except OSError as error:
        raise _environment_error(
            f"port {port} cannot be used ({error.strerror})",
            "give another one, or leave `--port` away to have a free one picked",
        ) from error


def bind_port(port: int) -> int:
    """Return a port that can be bound; 0 has the system pick a free one."""
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
