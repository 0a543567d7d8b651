"""`tunec data inspect`: what it proposes is what the checks accept, and no row is obeyed by terminal or TOML."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from tunec.compiler.cli import main

Inspect = Callable[..., tuple[int, str, str]]
TALK = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
SHAREGPT = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "messages": ({"messages": TALK, "id": 7}, {"format": "messages"}),
    "renamed": (
        {"turns": [{"who": m["role"], "text": m["content"]} for m in TALK]},
        {"format": "messages", "messages": "turns", "role": "who", "content": "text"},
    ),
    "sharegpt": ({"conversations": SHAREGPT}, {"format": "sharegpt"}),
    "tags": (
        {"chat": [{"from": "user", "value": "Hi?"}, {"from": "bot", "value": "Yes."}]},
        {"format": "sharegpt", "messages": "chat", "user_tag": "user", "assistant_tag": "bot"},
    ),
    "alpaca": ({"instruction": "Hi?", "input": "", "output": "Yes."}, {"format": "alpaca"}),
    "pairs": (
        {"question": "Hi?", "answer": "Yes."},
        {"format": "alpaca", "instruction": "question", "output": "answer"},
    ),
    "preference": (
        {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
        {"format": "preference"},
    ),
    "prompt": ({"prompt": "Hi?"}, {"format": "prompt"}),
    "text": ({"text": "A book."}, {"format": "text"}),
    "conversational preference": (
        {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": [{**TALK[1], "content": "No."}]},
        {"format": "preference"},
    ),
    "two conversations": (
        {"chosen": TALK, "rejected": [TALK[0], {**TALK[1], "content": "No."}]},
        {"format": "preference"},
    ),
    "prompt and two conversations": (
        {
            "prompt": "Hi?",
            "chosen": TALK,
            "rejected": [TALK[0], {**TALK[1], "content": "No."}],
            "messages": TALK,
        },
        {"format": "preference"},
    ),
    "margin": (
        {"question": "Hi?", "chosen": "Yes.", "rejected": "No.", "margin": 0.5},
        {"format": "preference", "prompt": "question", "margin": "margin"},
    ),
    "ranked instructions": (
        {"instruction": "Hi?", "input": "", "chosen": "Yes.", "rejected": "No."},
        {"format": "alpaca", "chosen": "chosen", "rejected": "rejected"},
    ),
    "ranked sharegpt": (
        {
            "conversations": SHAREGPT[:1],
            "chosen": SHAREGPT[1],
            "rejected": {"from": "gpt", "value": "No."},
        },
        {"format": "sharegpt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "judged": ({"messages": TALK, "label": False}, {"format": "messages", "label": "label"}),
    "judged answers": (
        {"prompt": "Hi?", "completion": "Yes.", "label": 1},
        {"format": "alpaca", "instruction": "prompt", "output": "completion", "label": "label"},
    ),
    "tools": (
        {"messages": TALK, "tools": [{"name": "f"}]},
        {"format": "messages", "tools": "tools"},
    ),
    "system": (
        {"conversations": SHAREGPT, "system": "Be short.", "tools": "[]"},
        {"format": "sharegpt", "system": "system", "tools": "tools"},
    ),
    "pictures": (
        {"messages": [{**TALK[0], "content": "<image>Hi?"}, TALK[1]], "images": ["a.png"]},
        {"format": "messages", "images": "images"},
    ),
    "pictures without marks": ({"messages": TALK, "images": ["a.png"]}, {"format": "messages"}),
    "prompt as messages": ({"prompt": TALK[:1]}, {"format": "prompt"}),
    "one column": ({"story": "A book."}, {"format": "text", "text": "story"}),
}


@pytest.fixture
def inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Inspect:
    """Write a file and look into it."""
    monkeypatch.chdir(tmp_path)

    def run(content: str | bytes, name: str = "rows.jsonl", *more: str) -> tuple[int, str, str]:
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        Path(name).write_bytes(raw)
        with pytest.raises(SystemExit) as end:
            main(["data", "inspect", name, *more])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(end.value.code, int)
        return end.value.code, out, err

    return run


def lines(*rows: Any) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("case", CASES)
def test_formats(case: str, inspect: Inspect) -> None:
    """Each kind of row leads to its format, with the settings that are not the default."""
    row, settings = CASES[case]
    code, out, _ = inspect(lines(row, row, row))
    assert code == 0
    assert tomli.loads(out) == {"data": {"sources": [{"path": "rows.jsonl", **settings}]}}


def test_the_text(inspect: Inspect) -> None:
    """The reasons stand in comments: columns with examples, what else fits, and rows that do not."""
    rows = [{"conversations": SHAREGPT, "id": n} for n in range(3)]
    rows[1]["conversations"] = []
    _, out, _ = inspect(lines(*rows) + "{\n")
    assert (
        out
        == """\
