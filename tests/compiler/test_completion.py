"""Completion in shells: what `tunec __complete` offers, and the script of bash in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunec.compiler.cli import VERBS, make_parser
from tunec.compiler.cli.complete import candidates
from tunec.compiler.cli.completion import SCRIPTS


def names(*words: str) -> list[str]:
    """Return the candidates for the last word."""
    return [name for name, _ in candidates(words, make_parser())]


def test_verbs() -> None:
    """The first word is a verb; the hidden one is not offered."""
    assert names("") == list(VERBS)
    assert names("ch") == ["check", "chat"]
    assert names("__") == []
    assert names("nonsense", "") == []


def test_options_and_their_values() -> None:
    """Options by their long names, choices behind a blank or `=`."""
    assert names("check", "--f") == ["--format", "--fix"]
    assert names("check", "--format", "") == ["text", "json", "sarif", "github"]
    assert names("check", "--format=s") == ["--format=sarif"]
    assert names("completion", "") == ["bash", "zsh", "fish"]
    assert names("--v") == ["--version"]


def test_files() -> None:
    """Specs are TOML files; other names may be any."""
    assert names("check", "") == ["@files .toml"]
    assert names("check", "a.toml", "b") == ["@files .toml"]
    assert names("schema", "--output", "") == ["@files *"]
    assert names("data", "") == ["inspect"]
    assert names("data", "inspect", "") == ["@files *"]
    assert names("cache", "--format", "json", "") == ["list", "prune"]


def test_keys_for_set() -> None:
    """One level after the other; a key ends in `=`, a table in `.`, a list is entered at its first element."""
    assert names("plan", "--set", "meth") == ["method."]
    assert names("plan", "--set", "batch.mi") == ["batch.micro_size=", "batch.micro_tokens="]
    assert names("plan", "--set", "data.sou") == ["data.sources[0]."]
    assert "data.sources[3].limit=" in names("plan", "--set", "data.sources[3].")
    assert "method.init." in names("plan", "--set", "method.in")
    assert names("plan", "--set=method.ra")[0] == "--set=method.rank="
    assert names("plan", "--set", "nonsense.") == []


def test_choices_for_set() -> None:
    """Kinds, words and booleans; where anything goes, nothing is offered."""
    kinds = names("plan", "--set", "method.type=l")
    found = ("lora", "loha", "lokr", "ln-tuning", "lisa")
    assert kinds == [f"method.type={kind}" for kind in found]
    assert names("plan", "--set", "data.shuffle=") == ["data.shuffle=true", "data.shuffle=false"]
    assert names("plan", "--set", "deepspeed.zero_stage=") == [
        f"deepspeed.zero_stage={stage}" for stage in range(4)
    ]
    assert names("plan", "--set", "run.name=") == []
    assert names("plan", "--set", "data.sources[0].format=mess") == [
        "data.sources[0].format=messages"
    ]


def test_topics_of_explain() -> None:
    """Codes by capital letters, keys by small ones, kinds behind a bracket."""
    assert names("explain", "R81")[:3] == ["R810", "R811", "R812"]
    assert names("explain", "meth") == ["method"]
    assert names("explain", "method.ra")[0] == "method.rank"
    assert names("explain", "method[lo") == ["method[lora]", "method[loha]", "method[lokr]"]
    assert names("explain", "method[vera].ra") == ["method[vera].rank"]
    assert names("explain", "data.sources.lim") == ["data.sources.limit"]


def test_a_candidate_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Name, tab, description; the description is short."""
    from tunec.compiler import cli

    with pytest.raises(SystemExit) as end:
        cli.main(["__complete", "plan", "--set", "batch."])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == names("plan", "--set", "batch.")
    assert all(len(line.split("\t")) == 2 and len(line.split("\t")[1]) <= 80 for line in lines)


# --- bash ------------------------------------------------------------------------------------------------

Bash = Callable[..., list[str]]


@pytest.fixture
def bash(tmp_path: Path) -> Bash:
    """Complete words in a bash that has sourced the script; return what it would offer."""
    program = shutil.which("bash")
    if program is None:
        pytest.skip("there is no bash")
    (tmp_path / "bin").mkdir()
    tunec = tmp_path / "bin" / "tunec"
    tunec.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -c 'from tunec.compiler.cli import main; main()' \"$@\"\n"
    )
    tunec.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "script").write_text(SCRIPTS["bash"])
    driver = (
        f'set -u\nsource "{tmp_path}/script"\nPATH="{tmp_path}/bin:$PATH"\n'
        'COMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_tunec tunec "${COMP_WORDS[COMP_CWORD]}"\n'
        '((${#COMPREPLY[@]})) && printf "%s\\n" "${COMPREPLY[@]}"\nexit 0\n'
    )

    def run(*words: str) -> list[str]:
        done = subprocess.run(
            [program, "--norc", "-c", driver, "bash", "tunec", *words],
            cwd=tmp_path / "work", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


def test_bash_completes_verbs_options_and_topics(bash: Bash) -> None:
    """As the verb says."""
    assert bash("che") == ["check"]
    assert bash("check", "--fi") == ["--fix"]
    assert bash("explain", "R811") == ["R811"]
    assert bash("explain", "batch.mic") == ["batch.micro_size", "batch.micro_tokens"]


def test_bash_splits_at_equals_signs(bash: Bash) -> None:
    """bash replaces only what stands behind `=`, so that is what it gets."""
    assert bash("plan", "--set", "batch.mic") == ["batch.micro_size=", "batch.micro_tokens="]
    assert bash("plan", "--set", "data.shuffle", "=") == ["true", "false"]
    assert bash("plan", "--set", "data.shuffle", "=", "t") == ["true"]
    assert bash("check", "--format", "=", "sa") == ["sarif"]


def test_bash_completes_specs(bash: Bash, tmp_path: Path) -> None:
    """TOML files and folders, with any characters in their names."""
    work = tmp_path / "work"
    for name in ("a b.toml", "$(touch bad).toml", "c.json"):
        (work / name).write_text("")
    (work / "dir").mkdir()
    assert sorted(bash("check", "")) == sorted(["dir", "a b.toml", "$(touch bad).toml"])
    assert bash("check", "a") == ["a b.toml"]
    assert "c.json" in bash("schema", "--output", "")
    assert not (work / "bad").exists()


@pytest.mark.parametrize(
    "word", ["$(touch bad)", "`touch bad`", "'; touch bad; '", "a[$(touch bad)]", "x=$(touch bad)"]
)
def test_bash_executes_no_word(word: str, bash: Bash, tmp_path: Path) -> None:
    """Words are passed on as they are, whatever they hold."""
    for before in (["check"], ["plan", "--set"], ["explain"], []):
        assert bash(*before, word) == []
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_sound(shell: str) -> None:
    """The shell itself says so, where it is installed."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run(
        [program, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_verb_prints_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`tunec completion SHELL`."""
    from tunec.compiler import cli

    with pytest.raises(SystemExit) as end:
        cli.main(["completion", shell])
    assert (end.value.code, capsys.readouterr().out) == (0, SCRIPTS[shell])
