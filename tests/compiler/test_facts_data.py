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
from tunec.compiler.facts.columns import csv_columns, named_columns
from tunec.compiler.facts.data import DataFacts, read_data
from tunec.compiler.facts.named import read_function, read_hosts
from tunec.compiler.facts.row_checks import check_row
from tunec.compiler.facts.rows import FileSource, RowError, first_rows
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
WHOLE = PreferenceSource(format="preference", path=PATH, prompt=None)
PROMPT = PromptSource(format="prompt", path=PATH)
COMPARED = MessagesSource(format="messages", path=PATH, chosen="chosen", rejected="rejected")
JUDGED = AlpacaSource(format="alpaca", path=PATH, label="label", images="images")
SOURCES: list[FileSource] = [
    *(ALPACA, MESSAGES, SHAREGPT, TEXT, PAIRS, WHOLE, PROMPT, COMPARED, JUDGED),
]
TURN = {"role": "user", "content": "x"}


def written(folder: Path, rows: list[Any], source: FileSource) -> DataFacts:
    """Write rows as JSON Lines and return their facts."""
    (folder / PATH).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data(folder, source)


@pytest.mark.parametrize(
    ("source", "row", "problem"),
    [
        (TEXT, {"text": "x"}, None),
        (TEXT, {"text": " "}, "`text` is empty: there is nothing to learn"),
        (TEXT, {"text": 3}, "`text` is a number, expected text"),
        (TEXT, {}, "the row has no column `text`"),
        (TEXT, "x", "the row is text, expected an object"),
        (PAIRS, {"prompt": "x", "chosen": "y", "rejected": "z"}, None),
        (PAIRS, {"prompt": [TURN], "chosen": [TURN], "rejected": [TURN]}, None),
        (PAIRS, {"prompt": "x", "chosen": "y"}, "the row has no column `rejected`"),
        (
            PAIRS,
            {"prompt": "x", "chosen": "", "rejected": "z"},
            "`chosen` is empty, expected text or a list of messages",
        ),
        (
            PAIRS,
            {"prompt": "x", "chosen": [], "rejected": "z"},
            "`chosen` is empty, expected text or a list of messages",
        ),
        (
            PAIRS,
            {"prompt": None, "chosen": "y", "rejected": "z"},
            "`prompt` is null, expected text or a list of messages",
        ),
        (WHOLE, {"chosen": [TURN], "rejected": [TURN]}, None),
        (PROMPT, {"prompt": "x"}, None),
        (
            PROMPT,
            {"prompt": 3},
            "`prompt` is a number, expected text or a list of messages",
        ),
        (COMPARED, {"messages": [TURN], "chosen": TURN, "rejected": "no"}, None),
        (COMPARED, {"messages": [TURN], "chosen": TURN}, "the row has no column `rejected`"),
        (JUDGED, {"instruction": "x", "output": "y", "label": True}, None),
        (
            JUDGED,
            {"instruction": "x", "output": "y", "label": "good"},
            "`label` is text, expected true or false",
        ),
        (JUDGED, {"instruction": "x", "output": "y"}, "the row has no column `label`"),
        (
            SHAREGPT,
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
            None,
        ),
        (
            SHAREGPT,
            {"conversations": [{"from": "human", "value": "x"}]},
            "the conversation ends with the user, there is no answer to learn",
        ),
        (
            SHAREGPT,
            {"conversations": [{"from": "gpt", "value": 3}]},
            "`value` of message 1 is a number, expected text",
        ),
        (
            SHAREGPT,
            {"conversations": [{"from": "bot", "value": "x"}]},
            'message 1 has the from "bot", expected one of human, gpt, system, function_call, observation',
        ),
        (
            SHAREGPT,
            {"conversations": []},
            "`conversations` is an empty list, expected a list of messages",
        ),
    ],
)
def test_rows_of_every_format(
    source: FileSource, row: Any, problem: str | None, tmp_path: Path
) -> None:
    """Each format says what is wrong with a row in its own words; good rows are counted."""
    facts = written(tmp_path, [row], source)
    said = facts.bad_row.message if facts.bad_row else None
    assert (facts.state, said) == ("ok", problem)
    assert facts.num_rows == (1 if problem is None else None)


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
        {"output": "y", "instruction": "x", "label": False, "images": []},
        {"instruction": "x", "output": "y", "label": True},
    ]
    known = written(tmp_path, rows, JUDGED).columns
    assert known is not None
    assert known.names == ("instruction", "output", "label", "images")
    assert (known.num_good, known.num_bad) == (2, 1)


def test_columns_a_source_needs() -> None:
    """What must be there follows from the format and from the columns that are named."""
    assert named_columns(ALPACA) == {"instruction": "instruction", "output": "output"}
    assert named_columns(WHOLE) == {"chosen": "chosen", "rejected": "rejected"}
    assert named_columns(COMPARED) == {
        "messages": "messages",
        "chosen": "chosen",
        "rejected": "rejected",
    }
    assert named_columns(JUDGED)["images"] == "images"


@pytest.mark.parametrize("text", ["[\n]", "[", "{", "", "[{}", '{"a": 1}\n{', "[1, 2"])
def test_broken_files_have_the_rows_above_the_fault(text: str) -> None:
    """Columns are read from what can be read."""
    assert len(first_rows(text, 5)) <= 2


def test_csv_headers() -> None:
    """Of a CSV file the header is known, quoted names included; an empty file has none."""
    names = csv_columns('a, b,"c ""d""",\n1,2,3,4\n')
    assert names is not None
    assert names.names == ("a", "b", 'c "d"', "")
    assert csv_columns("") is None
    assert csv_columns('"' + "x" * 200_000) is None


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("data/many", "folder"),
        ("data/many/*.jsonl", "glob"),
        ("data/**/a.jsonl", "glob"),
        ("data/x*.jsonl", "missing"),
        ("data/table.csv", "unknown-kind"),
        ("data/table.parquet", "unknown-kind"),
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
