"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model; do not write to it."""
    return tiny.make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with `model/` and `data/chat.jsonl` (24 conversations), ready for a spec."""
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    return tmp_path
