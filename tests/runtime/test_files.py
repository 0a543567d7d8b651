"""Files of a source: every kind gives the same rows, and each row keeps its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import feather, parquet

from tunec.runtime.data import Alpaca, Conversation, Messages, read
from tunec.runtime.data.files import Parsed, files_of, raw_rows
from tunec.runtime.errors import ExitCode, UserError

ROWS = [
    {"instruction": "Say ü.", "input": "", "output": "ü,\n\"ü\""},
    {"instruction": "Count.", "input": "to 3", "output": "1 2 3"},
    {"instruction": "Stop.", "input": "", "output": "No."},
]  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["instruction", "input", "output"])
        writer.writeheader()
        writer.writerows(ROWS)


def write_arrow(path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=2)


def write_stream(path: Path) -> None:
    """As `datasets` saves: the stream format under the same suffix."""
    table = pyarrow.Table.from_pylist(ROWS)
    with (
        pyarrow.OSFile(str(path), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.schema) as file,
    ):
        file.write_table(table)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.json": lambda path: path.write_text(json.dumps(ROWS)),
    "rows.jsonl": lambda path: path.write_bytes(lines(ROWS)),
    "rows.csv": write_csv,
    "rows.parquet": lambda path: parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2),
    "rows.arrow": write_arrow,
    "stream.arrow": write_stream,
    "rows.feather": lambda path: feather.write_feather(pyarrow.Table.from_pylist(ROWS), str(path)),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS))),
    "rows.json.bz2": lambda path: path.write_bytes(bz2.compress(json.dumps(ROWS).encode())),
    "rows.jsonl.xz": lambda path: path.write_bytes(lzma.compress(lines(ROWS))),
}  # fmt: skip


def alpaca(path: Path, **options: Any) -> list[Conversation]:
    return read([Alpaca(path=path, name="rows", **options)])


def fault(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        alpaca(path)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    """Whatever file the rows are in, they are the same conversations."""
    WRITERS[name](tmp_path / name)
    expected = [Alpaca(path=tmp_path, name="rows").item(row, "").messages for row in ROWS]  # type: ignore[union-attr]
    assert [conversation.messages for conversation in alpaca(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("name", "places"),
    [("rows.csv", [2, 4, 5]), ("rows.parquet", [1, 2, 3]), ("rows.jsonl.gz", [1, 2, 3])],
)
def test_places(tmp_path: Path, name: str, places: list[int]) -> None:
    """A row is placed by the line it begins in, or by its number in a file that has no lines."""
    WRITERS[name](tmp_path / name)
    found = [conversation.place for conversation in alpaca(tmp_path / name)]
    assert found == [f"{tmp_path / name}:{line}" for line in places]


def test_text_files(tmp_path: Path) -> None:
    """A row a line, blank ones left out."""
    (tmp_path / "a.txt").write_text("one\n\n two\n")
    assert [(line, row.row) for line, row in raw_rows(tmp_path / "a.txt")] == [  # type: ignore[union-attr]
        (1, {"text": "one"}),
        (3, {"text": " two"}),
    ]


def test_nested_columns_of_a_table(tmp_path: Path) -> None:
    """A list of messages in a Parquet file is one, with nulls where a message lacks a key of the others."""
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "q", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "{}"}]},
        {"role": "tool", "content": "r", "tool_calls": None},
        {"role": "assistant", "content": "a", "tool_calls": None},
    ]
    path = tmp_path / "chat.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": said}]), path)
    (found,) = read([Messages(path=path, name="chat")])
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": said}]))
    (plain,) = read([Messages(path=tmp_path / "chat.json", name="chat")])
    assert found.messages == plain.messages


def test_zst(tmp_path: Path) -> None:
    """Zstandard is read where its package is installed, and damage is told as for the others."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "rows.jsonl.zst"
    path.write_bytes(zstandard.compress(lines(ROWS)))
    assert [conversation.place for conversation in alpaca(path)] == [
        f"{path}:{n}" for n in (1, 2, 3)
    ]
    path.write_bytes(b"noise" * 40)
    assert fault(path).message.startswith(f"{path}: the file is damaged: ")


# Several files


