"""The tree's own rules: types, lint, layout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python tool in the root of the tree."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "folders", [["compiler", "runtime"], ["examples"], ["benchmarks"]], ids="+".join
)
def test_types(folders: list[str], import_path: Path) -> None:
    """Compiler, runtime, examples and benchmarks pass mypy --strict."""
    done = run("mypy", *folders, MYPYPATH=str(import_path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_lint(command: list[str]) -> None:
    """The whole tree passes ruff and stands as ruff formats it."""
    done = run("ruff", *command, ".")
    assert done.returncode == 0, done.stdout
