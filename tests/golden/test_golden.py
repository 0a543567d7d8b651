"""Golden folders: what a spec compiles to, byte for byte, and that it is a sound and running program.

`UPDATE_GOLDEN=1 make test ARGS=tests/golden` writes the expected files anew; read the diff before you commit it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunec.compiler.apply import apply
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan import Plan
from tunec.compiler.render import render_files

ROOT = Path(__file__).parents[2]
GOLDENS = Path(__file__).parent


def compiled(golden: Path, workspace: Path) -> tuple[Plan, dict[str, str]]:
    """Compile the golden's spec in the workspace."""
    spec = Path(shutil.copy(golden / "spec.toml", workspace / "spec.toml"))
    analysis = analyse(spec, {})
    assert analysis.ok, analysis.diagnostics
    plan = plan_of(analysis)
    return plan, render_files(plan)


def test_bytes(golden: Path, golden_workspace: Path) -> None:
    """A golden spec compiles to exactly the files in its `expected` folder."""
    _, files = compiled(golden, golden_workspace)
    expected = golden / "expected"
    if os.environ.get("UPDATE_GOLDEN"):
        shutil.rmtree(expected, ignore_errors=True)
        apply(files, expected)
    assert {p.name: p.read_text(encoding="utf-8") for p in expected.iterdir()} == files


def test_type_checked(tmp_path: Path, import_path: Path) -> None:
    """Every generated program passes mypy --strict against the runtime it calls."""
    for program in GOLDENS.glob("*/expected/*.py"):
        # One folder each: mypy refuses two modules of one name.
        folder = tmp_path / program.parent.parent.name / program.stem
        folder.mkdir(parents=True)
        shutil.copy(program, folder / f"{program.parent.parent.name}_{program.stem}.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--strict",
         *map(str, sorted(tmp_path.glob("*/*/*.py")))],
        env={**os.environ, "MYPYPATH": str(import_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_linted(command: list[str]) -> None:
    """Every generated program passes ruff's checks and stands as ruff would format it."""
    programs = sorted(map(str, GOLDENS.glob("*/expected/*.py")))
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), *programs],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_shell(golden: Path) -> None:
    """The launch script is valid bash, short, and executable."""
    script = golden / "expected" / "launch.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert len(script.read_text().splitlines()) <= 30
    assert os.access(script, os.X_OK)


def test_concrete(golden: Path) -> None:
    """The DeepSpeed configuration holds numbers, never "auto"."""
    text = (golden / "expected" / "deepspeed.json").read_text()
    config = json.loads(text)
    assert "auto" not in text
    assert config["train_batch_size"] % config["train_micro_batch_size_per_gpu"] == 0


@pytest.mark.heavy
def test_runs(golden: Path, golden_workspace: Path) -> None:
    """A golden run trains: launched from another folder it ends with code 0, a report and whole weights."""
    plan, files = compiled(golden, golden_workspace)
    run_dir = plan.facts.output.path
    apply(files, run_dir)
    done = subprocess.run(
        [str(run_dir / "launch.sh")],
        cwd="/", env={**os.environ, "TUNEC_PYTHON": sys.executable},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((run_dir / "report.json").read_text())
    if plan.duration.num_steps is not None:
        assert report["steps"] == plan.duration.num_steps == 2
    assert plan.parameters is not None
    assert report["trainable_parameters"] == plan.parameters.trainable
    weights = [file.name for file in (run_dir / "final").glob("*.safetensors")]
    assert weights == ["adapter_model.safetensors" if plan.adapter else "model.safetensors"]
