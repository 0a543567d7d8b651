"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many test processes as cores: more threads would only take turns.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep prepared data out of the user's cache, and let runs of the tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model; do not write to it."""
    return tiny.make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="session")
def import_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lays the sources out under their import names, for checkers that resolve `tunec....`."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "tunec").mkdir()
    for name in ("compiler", "runtime", "templates"):
        (folder / "tunec" / name).symlink_to(Path(__file__).parents[1] / name)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with `model/` and `data/chat.jsonl` (24 conversations), ready for a spec."""
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    return tmp_path
