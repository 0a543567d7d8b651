"""`tunec import` on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from tunec.compiler import cli

RUN = "stage: sft\nmodel_name_or_path: m\noutput_dir: o\nbf16: true\ndataset_dir: ONLINE\ndataset: a\n"


def tunec(*arguments: str) -> int:
    """Run the command line and return its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(["import", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A small configuration."""
    (tmp_path / "run.yaml").write_text(RUN, encoding="utf-8")
    return "run.yaml"


def test_spec_goes_to_standard_output(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The spec is the output, the report is not."""
    assert tunec(run) == 0
    captured = capsys.readouterr()
    assert tomli.loads(captured.out)["model"]["path"] == "m"
    assert "to do by hand:" in captured.err


def test_a_loss_ends_with_one(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting without a counterpart is reported, and the spec is written all the same."""
    Path(run).write_text(RUN + "ddp_bucket_cap_mb: 25\n", encoding="utf-8")
    assert tunec(run) == 1
    captured = capsys.readouterr()
    assert tomli.loads(captured.out)
    assert "no counterpart:\n  ddp_bucket_cap_mb" in captured.err


def test_a_file_is_not_replaced(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing file stays unless --force says otherwise, and no other file is left behind."""
    assert tunec(run, "-o", "run.toml") == 0
    first = Path("run.toml").read_text(encoding="utf-8")
    assert tunec(run, "-o", "run.toml") == 4
    assert "run.toml exists already" in capsys.readouterr().err
    assert tunec(run, "-o", "run.toml", "--force") == 0
    assert Path("run.toml").read_text(encoding="utf-8") == first
    assert sorted(path.name for path in Path().iterdir()) == ["run.toml", "run.yaml"]


def test_a_command_line_follows_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags of the other trainer are not ours."""
    words = ["llamafactory-cli", "train", "--model_name_or_path", "x", "--lora_target", "a,b"]
    assert tunec("--", *words, "--bf16", "true") == 0
    data = tomli.loads(capsys.readouterr().out)
    assert data["method"]["targets"] == ["a", "b"]
    assert data["training"]["precision"] == "bf16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], "error: missing.yaml: the file does not exist"),
        (["--", "llamafactory-cli", "train", "gone.yaml"], "gone.yaml: the file does not exist"),
        (["."], "this is a folder, not a regular file"),
    ],
)
def test_wrong_usage_ends_with_two(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read is said in one line."""
    assert tunec(*arguments) == 2
    assert message in capsys.readouterr().err


def test_the_trainer_can_be_named(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--from overrides what the keys say."""
    assert tunec(run, "--from", "axolotl") == 1
    assert "from Axolotl" in capsys.readouterr().out


def test_what_tunec_does_not_do_yet_is_said(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings that are written and not executed yet have lines of their own."""
    Path(run).write_text(RUN + "finetuning_type: lora\nuse_unsloth: true\n", encoding="utf-8")
    tunec(run)
    error = capsys.readouterr().err
    assert "kernels.unsloth" in error or "not available yet" not in error


def test_yaml_needs_an_extra(run: str) -> None:
    """Without PyYAML one line names the extra; JSON and command lines work."""
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "from tunec.compiler.cli import main; main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", program, "import"]
    done = subprocess.run([*words, run], capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'tunec[import]'" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
    command = [*words, "--", "lmf", "train", "--stage", "sft"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_same_bytes_each_time(run: str) -> None:
    """Neither hash seeds nor folders show in the output."""
    texts = set()
    for seed in ("0", "1", "2"):
        words = [sys.executable, "-m", "tunec.compiler.cli", "import", run]
        done = subprocess.run(
            words, capture_output=True, check=False, env={"PYTHONHASHSEED": seed, "PATH": "/bin"}
        )
        texts.add((done.stdout, done.stderr))
    assert len(texts) == 1
