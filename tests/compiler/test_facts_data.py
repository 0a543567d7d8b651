"""Facts about data of every format, catalogs, reward functions and host files: nothing raises, and all is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunec.compiler.facts.columns import named_columns
from tunec.compiler.facts.data import DataFacts, read_data
from tunec.compiler.facts.named import read_function, read_hosts
from tunec.compiler.facts.row_checks import check_row
from tunec.compiler.facts.rows import RowError
from tunec.compiler.facts.sample_kinds import FileSource
from tunec.compiler.spec import (
    AlpacaSource,
    CatalogSource,
    HostFile,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)

PATH = "rows.jsonl"
ALPACA = AlpacaSource(format="alpaca", path=PATH)
MESSAGES = MessagesSource(format="messages", path=PATH)
SHAREGPT = ShareGptSource(format="sharegpt", path=PATH)
TEXT = TextSource(format="text", path=PATH)
PAIRS = PreferenceSource(format="preference", path=PATH)
PROMPT = PromptSource(format="prompt", path=PATH)
COMPARED = MessagesSource(format="messages", path=PATH, chosen="chosen", rejected="rejected")
JUDGED = AlpacaSource(format="alpaca", path=PATH, label="label", images="images")
SOURCES: list[FileSource] = [
    *(ALPACA, MESSAGES, SHAREGPT, TEXT, PAIRS, PROMPT, COMPARED, JUDGED),
]


def written(folder: Path, rows: list[Any], source: FileSource) -> DataFacts:
    """Write rows as JSON Lines and return their facts."""
    (folder / PATH).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data(folder, source)


KEYS = [
    *("text", "prompt", "chosen", "rejected", "label", "messages", "conversations"),
    *("instruction", "output", "role", "content", "from", "value", "history"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(row=JSON)
@settings(max_examples=200, deadline=None)
def test_any_row_is_checked(row: Any) -> None:
    """Whatever JSON a row is, it is good or has one reason not to be."""
    for source in SOURCES:
        assert not reason(source, row).endswith(".")


def reason(source: FileSource, row: Any) -> str:
    """Return what is wrong with a row; nothing else is ever raised."""
    try:
        check_row(source, row)
    except RowError as fault:
        return fault.message
    return ""


def test_columns_of_the_first_rows(tmp_path: Path) -> None:
    """Columns are those of the first rows together, in order; labels are counted."""
    rows: list[Any] = [
        {"instruction": "x", "output": "y", "label": True},
        {"output": "y", "instruction": "x", "label": 0, "images": []},
        {"instruction": "x", "output": "y", "label": "TRUE"},
    ]
    known = written(tmp_path, rows, JUDGED).columns
    assert known is not None
    assert known.names == ("instruction", "output", "label", "images")
    assert (known.num_good, known.num_bad) == (2, 1)


def test_columns_a_source_needs() -> None:
    """What must be there follows from the format and from the columns that are named."""
    assert named_columns(ALPACA) == {"instruction": "instruction", "output": "output"}
    assert named_columns(ALPACA, "prompts") == {"instruction": "instruction"}
    assert named_columns(PAIRS) == {"chosen": "chosen", "rejected": "rejected"}
    asked = PreferenceSource(format="preference", path=PATH, prompt="question")
    assert named_columns(asked)["prompt"] == "question"
    assert named_columns(COMPARED) == {
        "messages": "messages",
        "chosen": "chosen",
        "rejected": "rejected",
    }
    assert named_columns(JUDGED)["images"] == "images"


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("data/many", "folder"),
        ("data/many/*.jsonl", "glob"),
        ("data/**/a.jsonl", "glob"),
        ("data/x*.jsonl", "missing"),
        ("data/table.csv", "ok"),
        ("data/table.parquet", "unreadable"),
        ("rewards.py", "unknown-kind"),
        ("s3://bucket/rows.jsonl", "elsewhere"),
        ("data/\0*.jsonl", "missing"),
        ("[", "missing"),
        ("**", "folder"),
    ],
)
def test_where_data_are(path: str, state: str, tmp_path: Path) -> None:
    """Folders, patterns, tables and addresses are told apart; nothing raises."""
    tiny.write_kinds(tmp_path)
    (tmp_path / "**").mkdir()
    facts = read_data(tmp_path, MessagesSource(format="messages", path=path))
    assert facts.state == state
    if state in ("folder", "glob") and path != "**":
        assert "a.jsonl" in facts.files


def test_files_named_like_patterns(tmp_path: Path) -> None:
    """A file with a star in its name is that file."""
    (tmp_path / "a*.jsonl").write_text('{"text": "x"}\n')
    assert read_data(tmp_path, TextSource(format="text", path="a*.jsonl")).num_rows == 1


@pytest.mark.parametrize(
    "content", ["", "x", "[x]", "x = 1", "[x]\nformat = []", "[x]\nformat = 3", "\0", "x" * 10**6]
)
def test_any_catalog_is_a_fact(content: str, tmp_path: Path) -> None:
    """Whatever a catalog holds, an entry is found or there is a reason why not."""
    (tmp_path / "datasets.toml").write_text(content)
    facts = read_data(tmp_path, CatalogSource(format="catalog", entry="x"))
    assert facts.state == "elsewhere"
    assert facts.entry is not None
    assert facts.entry.problem


def test_a_pipe_as_catalog_does_not_hang(tmp_path: Path) -> None:
    """Catalogs, host files and reward functions are regular files."""
    os.mkfifo(tmp_path / "pipe")
    facts = read_data(tmp_path, CatalogSource(format="catalog", entry="x", catalog="pipe"))
    assert facts.entry is not None
    assert facts.entry.problem.startswith("the catalog `pipe` cannot be read: ")
    assert facts.entry.problem.endswith("not a regular file")
    assert read_function(tmp_path / "pipe").state == "unreadable"
    assert read_hosts(tmp_path, HostFile(type="hostfile", path="pipe")).state == "unreadable"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a slots=8\n\n# more\nb slots=2 # last\n", 0, ""),
        ("a slots=8\na slots=8\n", 2, "`a` is listed twice"),
        ("a\n", 1, "expected `name slots=N`"),
        ("a slots=\n", 1, "expected `name slots=N`"),
        ("a slots=0\n", 1, "`a` has 0 slots"),
        ("a slots=-1\n", 1, "expected `name slots=N`"),
        ("a slots=٣\n", 1, "expected `name slots=N`"),
        ("a b slots=1\n", 1, "expected `name slots=N`"),
        ("a slots=" + "9" * 5000, 1, "`a` has 999999 slots"),
    ],
)
def test_host_files(text: str, line: int, problem: str, tmp_path: Path) -> None:
    """A host file names each machine once with its slots; the first line that does not is told."""
    (tmp_path / "hosts").write_text(text)
    facts = read_hosts(tmp_path, HostFile(type="hostfile", path="hosts"))
    assert (facts.state, facts.bad_line, facts.problem) == ("ok", line, problem)
