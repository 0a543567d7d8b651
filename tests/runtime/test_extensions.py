"""DeepSpeed's extensions are built once; here with a stand-in for the compiler."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tunec.runtime import extensions
from tunec.runtime.errors import ExitCode, UserError

GOOD = """
import os, pathlib
folder = pathlib.Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "deepspeed_shm_comm"
folder.mkdir()
(folder / "deepspeed_shm_comm.so").touch()
assert os.environ["DS_ACCELERATOR"] == "cpu"
with open(folder.parent / "builds", "a") as log: log.write("x")
"""
BAD = "print('\\n'.join(map(str, range(100)))); print('shm.cpp:1: error: no'); raise SystemExit(1)"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a fresh folder for extensions and a builder that works."""
    folder = tmp_path / "ext"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    use(monkeypatch, GOOD)
    return folder


def use(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = [sys.executable, "-c", script]
    monkeypatch.setattr(extensions, "_build_command", lambda extension, device: command)


def builds(root: Path) -> int:
    return len((root / "builds").read_text())


def test_builds_once(root: Path) -> None:
    """The first call builds and says so, the second does nothing."""
    said: list[str] = []
    for _ in range(2):
        extensions.ensure_built(["shm_comm"], say=said.append)
    assert builds(root) == 1
    assert len(said) == 1
    assert "building DeepSpeed's communication extension" in said[0]


def test_other_versions_build_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another torch built is removed and built anew."""
    extensions.ensure_built(["shm_comm"])
    monkeypatch.setattr(extensions, "_version", lambda package: "9.9")
    extensions.ensure_built(["shm_comm"])
    assert builds(root) == 2


def test_vanished_library_builds_again(root: Path) -> None:
    """A marker without its library does not count."""
    extensions.ensure_built(["shm_comm"])
    (root / "deepspeed_shm_comm/deepspeed_shm_comm.so").unlink()
    extensions.ensure_built(["shm_comm"])
    assert builds(root) == 2


@pytest.mark.parametrize("names", [["shm_comm"], []])
def test_stale_locks_go_and_held_ones_stay(root: Path, names: list[str]) -> None:
    """A lock file that no process has open is removed, else every later run would wait for ever."""
    extensions.ensure_built(["shm_comm"])
    stale = root / "deepspeed_shm_comm" / "lock"
    held = root / "other" / "lock"
    held.parent.mkdir()
    stale.touch()
    with held.open("w"):
        extensions.ensure_built(names)
        assert not stale.exists()
        assert held.exists()
    extensions.ensure_built(names)
    assert not held.exists()


def test_failed_build_shows_the_compiler(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines of the compiler are in the message, and the next call tries again."""
    use(monkeypatch, BAD)
    with pytest.raises(UserError) as caught:
        extensions.ensure_built(["shm_comm"])
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "shm.cpp:1: error: no" in caught.value.message
    assert "\n    90\n" in caught.value.message
    assert "\n    10\n" not in caught.value.message
    use(monkeypatch, GOOD)
    extensions.ensure_built(["shm_comm"])
    assert builds(root) == 1


def test_missing_tools_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without compiler and ninja the message names them and how to get them."""
    monkeypatch.setattr(extensions, "search_path", lambda: str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"c\+\+ and ninja cannot be found") as caught:
        extensions.ensure_built(["shm_comm"])
    assert "apt install g++" in caught.value.help


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written is told with the variable that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file" / "ext"))
    with pytest.raises(UserError, match="cannot be written") as caught:
        extensions.ensure_built(["shm_comm"])
    assert "TORCH_EXTENSIONS_DIR" in caught.value.help


def test_second_run_waits_for_the_first(root: Path) -> None:
    """Two runs at a time build once, and the waiting one says what it waits for."""
    root.mkdir()
    waits = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    holder = os.open(root / ".tunec.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    thread = threading.Thread(
        target=extensions.ensure_built, args=(["shm_comm"],), kwargs={"say": say}
    )
    thread.start()
    assert waits.wait(60)
    assert not (root / "builds").exists()
    os.close(holder)
    thread.join(60)
    assert said[0].startswith("waiting for another run")
    assert builds(root) == 1


def test_torch_is_not_imported() -> None:
    """Looking at the marker must not cost the seconds that torch takes."""
    code = "import sys, tunec.runtime.supervisor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_default_is_inside_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable the folder belongs to this environment, one for each device."""
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    cpu, gpu = extensions.extensions_dir("cpu"), extensions.extensions_dir("gpu")
    assert cpu == Path(sys.prefix) / "share/tunec/torch_extensions"
    assert gpu != cpu