def test_folders_and_patterns(tmp_path: Path) -> None:
    """A folder and a pattern are their files in the order of their names; other files are passed over."""
    folder = tmp_path / "many [1]"
    folder.mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        (folder / name).write_bytes(lines(ROWS))
    (folder / "README.md").write_text("No data.")
    for path in (
        folder,
        folder / "*.jsonl",
        folder / "[a-c].jsonl",
        tmp_path / "many*" / "?.jsonl",
    ):
        assert [file.name for file in files_of(path)] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    found = alpaca(folder / "[bc].jsonl", limit=4)
    assert [conversation.place for conversation in found] == [
        *(f"{folder / 'b.jsonl'}:{line}" for line in (1, 2, 3)),
        f"{folder / 'c.jsonl'}:1",
    ]


def test_several_kinds_are_refused(tmp_path: Path) -> None:
    """The rows of one source have one form."""
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    write_csv(tmp_path / "b.csv")
    error = fault(tmp_path)
    assert error.message == f"{tmp_path}: files of several kinds, .csv and .jsonl"
    assert error.help == "name those of one kind with a pattern such as `*.csv`"


def test_no_files(tmp_path: Path) -> None:
    """An empty folder and a pattern that fits nothing are errors."""
    (tmp_path / "notes.md").write_text("No data.")
    assert fault(tmp_path).message == f"{tmp_path}: the folder holds no data files"
    pattern = tmp_path / "none" / "*.jsonl"
    assert fault(pattern).message == f"{pattern}: no data file fits this pattern"


# Damage


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.xz", "rows.json.bz2", "rows.parquet", "rows.arrow"])  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_files(tmp_path: Path, name: str, damage: str) -> None:
    """A file that is cut short or no such file at all is one line with its name."""
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "noise": b"noise" * 40, "empty": b""}[damage]
    )
    error = fault(path)
    assert error.code == ExitCode.DATA
    assert error.message.startswith(f"{path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"instruction,output\na,b\na\n", ":3: the row has 1 fields, the header names 2"),
        (b"instruction,output\na,b,c\n", ":2: the row has 3 fields, the header names 2"),
        (b"a,b, a\n", ":1: two columns of the header are called `a`"),
        (b'instruction,output\na,"b\n', ":2: not CSV: unexpected end of data"),
        (b"instruction,output\na,\xff\n", ":2: not UTF-8 text"),
        (b"instruction,answer\na,b\n", ":2: the row has no column `output`"),
        (b"instruction,output\n", ": the data set is empty"),
        (b"", ": the data set is empty"),
    ],
)
def test_bad_csv(tmp_path: Path, content: bytes, message: str) -> None:
    """What is wrong in a CSV file is told with its line."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert fault(path).message == f"{path}{message}"


@pytest.mark.parametrize(
    ("name", "module"), [("rows.jsonl.zst", "zstandard"), ("rows.parquet", "pyarrow")]
)
def test_missing_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    """A file that needs a package which is not installed says which."""
    (tmp_path / name).write_bytes(b"x")
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    error = fault(tmp_path / name)
    suffix = Path(name).suffix
    assert (error.message, error.help, error.code) == (
        f"{tmp_path / name}: reading {suffix} files needs {module}",
        f"pip install {module}",
        ExitCode.ENVIRONMENT,
    )


def test_rows_of_an_array_on_one_line(tmp_path: Path) -> None:
    """Elements that all stand on line 1 are told apart by their numbers; those that have lines keep them."""
    rows = [{"text": f"{n}\n"} for n in range(3)]
    (tmp_path / "one.json").write_text(json.dumps(rows) + "\n")
    (tmp_path / "more.json").write_text(json.dumps(rows, indent=1))
    assert [place for place, _ in raw_rows(tmp_path / "one.json")] == [1, 2, 3]
    assert [place for place, _ in raw_rows(tmp_path / "more.json")] == [2, 5, 8]


def test_a_long_field_of_csv(tmp_path: Path) -> None:
    """A document may be longer than the 128 KiB that Python's reader allows a field by default."""
    (tmp_path / "a.csv").write_text("text\n" + "word " * 50_000 + "\n")
    ((_, row),) = raw_rows(tmp_path / "a.csv")
    assert isinstance(row, Parsed)
    assert len(row.row["text"]) == 250_000
