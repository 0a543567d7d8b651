"""Preparation: the same tokens as in one process, content-addressed, and whole or not there at all."""

from __future__ import annotations

import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunec.runtime.data import Alpaca, Messages, read, tokenize
from tunec.runtime.data.place import is_complete
from tunec.runtime.data.prepare import prepare
from tunec.runtime.data.prepared import POINTER, open_prepared, read_pointer, read_report
from tunec.runtime.data.samples import Samples, split
from tunec.runtime.data.tokenizer import Tokenizer
from tunec.runtime.data.work import Options
from tunec.runtime.errors import ExitCode, UserError

preparation: Any = importlib.import_module("tunec.runtime.data.prepare")
"""The module: its name is that of the function in the package."""
OPTIONS = Options(loss_on="assistant", max_length=64, too_long="truncate")


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a tokenizer, a messages file of 700 rows, and an alpaca file."""
    (tmp_path / "model").symlink_to(tiny_model)
    tiny.write_chats(tmp_path / "chat.jsonl", 700)
    rows = [{"instruction": f"Say {n}.", "output": f"{n}!"} for n in range(40)]
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    return tmp_path


def sources(work: Path) -> list[Messages | Alpaca]:
    """Both files as sources."""
    return [
        Messages(path=work / "chat.jsonl", name="chat"),
        Alpaca(path=work / "facts.json", name="facts"),
    ]


def run(work: Path, **changes: Any) -> Path:
    """Prepare into the work folder's own cache."""
    arguments: dict[str, Any] = {
        "sources": sources(work),
        "tokenizer": Tokenizer(path=work / "model"),
        "options": OPTIONS,
        "seed": 7,
        "output": work,
        "cache_dir": work / "cache",
        "workers": 1,
        **changes,
    }
    return prepare(arguments.pop("sources"), **arguments)


