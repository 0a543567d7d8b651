"""`tunec cache`: what is listed is what the runtime wrote, and nothing is removed that somebody may need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from tunec.compiler import cache
from tunec.compiler.cli import main
from tunec.runtime.data import Messages, Options, Tokenizer, prepare
from tunec.runtime.data.prepare import default_cache, is_complete
from tunec.runtime.data.store import downloads

KEY = "0123456789abcdef" * 2
Run = Callable[..., str]


@pytest.fixture
def prepared(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder that the runtime prepared, in `cache`, for the run in `run`."""
    (tmp_path / "run").mkdir()
    tiny.write_chats(tmp_path / "chat.jsonl", 20)
    return prepare(
        [Messages(path=tmp_path / "chat.jsonl", name="chat")],
        tokenizer=Tokenizer(path=tiny_model),
        options=Options(loss_on="assistant", max_length=256, too_long="drop"),
        seed=1,
        output=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        tell=False,
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Call `tunec cache` on the folder `cache`; it must end well."""

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["cache", *words, "--dir", str(tmp_path / "cache")])
        assert end.value.code == 0
        return capsys.readouterr().out

    return call


def staging(folder: Path, name: str, *, age_s: float = 0.0) -> Path:
    """Make a folder of the cache with a file in it, last changed some time ago."""
    path = folder / "cache" / name
    path.mkdir(parents=True)
    (path / "tokens.bin").write_bytes(bytes(100))
    for item in (path / "tokens.bin", path):
        os.utime(item, (time.time() - age_s,) * 2)
    return path


def dead_pid() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


# --- the layout, which both sides know -------------------------------------------------------------------


def test_both_sides_name_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default cache of the compiler is that of the runtime, whatever the environment says."""
    for change in (
        {"TUNEC_CACHE": "/a"},
        {"XDG_CACHE_HOME": "/b"},
        {"HOME": str(tmp_path)},
        {"TUNEC_CACHE": ""},
    ):
        with monkeypatch.context() as patch:
            patch.delenv("TUNEC_CACHE", raising=False)
            patch.delenv("XDG_CACHE_HOME", raising=False)
            for name, value in change.items():
                patch.setenv(name, value)
            assert cache.default_cache(os.environ) == default_cache()


def test_what_the_runtime_wrote_is_read(prepared: Path) -> None:
    """Key, counts, sources and run of a prepared folder."""
    (entry,) = cache.entries(prepared.parent)
    report = json.loads((prepared / "report.json").read_text())["sources"][0]
    assert (entry.path, entry.key, entry.state) == (prepared, prepared.name, "complete")
    assert (entry.samples, entry.tokens) == (20, report["tokens"])
    assert entry.sources == ("chat",)
    assert entry.runs == (str(prepared.parents[1] / "run"),)
    assert entry.size == sum(file.stat().st_size for file in prepared.iterdir())


@pytest.mark.parametrize(
    "damage", ["none", "torn", "missing", "manifest", "edited", "list", "format"]
)
def test_both_sides_agree_what_is_complete(damage: str, prepared: Path) -> None:
    """A folder that the runtime would not use is incomplete here too, and no other is."""
    manifest = prepared / "MANIFEST.json"
    if damage == "torn":
        os.truncate(prepared / "tokens.bin", 3)
    elif damage == "missing":
        (prepared / "report.json").unlink()
    elif damage == "manifest":
        manifest.unlink()
    elif damage == "edited":
        manifest.write_text(manifest.read_text().replace('"size": ', '"size": 1'))
    elif damage == "list":
        manifest.write_text("[]")
    elif damage == "format":
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    assert cache.is_complete(prepared) == is_complete(prepared) == (damage == "none")


def test_a_run_that_moved_on_is_not_named(prepared: Path) -> None:
    """Only runs whose pointer names the folder count."""
    (prepared.parents[1] / "run" / "prepared.json").write_text('{"key": "other"}')
    (entry,) = cache.entries(prepared.parent)
    assert entry.runs == ()


# --- list ------------------------------------------------------------------------------------------------


def test_list(prepared: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a folder; paths the short way."""
    monkeypatch.chdir(prepared.parents[1])
    head, columns, line = run("list").splitlines()
    assert head.startswith("cache: 1 prepared, ")
    assert columns.split() == ["key", "size", "used", "samples", "tokens", "sources", "runs"]
    assert line.split()[0] == prepared.name
    assert line.split()[-2:] == ["chat", "run"]
    assert "just now" in line
    (found,) = json.loads(run("list", "--format", "json"))["prepared"]
    assert (found["key"], found["samples"], found["state"]) == (prepared.name, 20, "complete")


def test_an_empty_cache(run: Run) -> None:
    """No folder is no mistake."""
    assert "0 prepared, 0.0 KiB" in run("list")
    assert run("prune", "--all", "--yes") == ""


def test_names_are_not_obeyed(prepared: Path, run: Run) -> None:
    """A report of a stranger cannot send escapes to the terminal."""
    entry = json.loads((prepared / "report.json").read_text())
    size = (prepared / "report.json").stat().st_size
    entry["sources"][0]["name"] = "\x1b[31m\u202e"
    text = json.dumps(entry, ensure_ascii=False)
    (prepared / "report.json").write_text(text + " " * (size - len(text.encode())))
    for out in (run("list"), run("list", "--format", "json"), run("prune", "--all")):
        assert "\x1b" not in out
        assert "\u202e" not in out


# --- prune -----------------------------------------------------------------------------------------------


def test_whole_data_need_a_yes(prepared: Path, run: Run) -> None:
    """Complete folders are named first, and removed only with --yes."""
    assert run("prune") == ""
    assert run("prune", "--older-than", "1d", "--yes") == ""
    assert f"would remove {prepared.name}" in run("prune", "--all")
    assert "would be freed; --yes does it" in run("prune", "--keep-gib", "0")
    assert prepared.exists()
    assert f"removed {prepared.name}" in run("prune", "--keep-gib", "0", "--yes")
    assert list(prepared.parent.iterdir()) == []


def test_age_is_that_of_the_last_use(prepared: Path, run: Run) -> None:
    """What was used lately stays, however old it is."""
    old = time.time() - 40 * 86400
    os.utime(prepared, (old, old))
    assert run("prune", "--older-than", "30d", "--yes") == ""
    os.utime(prepared / "users.jsonl", (old, old))
    assert "used 40 d ago" in run("prune", "--older-than", "30d")


def test_what_was_used_last_is_kept() -> None:
    """`--keep-gib` keeps the newest that fit; one that is too large does not push out those behind it."""
    found = [
        cache.Entry(Path(name), name, "complete", size, used)
        for name, size, used in (("a", 5, 30.0), ("b", 9, 20.0), ("c", 2, 10.0))
    ]
    assert [entry.key for entry in cache.chosen(found, 40.0, keep_bytes=8)] == ["b"]


def test_what_killed_runs_left_goes(tmp_path: Path, run: Run) -> None:
    """Staging folders of dead processes and torn folders go without --yes, once they are quiet."""
    dead = dead_pid()
    left = staging(tmp_path, f".{KEY}.{dead}.tmp", age_s=7200)
    damaged = staging(tmp_path, f".{KEY}.damaged.tmp", age_s=7200)
    torn = staging(tmp_path, KEY)
    out = run("prune")
    assert f"removed {left.name} (0.1 KiB, used 2 h ago): left behind" in out
    assert f"removed {torn.name} (0.1 KiB, used just now): torn" in out
    assert not any(path.exists() for path in (left, damaged, torn))


def test_a_run_that_is_preparing_is_left_alone(tmp_path: Path, run: Run) -> None:
    """A living process keeps its folder, and so does a quiet hour: it may run on another machine."""
    alive = staging(tmp_path, f".{KEY}.{os.getpid()}.tmp", age_s=7200)
    recent = staging(tmp_path, f".{KEY[::-1]}.{dead_pid()}.tmp", age_s=60)
    assert run("prune", "--all", "--yes") == ""
    assert alive.exists()
    assert recent.exists()
    assert run("list").splitlines()[2].endswith(" preparing")


def test_nothing_else_is_touched(tmp_path: Path, run: Run) -> None:
    """Other names stay, links are neither followed nor removed, and links inside a folder are cut, not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    kept = [staging(tmp_path, name, age_s=10**6) for name in ("other", f"{KEY}x", ".tmp")]
    link = tmp_path / "cache" / KEY
    link.symlink_to(outside)
    doomed = staging(tmp_path, KEY[::-1])
    (doomed / "link").symlink_to(outside)
    run("prune", "--all", "--yes")
    assert not doomed.exists()
    assert link.is_symlink()
    assert all(path.exists() for path in (*kept, outside / "precious"))


def test_what_comes_to_life_is_not_removed(tmp_path: Path, prepared: Path) -> None:
    """Between looking and removing, another run may have made the folder whole."""
    (entry,) = cache.entries(prepared.parent)
    torn = cache.Entry(entry.path, entry.key, "incomplete", 1, 0.0)
    assert not cache.remove(torn)
    assert prepared.exists()


@pytest.mark.parametrize(
    "words", [["--older-than", "soon"], ["--keep-gib", "-1"], ["--keep-gib", "nan"]]
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Ages and sizes that make no sense are wrong usage."""
    with pytest.raises(SystemExit) as end:
        main(["cache", "prune", *words])
    assert end.value.code == 2
    assert "error: argument" in capsys.readouterr().err


# --- what was fetched -------------------------------------------------------------------------------------


def test_fetched_files_go_when_nobody_used_them_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old versions are named, and removed with --yes; locks and what was read within the hour stay."""
    monkeypatch.setenv("TUNEC_CACHE", str(tmp_path))
    folder = downloads() / "somewhere"
    folder.mkdir(parents=True)
    for name, age_s in (("old.jsonl", 9e5), ("new.jsonl", 60.0), (".lock", 9e5)):
        (folder / name).write_bytes(bytes(2**20))
        os.utime(folder / name, (time.time() - age_s,) * 2)

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["cache", *words])
        assert end.value.code == 0
        return capsys.readouterr().out

    assert "3.0 MiB fetched from addresses and hubs" in call("list")
    named = call("prune", "--downloads")
    assert "old.jsonl" in named
    assert named.endswith("1.0 MiB would be freed; --yes does it\n")
    assert call("prune", "--downloads", "--older-than", "30d", "--yes") == ""
    assert call("prune", "--downloads", "--yes").endswith("1.0 MiB freed\n")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "new.jsonl"]