# rows.jsonl: JSON Lines, 4 rows, 0.2 KiB
#
# conversations  list of objects in 2, empty list in 1, such as [{"from": "human", "value": "Hi?"}, {"from": ...
# id             number in 3, such as 0

# `conversations` is a list of {from, value} in 2 of 3 rows, with the roles human, gpt; 2 of 4 fit
[[data.sources]]
format = "sharegpt"
path = "rows.jsonl"  # as seen from the folder of the spec

# 2 of 4 rows cannot be used:
# rows.jsonl:2: `conversations` is an empty list, expected a list of messages
# rows.jsonl:4: not JSON: expecting property name enclosed in double quotes at column 2
"""
    )


def test_the_text_of_pairs(inspect: Inspect) -> None:
    """What is learned from such a source is said; the worse answers are proposed to nobody."""
    other = [TALK[0], {**TALK[1], "content": "No."}]
    rows = [{"chosen": TALK, "rejected": other}, {"chosen": TALK, "rejected": TALK}]
    _, out, _ = inspect(lines(*rows))
    assert (
        out
        == """\
# rows.jsonl: JSON Lines, 2 rows, 0.4 KiB
#
# chosen    list of objects in 2, such as [{"role": "user", "content": "Hi?"}, {"role":...
# rejected  list of objects in 2, such as [{"role": "user", "content": "Hi?"}, {"role":...

# `chosen` and `rejected` are in 2 of 2 rows; 1 of 2 fit
# for reward, dpo, orpo, simpo and cpo
[[data.sources]]
format = "preference"
path = "rows.jsonl"  # as seen from the folder of the spec

# also possible:
# format = "messages", messages = "chosen": 2 of 2 fit

# 1 of 2 rows cannot be used:
# rows.jsonl:2: `chosen` and `rejected` are the same, there is nothing to prefer
"""
    )


def test_the_text_of_a_folder(inspect: Inspect, tmp_path: Path) -> None:
    """Files of a folder are one data set, and a row that does not fit is placed in its own."""
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "b.csv").write_text("prompt,completion,label\nHi?,Yes.,true\nHi?,,0\n")
    (folder / "a.csv").write_text("prompt,completion,label\nHi?,Yes.,1\n")
    _, out, _ = inspect("", "rows.jsonl", "many", "many/a*")
    assert (
        out[out.index("# many: ") :]
        == """\
# many: 2 files, CSV, 3 rows, 0.1 KiB
#
# prompt      text in 3, such as "Hi?"
# completion  text in 3, such as "Yes."
# label       text in 3, such as "1"

# `prompt`, `completion` and `label` are in 3 of 3 rows; 2 of 3 fit
# for kto
[[data.sources]]
format = "alpaca"
path = "many"  # as seen from the folder of the spec
instruction = "prompt"
output = "completion"
label = "label"

# also possible:
# format = "alpaca", instruction = "prompt", output = "completion": 2 of 3 fit
# format = "prompt", answer = "completion": 3 of 3 fit, for ppo and grpo

# 1 of 3 rows cannot be used:
# many/b.csv:3: `completion` is empty: there is no answer to learn

# many/a*: CSV, 1 row, 0.0 KiB
#
# prompt      text in 1, such as "Hi?"
# completion  text in 1, such as "Yes."
# label       text in 1, such as "1"

# `prompt`, `completion` and `label` are in 1 of 1 rows; 1 of 1 fit
# for kto
[[data.sources]]
format = "alpaca"
path = "many/a*"  # as seen from the folder of the spec
instruction = "prompt"
output = "completion"
label = "label"

