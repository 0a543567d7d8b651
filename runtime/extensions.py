"""DeepSpeed's compiled extensions, built once and before any rank starts.

Left alone, every rank compiles them at its first use, and a build that was killed leaves a lock file on
which all later runs wait for ever without a word.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from .errors import ExitCode, UserError
from .storage import write_json

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class _Extension:
    builder: str
    folder: str
    label: str


EXTENSIONS = {
    "shm_comm": _Extension("ShareMemCommBuilder", "deepspeed_shm_comm", "communication"),
    "cpu_adam": _Extension("CPUAdamBuilder", "cpu_adam", "CPU optimizer"),
}

_BUILD = {
    "cpu": "from deepspeed.ops.op_builder.cpu import {0} as B; B().load()",
    "gpu": (
        "from deepspeed.accelerator import get_accelerator;"
        "get_accelerator().create_op_builder('{0}').load()"
    ),
}
_SHOWN_LINES = 15


def _print(line: str) -> None:
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def extensions_dir(device: Device = "cpu") -> Path:
    """Return where the extensions are: `TORCH_EXTENSIONS_DIR`, or a folder in this environment."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    if given:
        return Path(given).absolute()
    root = Path(sys.prefix) / "share" / "tunec" / "torch_extensions"
    return root if device == "cpu" else root / "gpu"


def ensure_built(
    names: Sequence[str], *, device: Device = "cpu", say: Callable[[str], None] = _print
) -> None:
    """Build the extensions that are not built yet, in child processes; torch is not imported here.

    `names` are keys of `EXTENSIONS`. Processes started later must get `extensions_dir(device)` as
    `TORCH_EXTENSIONS_DIR`. Lock files of killed builds are removed in passing.

    Raises:
        UserError: a compiler or ninja is missing, the folder cannot be written, or the build failed
            with the compiler's last lines (code ENVIRONMENT).
        KeyError: there is no such extension.
    """
    wanted = [(name, EXTENSIONS[name]) for name in names]
    root = extensions_dir(device)
    if not wanted and not root.is_dir():
        return
    _make_root(root)
    with _locked(root / ".tunec.lock", say):
        _remove_stale_locks(root)
        for name, extension in wanted:
            if not _is_built(root, name, extension, device):
                _build(root, name, extension, device, say)


def _build(
    root: Path, name: str, extension: _Extension, device: Device, say: Callable[[str], None]
) -> None:
    _require_tools()
    say(
        f"building DeepSpeed's {extension.label} extension, about a minute, once for this environment"
    )
    # torch compares the sources only: what another torch or another machine built would be loaded.
    shutil.rmtree(root / extension.folder, ignore_errors=True)
    done = subprocess.run(
        _build_command(extension, device),
        env=_build_env(root, device),
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0 or not _library(root, extension).is_file():
        raise _build_error(extension, done.returncode, done.stdout)
    write_json(_marker(root, name), _identity(device))


def _build_command(extension: _Extension, device: Device) -> list[str]:
    return [sys.executable, "-c", _BUILD[device].format(extension.builder)]


def _build_env(root: Path, device: Device) -> dict[str, str]:
    env = dict(os.environ, TORCH_EXTENSIONS_DIR=str(root), PATH=search_path(), PYTHONSAFEPATH="1")
    if device == "cpu":
        env["DS_ACCELERATOR"] = "cpu"
    return env


def search_path() -> str:
    """Return PATH with the programs of this environment first (ninja, deepspeed)."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _require_tools() -> None:
    compiler = os.environ.get("CXX", "c++").split()[0]
    missing = [tool for tool in (compiler, "ninja") if not shutil.which(tool, path=search_path())]
    if missing:
        raise UserError(
            f"DeepSpeed's extensions must be compiled once, and {' and '.join(missing)} cannot be found",
            help="install a C++ compiler (Debian, Ubuntu: apt install g++) and ninja (pip install ninja)",
            code=ExitCode.ENVIRONMENT,
        )


def _build_error(extension: _Extension, status: int, output: str) -> UserError:
    lines = output.strip().splitlines()[-_SHOWN_LINES:]
    tail = "".join(f"\n    {line}" for line in lines)
    return UserError(
        f"DeepSpeed's {extension.label} extension could not be built (exit code {status}):{tail}",
        help="the compiler's message above says why; g++ 9 or newer is needed",
        code=ExitCode.ENVIRONMENT,
    )


def _identity(device: Device) -> dict[str, object]:
    """Return what a built library depends on; the instruction set because it is compiled for it."""
    return {
        "torch": _version("torch"),
        "deepspeed": _version("deepspeed"),
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "device": device,
        "processor": _processor(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    lines = []
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
        # One core is enough; the lines with frequencies change by the second.
        first = text.split("\n\n", 1)[0].splitlines()
        lines = [line for line in first if line.startswith(("flags", "Features", "model name"))]
    return hashlib.sha256("\n".join([platform.machine(), *lines]).encode()).hexdigest()[:16]


def _marker(root: Path, name: str) -> Path:
    return root / f".tunec-{name}.json"


def _library(root: Path, extension: _Extension) -> Path:
    return root / extension.folder / f"{extension.folder}.so"


def _is_built(root: Path, name: str, extension: _Extension, device: Device) -> bool:
    try:
        written = json.loads(_marker(root, name).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(written == _identity(device)) and _library(root, extension).is_file()


def _make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f"the folder for DeepSpeed's compiled extensions cannot be written: {root}",
            help="set TORCH_EXTENSIONS_DIR to a folder that you own",
            code=ExitCode.ENVIRONMENT,
        )


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that builds DeepSpeed's extensions")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale_locks(root: Path) -> None:
    """Remove torch's lock files that no process holds open: their owner was killed."""
    locks = [path for path in root.glob("*/lock") if path.is_file()]
    for path in locks:
        if not _is_open(path):
            path.unlink(missing_ok=True)


def _is_open(path: Path) -> bool:
    try:
        target = path.stat()
    except FileNotFoundError:
        return False
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found = link.stat()
            if (found.st_dev, found.st_ino) == (target.st_dev, target.st_ino):
                return True
    return False
