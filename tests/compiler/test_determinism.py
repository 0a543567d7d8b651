"""The same spec and the same facts give the same bytes, whoever compiles, wherever and however."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

import tiny

SPEC = """
[run]
name = "früh 名前"
[data]
eval_rows = 0.1
[[data.sources]]
format = "messages"
path = "data/chat.jsonl"
name = "größe"
[[data.sources]]
format = "messages"
path = "data/more.jsonl"
limit = 5
[training]
warmup_ratio = 0.07
[generation]
system = "Antworte kurz, bitte: ä ß 漢字 👍"
"""
COMPILE = [sys.executable, "-c", "from tunec.compiler.cli import main; main()", "compile"]
PLAIN = {"PATH": os.environ["PATH"], "HOME": "/"}


@pytest.fixture
def checkout(workspace: Path) -> Path:
    """A folder with the spec and everything it names."""
    tiny.write_chats(workspace / "data" / "more.jsonl", 9, seed=1)
    tiny.write_spec(workspace / "spec.toml", SPEC)
    return workspace


def compiled(spec: Path | str, *, folder: Path, **options: Any) -> dict[str, bytes]:
    """Compile a spec in a process of its own and return what it wrote."""
    run_dir = folder / "runs" / "first"
    shutil.rmtree(run_dir, ignore_errors=True)
    done = subprocess.run(
        [*COMPILE, str(spec)], capture_output=True, check=False, **{"env": PLAIN, **options}
    )
    assert done.returncode == 0, done.stderr.decode()
    return {path.name: path.read_bytes() for path in run_dir.iterdir()}


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8", "TZ": "America/St_Johns", "COLUMNS": "20"},
        {"LC_ALL": "de_DE.UTF-8", "PYTHONOPTIMIZE": "2", "FORCE_COLOR": "1"},
    ],
    ids=lambda environment: "-".join(environment),
)
def test_the_environment_does_not_matter(environment: dict[str, str], checkout: Path) -> None:
    """Hash seed, locale, encoding, time zone and colours change no byte."""
    expected = compiled(checkout / "spec.toml", folder=checkout)
    assert (
        compiled(checkout / "spec.toml", folder=checkout, env={**PLAIN, **environment}) == expected
    )


def test_the_working_folder_does_not_matter(checkout: Path) -> None:
    """Named from inside, from outside, through `..` or a link: the same bytes."""
    expected = compiled(checkout / "spec.toml", folder=checkout)
    link = checkout.parent / f"{checkout.name}-link"
    link.symlink_to(checkout)
    for spec, cwd in (
        ("spec.toml", checkout),
        ("../spec.toml", checkout / "data"),
        (f"{checkout.name}/data/../spec.toml", checkout.parent),
        (link / "spec.toml", Path("/")),
    ):
        assert compiled(spec, folder=checkout, cwd=cwd) == expected


def test_the_umask_does_not_matter(checkout: Path) -> None:
    """Files are readable by all and the script can be run, whatever the umask takes away."""
    expected = compiled(checkout / "spec.toml", folder=checkout)
    assert compiled(checkout / "spec.toml", folder=checkout, umask=0o077) == expected
    run_dir = checkout / "runs" / "first"
    modes = {path.name: path.stat().st_mode & 0o777 for path in run_dir.iterdir()}
    assert modes.pop("launch.sh") == 0o755
    assert set(modes.values()) == {0o644}


def test_the_order_of_keys_does_not_matter(checkout: Path) -> None:
    """Sections and keys may stand in any order."""
    expected = compiled(checkout / "spec.toml", folder=checkout)
    data = tomli.loads((checkout / "spec.toml").read_text())
    for seed in range(2):
        shuffle = random.Random(seed)
        turned = {
            name: dict(shuffle.sample(list(data[name].items()), len(data[name])))
            for name in shuffle.sample(list(data), len(data))
        }
        (checkout / "spec.toml").write_text(tiny.to_toml(turned))
        assert compiled(checkout / "spec.toml", folder=checkout) == expected


def test_the_place_of_the_checkout_does_not_matter(checkout: Path, tmp_path: Path) -> None:
    """Two checkouts of one tree give the same bytes: paths are relative to the run folder."""
    other = tmp_path / "some where" / "else"
    shutil.copytree(checkout, other, ignore=shutil.ignore_patterns("some where"))
    expected = compiled(checkout / "spec.toml", folder=checkout)
    assert compiled(other / "spec.toml", folder=other) == expected
    assert not [name for name, data in expected.items() if str(checkout).encode() in data]


def test_compiling_twice_changes_nothing(checkout: Path) -> None:
    """A second compilation leaves even the times of the files alone."""
    compiled(checkout / "spec.toml", folder=checkout)
    run_dir = checkout / "runs" / "first"
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    done = subprocess.run(
        [*COMPILE, str(checkout / "spec.toml")], capture_output=True, text=True, check=True
    )
    assert {line[0] for line in done.stdout.splitlines()[:-1]} == {"="}
    assert {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()} == before