# also possible:
# format = "alpaca", instruction = "prompt", output = "completion": 1 of 1 fit
# format = "prompt", answer = "completion": 1 of 1 fit, for ppo and grpo
"""
    )


def test_compressed_files_and_tables(inspect: Inspect, tmp_path: Path) -> None:
    """What is looked into does not depend on how it is stored."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}] * 3), tmp_path / "x.parquet")
    packed = gzip.compress(lines({"text": "a"}).encode())
    code, out, _ = inspect(packed, "rows.jsonl.gz", "x.parquet", "--json")
    assert code == 0
    first, second = json.loads(out)
    assert (first["kind"], second["kind"]) == ("JSON Lines", "Parquet")
    assert (first["num_rows"], second["num_rows"]) == (1, 3)
    assert [p["source"]["format"] for p in first["proposals"]] == ["text"]
    assert second["columns"] == [{"name": "text", "kinds": {"text": 3}, "example": '"a"'}]


def test_what_else_fits_is_said(inspect: Inspect) -> None:
    """The second best is named with what it is for."""
    _, out, _ = inspect(lines({"instruction": "Hi?", "output": "Yes."}))
    assert (
        '# also possible:\n# format = "prompt", prompt = "instruction", answer = "output": 1 of 1 fit, for ppo and grpo\n'
        in out
    )


def test_csv_and_arrays(inspect: Inspect) -> None:
    """A CSV file has text in its columns; an array counts its lines."""
    code, out, _ = inspect('question,answer\n"Hi,\nyou?",Yes.\nOne\n', "rows.csv")
    assert code == 0
    assert 'instruction = "question"' in out
    assert "# rows.csv:4: the row has 1 fields, the header names 2" in out
    _, out, _ = inspect('[\n{"text": "a"},\n{"text": ""}\n]', "rows.json")
    assert "# rows.json: JSON array, 2 rows" in out
    assert "# rows.json:3: `text` is empty: there is nothing to learn" in out


def test_as_json(inspect: Inspect) -> None:
    """The same as data."""
    code, out, _ = inspect(lines({"text": "a"}, 5), "rows.jsonl", "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert found["proposals"] == [
        {
            "source": {"format": "text", "path": "rows.jsonl"},
            "learns": "text",
            "why": "`text` is in 1 of 1 rows",
            "fits": 1,
            "of": 2,
        }
    ]
    assert found["problems"] == [
        {"file": "rows.jsonl", "line": 2, "message": "the row is a number, expected an object"}
    ]
    assert found["columns"] == [{"name": "text", "kinds": {"text": 1}, "example": '"a"'}]


def test_hostile_rows(inspect: Inspect) -> None:
    """Line breaks, escapes and direction marks in names and values stay inside their comment or string."""
    evil = 'x\n[model]\npath = "evil"\x1b[31m\u202e\x85'
    rows = [{evil: [{"role": "user\x1b", "content": evil}] * 2, "a\u2028b": evil, "\ud800": 1}]
    for content in (lines(*rows), lines({evil: "text"}), lines({evil: TALK})):
        _, out, _ = inspect(content)
        assert set(tomli.loads(out)) <= {"data"}
        assert not any(c in out for c in "\x1b\u202e\x85\u2028")


@pytest.mark.parametrize(
    ("content", "name", "code", "text"),
    [
        (lines({"a": 1, "b": 2}), "rows.jsonl", 11, "no format of tunec fits"),
        ("", "rows.jsonl", 11, "no format of tunec fits"),
        ("[" * 100_000, "rows.json", 11, "rows cannot be used"),
        (b"\xff\xfe\n", "rows.jsonl", 11, "rows.jsonl:1: not UTF-8 text"),
        ("x", "rows.parquet", 11, "no .parquet file that can be read"),
        ("x", "rows.md", 11, "it is no data file by its name"),
        ("x", "rows.gz", 11, "it is no data file by its name"),
    ],
)
def test_what_cannot_be_used(
    content: str | bytes, name: str, code: int, text: str, inspect: Inspect
) -> None:
    """Nothing that fits is exit code 11, said in a line."""
    found, out, err = inspect(content, name)
    assert found == code
    assert text in out + err


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is wrong usage."""
    with pytest.raises(SystemExit) as end:
        main(["data", "inspect", "/nowhere/rows.jsonl"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: /nowhere/rows.jsonl: No such file or directory\n"


def test_large_files_are_counted(inspect: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large file the beginning is read and the lines are counted."""
    monkeypatch.setattr("tunec.compiler.inspection.reading.WHOLE_BYTES", 100)
    _, out, _ = inspect(lines(*[{"text": f"{n}"} for n in range(50)]))
    assert "# rows.jsonl: JSON Lines, 50 rows" in out
    assert "# the first 7 rows were read" in out
    assert "cannot be used" not in out