def in_one_process(work: Path, **changes: Any) -> Samples:
    """The samples as the plain functions give them."""
    options = {"loss_on": "assistant", "max_length": 64, "too_long": "truncate", **changes}
    tokenizer = Tokenizer(path=work / "model").load()
    return tokenize(read(sources(work)), tokenizer=tokenizer, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_tokens_do_not_depend_on_the_workers(work: Path, workers: int) -> None:
    """One, two or three processes write what one process computes: tokens, labels, counts and line of log."""
    train, evaluation = open_prepared(run(work, workers=workers))
    plain = in_one_process(work)
    assert list(train) == list(plain)
    assert len(evaluation) == 0
    assert train.summary() == plain.summary()
    assert list(train.lengths) == list(plain.lengths)
    assert list(train.trainable) == list(plain.trainable)


def test_the_last_answer_alone_survives_truncation(work: Path) -> None:
    """What decides tokens decides them here as in one process: the last answer only, some of it always kept."""
    options = Options(loss_on="last", max_length=30, too_long="truncate", reserved_answer=4)
    train, _ = open_prepared(run(work, options=options))
    plain = in_one_process(work, loss_on="last", max_length=30, reserved_answer=4)
    assert list(train) == list(plain)
    assert all(2 <= count <= 30 for count in train.trainable)


@pytest.mark.parametrize("rows", [30, 0.1])
def test_the_same_rows_are_held_out(work: Path, rows: int | float) -> None:
    """Evaluation rows are those that `split` draws for the seed."""
    train, evaluation = open_prepared(run(work, eval_rows=rows))
    plain_train, plain_evaluation = split(in_one_process(work), eval_rows=rows, seed=7)
    assert list(train) == list(plain_train)
    assert list(evaluation) == list(plain_evaluation)
    assert train.num_read == plain_train.num_read


def test_evaluation_sources_stay_apart(work: Path) -> None:
    """Evaluation sources give the evaluation samples, and no training ones."""
    chat, facts = sources(work)
    train, evaluation = open_prepared(run(work, sources=[chat], evaluation=[facts]))
    everything = list(in_one_process(work))
    assert list(train) == everything[:700]
    assert list(evaluation) == everything[700:]


def test_what_fits_is_used_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run with the same content reads nothing but digests, wherever its files lie."""
    folder = run(work)
    monkeypatch.setattr(preparation.Preparation, "run", lambda *_, **__: pytest.fail("made again"))
    moved = work / "moved.jsonl"
    os.rename(work / "chat.jsonl", moved)
    _, facts = sources(work)
    again = run(work, sources=[Messages(path=moved, name="chat"), facts])
    assert again == folder
    assert read_pointer(work).names[0].place(0, 3) == f"{moved}:3"
    assert json.loads((work / POINTER).read_text())["folder"] == str(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"options": Options(loss_on="all", max_length=64, too_long="truncate")},
        {"options": Options(loss_on="assistant", max_length=63, too_long="truncate")},
        {"options": Options(loss_on="assistant", max_length=64, too_long="drop")},
        {"eval_rows": 3},
        {"seed": 8},
        {"content": True},
        {"template": True},
        {"limit": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_token_decides_the_folder(work: Path, change: dict[str, Any]) -> None:
    """Options, content of the files, template and seed each lead to a folder of their own."""
    folder = run(work)
    if change.pop("content", False):
        text = (work / "chat.jsonl").read_text().replace("Thimble", "Thimbla", 1)
        (work / "chat.jsonl").write_text(text)
    if change.pop("template", False):
        (work / "chat.jinja").write_text(tiny.TEMPLATE + "{# new #}")
        change["tokenizer"] = Tokenizer(path=work / "model", chat_template=work / "chat.jinja")
    if change.pop("limit", False):
        change["sources"] = [Messages(path=work / "chat.jsonl", name="chat", limit=5)]
    assert run(work, **change) != folder


def test_a_bad_row_ends_the_preparation(work: Path) -> None:
    """The first bad row in the order of the file is the error, and nothing is left behind."""
    lines = (work / "chat.jsonl").read_text().splitlines()
    lines[300], lines[650] = "{", '{"messages": []}'
    (work / "chat.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"chat\.jsonl:301: not JSON") as caught:
        run(work, workers=2)
    assert caught.value.code == ExitCode.DATA
    assert list((work / "cache").iterdir()) == []
    assert not (work / POINTER).exists()


def test_bad_rows_are_skipped_and_listed(work: Path) -> None:
    """Under `skip` the other rows are those of a file without the bad ones; the report names file and row."""
    lines = (work / "chat.jsonl").read_text().splitlines()
    good = [line for number, line in enumerate(lines) if number not in (300, 650)]
    lines[300], lines[650] = "{", '{"messages": []}'
    (work / "chat.jsonl").write_text("\n".join(lines))
    folder = run(work, bad_rows="skip", workers=2)
    train, _ = open_prepared(folder)
    (work / "chat.jsonl").write_text("\n".join(good))
    assert list(train) == list(in_one_process(work))
    (chat, _) = read_report(folder)["sources"]
    assert chat["bad"] == 2
    assert [problem[:2] for problem in chat["problems"]["bad"]] == [[0, 301], [0, 651]]
    assert train.warnings[0].startswith("2 bad rows were skipped, the first: ")


def test_too_many_bad_rows_are_an_error(work: Path) -> None:
    """More than the allowed share of bad rows is no oversight any more."""
    lines = (work / "chat.jsonl").read_text().splitlines()
    lines[:100] = ["{"] * 100
    (work / "chat.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        run(work, bad_rows="skip", max_bad_share=0.1)
    assert "100 of 700 rows are bad, more than `data.max_bad_share` = 0.1" in caught.value.message


def test_rows_behind_each_gate_are_listed(work: Path) -> None:
    """Truncated and dropped samples are counted and named with file and row."""
    tight = Options(loss_on="assistant", max_length=40, too_long="drop")
    report = read_report(run(work, options=tight))["sources"][0]
    assert report["read"] == report["kept"] + report["dropped"] == 700
    assert len(report["problems"]["dropped"]) == 20
    assert report["problems"]["dropped"][0][0] == 0


def test_a_sample_without_answer_is_a_bad_row(work: Path) -> None:
    """A template that hides an answer leaves nothing to learn: the row is bad, an error or skipped and listed."""
    marked = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and not m['content'].startswith('0!') %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    (work / "hides.jinja").write_text(marked)
    hiding = {
        "sources": sources(work)[1:],
        "tokenizer": Tokenizer(path=work / "model", chat_template=work / "hides.jinja"),
    }
    with pytest.raises(UserError) as caught:
        run(work, **hiding)
    assert caught.value.message == (
        f"{work / 'facts.json'}:1: no token of the sample carries loss, the chat template hides the answer"
    )
    (report,) = read_report(run(work, **hiding, bad_rows="skip", max_bad_share=0.5))["sources"]
    assert (report["read"], report["kept"], report["bad"]) == (40, 39, 1)


def test_a_killed_worker_is_said(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed from outside ends the preparation with one line and no half-written folder."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("tunec.runtime.data.work.parse_row", die)
    with pytest.raises(UserError, match="a process that tokenizes was killed") as caught:
        run(work, workers=2)
    assert caught.value.help == "lower `data.workers`"
    assert list((work / "cache").iterdir()) == []


def test_a_file_that_changes_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows appended while the file is read are noticed."""
    check = preparation.Preparation._check_counts

    def append(self: preparation.Preparation) -> None:
        with (work / "chat.jsonl").open("a") as file:
            file.write("\n")
        check(self)

    monkeypatch.setattr(preparation.Preparation, "_check_counts", append)
    with pytest.raises(UserError, match="the file changed while it was read"):
        run(work)


def test_a_torn_folder_is_made_again(work: Path) -> None:
    """A cache folder that lost bytes is not used, and the next run mends it."""
    folder = run(work)
    os.truncate(folder / "tokens.bin", 10)
    assert not is_complete(folder)
    with pytest.raises(UserError, match="the prepared data cannot be used") as caught:
        open_prepared(folder)
    assert caught.value.help == "delete that folder; it is made again at the next start"
    assert is_complete(run(work))


def test_another_run_may_win(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is second uses the folder that is there, and takes its own staging folder away."""
    write = preparation.Preparation._write

    def overtaken(self: preparation.Preparation, tokenizer: Any, staging: Path) -> Any:
        monkeypatch.setattr(preparation.Preparation, "_write", write)
        monkeypatch.setattr(os, "getpid", lambda: 12345)
        # As on a disk that knows no locks: where it does, this run would wait for the other.
        run(work, shared_storage=False)
        return write(self, tokenizer, staging)

    monkeypatch.setattr(preparation.Preparation, "_write", overtaken)
    folder = run(work)
    assert is_complete(folder)
    assert [path.name for path in (work / "cache").iterdir()] == [folder.name]


def test_samples_are_read_from_the_map(work: Path) -> None:
    """A stored sample is a plain one, slices are sets, and the arrays are maps of the files."""
    train, _ = open_prepared(run(work))
    rows: Any = train.rows
    assert isinstance(rows._tokens, np.memmap)
    assert [rows[i] for i in range(3)] == list(rows[:3])
    assert train[0].input_ids[0] == rows._tokens[0]
