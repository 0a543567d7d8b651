"""A folder named for prepared data: used only when it holds just what is asked for, and never taken from others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunec.runtime.data import Messages
from tunec.runtime.data.fitting import Options
from tunec.runtime.data.place import first_come
from tunec.runtime.data.prepare import prepare
from tunec.runtime.data.prepared import load, open_prepared
from tunec.runtime.data.tokenizer import Tokenizer
from tunec.runtime.errors import ExitCode, UserError

OPTIONS = {"loss_on": "assistant", "max_length": 64, "too_long": "truncate"}


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a tokenizer and a file of 40 conversations."""
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_chats(tmp_path / "chat.jsonl", 40)
    return tmp_path


def run(work: Path, **changes: Any) -> Path:
    """Prepare into the folder `named`."""
    arguments: dict[str, Any] = {
        "tokenizer": Tokenizer(path=work / "model"),
        "options": Options(**OPTIONS),  # type: ignore[arg-type]
        "seed": 7, "output": work, "prepared_dir": work / "named", "workers": 1, **changes,
    }  # fmt: skip
    source = Messages(path=work / "chat.jsonl", name="chat", limit=arguments.pop("limit", None))
    return prepare([source], **arguments)


def refused(work: Path, **changes: Any) -> UserError:
    """Return why the folder is not used; what it holds is untouched."""
    before = {path: path.read_bytes() for path in (work / "named").iterdir()}
    with pytest.raises(UserError) as caught:
        run(work, **changes)
    assert caught.value.code == ExitCode.CONFLICT
    assert {path: path.read_bytes() for path in (work / "named").iterdir()} == before
    return caught.value


def test_filled_and_used_again(work: Path) -> None:
    """The first run fills the folder itself, the second uses it; no cache is touched."""
    (work / "named").mkdir()
    assert run(work) == work / "named"
    made = (work / "named" / "tokens.bin").stat().st_mtime_ns
    run(work)
    assert (work / "named" / "tokens.bin").stat().st_mtime_ns == made
    assert len(load(work)[0]) == 40


def changed_template(work: Path) -> dict[str, Any]:
    (work / "chat.jinja").write_text(tiny.TEMPLATE + "{# new #}")
    return {"tokenizer": Tokenizer(path=work / "model", chat_template=work / "chat.jinja")}


def changed_tokenizer(work: Path) -> dict[str, Any]:
    path = work / "model" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    return {}


def changed_content(work: Path) -> dict[str, Any]:
    tiny.write_chats(work / "chat.jsonl", 41)
    return {}


CHANGES = {
    "template": (changed_template, "the chat template"),
    "tokenizer": (changed_tokenizer, "the tokenizer, or the chat template in its folder"),
    "content": (changed_content, "the content of the files of source chat"),
    "option": (
        lambda work: {"options": Options(**{**OPTIONS, "max_length": 63})},  # type: ignore[arg-type]
        "`max_length` (64 there, 63 here)",
    ),
    "seed": (lambda work: {"seed": 8}, "`seed` (7 there, 8 here)"),
    "limit": (lambda work: {"limit": 5}, "`limit` (None there, 5 here) of source chat"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_data_are_refused_and_rebuilt(work: Path, name: str) -> None:
    """What differs is said and nothing is lost; `rebuild` replaces it by what is asked for."""
    run(work)
    change, words = CHANGES[name]
    changes = change(work)
    fault = refused(work, **changes)
    assert fault.message == f"{work / 'named'} holds data that were prepared otherwise: {words}"
    assert "data.rebuild = true" in fault.help
    run(work, rebuild=True, **changes)
    run(work, **changes)
    assert sorted(path.name for path in work.iterdir() if path.name.startswith(".")) == []


def test_without_the_sources(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine without the data files the folder is used, and it is said; other settings are still refused."""
    run(work)
    (work / "chat.jsonl").unlink()
    capsys.readouterr()
    assert len(open_prepared(run(work))[0]) == 40
    assert "chat.jsonl is not here; " in capsys.readouterr().out
    assert "`seed`" in refused(work, seed=8).message
    with pytest.raises(UserError, match="no such data file"):
        run(work, rebuild=True)
    shutil.rmtree(work / "named")
    with pytest.raises(UserError, match="no such data file"):
        run(work)


def test_a_folder_of_something_else(work: Path) -> None:
    """A folder with other files is never written to, not even by `rebuild`."""
    (work / "named").mkdir()
    (work / "named" / "thesis.txt").write_text("important")
    for rebuild in (False, True):
        assert "is no folder of prepared data" in refused(work, rebuild=rebuild).message


def test_a_damaged_folder_is_made_again(work: Path) -> None:
    """Prepared data that are torn are no reason to stop."""
    run(work)
    (work / "named" / "tokens.bin").write_bytes(b"")
    assert len(open_prepared(run(work))[0]) == 40


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_rows_at_a_time(work: Path, rows: int) -> None:
    """How many rows are tokenized at a time changes nothing of the result, not one byte."""
    expected = run(work)
    found = run(work, prepared_dir=work / "other", batch_rows=rows, workers=2)
    for name in ("tokens.bin", "MANIFEST.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()


HOLDER = """
import sys
from pathlib import Path
from tunec.runtime.data.place import first_come
with first_come(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(work: Path) -> subprocess.Popen[str]:
    """Start a process that prepares the folder until it is told to go on."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(work / "named")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_who_comes_second_waits(work: Path) -> None:
    """One process at a time makes a folder; when it ends, whatever way, the next goes on."""
    first = hold(work)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    second = hold(work)
    assert second.stdout is not None
    assert second.stdout.readline().startswith("waiting for another process")
    first.kill()
    assert second.stdout.readline() == "held\n"
    second.communicate("\n", timeout=60)
    first.communicate(timeout=60)
    with first_come(work / "named"):
        assert not (work / "named").exists()
