"""Reading data files: what a row means, and what is said about a row that means nothing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunec.runtime.data import Alpaca, Conversation, Messages, read
from tunec.runtime.errors import ExitCode, UserError

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
TAKE_TURNS = "after an optional system message, user and assistant take turns"


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def messages_of(path: Path, **options: Any) -> list[Conversation]:
    return read([Messages(path=path, name="chat", **options)])


def alpaca_of(path: Path, **options: Any) -> list[Conversation]:
    return read([Alpaca(path=path, name="facts", **options)])


def save(tmp_path: Path, content: Any, name: str = "data.jsonl") -> Path:
    path = tmp_path / name
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def fault(read_file: Any, path: Path, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        read_file(path, **options)
    assert caught.value.code == ExitCode.DATA
    assert "\n" not in caught.value.message
    return caught.value


# What rows mean


def test_alpaca_row_with_everything(tmp_path: Path) -> None:
    """System, history, instruction joined with input by a line break, and output become turns in that order."""
    row = {
        "system": "Be short.",
        "history": [["first?", "one"], ["second?", "two"]],
        "instruction": "Add.",
        "input": "1 + 1",
        "output": "2",
    }
    (conversation,) = alpaca_of(save(tmp_path, [row], "data.json"))
    assert turns(conversation) == [
        ("system", "Be short."),
        ("user", "first?"),
        ("assistant", "one"),
        ("user", "second?"),
        ("assistant", "two"),
        ("user", "Add.\n1 + 1"),
        ("assistant", "2"),
    ]
    assert (conversation.source, conversation.place) == ("facts", f"{tmp_path / 'data.json'}:1")


@pytest.mark.parametrize("empty", [{}, {"input": "", "system": "", "history": []}, {"input": None, "system": None, "history": None}])  # fmt: skip
def test_alpaca_optional_columns(tmp_path: Path, empty: dict[str, Any]) -> None:
    """Input, system and history may be absent, empty or null, with the same meaning."""
    (conversation,) = alpaca_of(save(tmp_path, {"instruction": "q", "output": "a", **empty}))
    assert turns(conversation) == [("user", "q"), ("assistant", "a")]


def test_alpaca_renamed_columns(tmp_path: Path) -> None:
    """Every column can have another name; one with the usual name is then an ordinary extra."""
    row = {"ask": "q", "context": "c", "reply": "a", "role": "s", "past": [["x", "y"]], "input": 3}
    (conversation,) = alpaca_of(
        save(tmp_path, row), instruction="ask", input="context", output="reply", system="role", history="past"
    )  # fmt: skip
    assert turns(conversation) == [
        ("system", "s"), ("user", "x"), ("assistant", "y"), ("user", "q\nc"), ("assistant", "a"),
    ]  # fmt: skip


def test_messages_rows(tmp_path: Path) -> None:
    """A list of role and content is taken as it is, its white space included; further keys are ignored."""
    row = {
        "id": 7,
        "messages": [
            {"role": "system", "content": " s "},
            {"role": "user", "content": "q\n", "name": "x"},
            {"role": "assistant", "content": "  a\n\n"},
        ],
    }
    (conversation,) = messages_of(save(tmp_path, row))
    assert turns(conversation) == [("system", " s "), ("user", "q\n"), ("assistant", "  a\n\n")]


def test_messages_renamed(tmp_path: Path) -> None:
    """The three keys can have other names."""
    row = {"chat": [{"who": "user", "text": "q"}, {"who": "assistant", "text": "a"}]}
    (conversation,) = messages_of(save(tmp_path, row), messages="chat", role="who", content="text")
    assert turns(conversation) == [("user", "q"), ("assistant", "a")]


def test_sources_in_order_with_limits(tmp_path: Path) -> None:
    """Sources follow one another, each gives its first `limit` rows, and rows beyond are not looked at."""
    chats = save(tmp_path, f"{GOOD}\n{GOOD}\nbroken", "a.jsonl")
    facts = save(tmp_path, [{"instruction": "i", "output": "o"}], "b.json")
    rows = read([Messages(path=chats, name="a", limit=2), Alpaca(path=facts, name="b", limit=9)])
    assert [(row.source, row.place) for row in rows] == [
        ("a", f"{chats}:1"), ("a", f"{chats}:2"), ("b", f"{facts}:1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), [1]),
        (f"{GOOD}\r\n\r\n{GOOD}\r\n".encode(), [1, 3]),
        (f"\n  \n{GOOD}\n\n{GOOD}", [3, 5]),
        (f"[\n{GOOD},\n\n {GOOD}\n]\n", [2, 4]),
        (b"\xef\xbb\xbf \r\n[" + GOOD.encode() + b",\r\n" + GOOD.encode() + b"]", [2, 3]),
    ],
    ids=["mark", "windows", "blank-lines", "array", "array-with-mark-windows"],
)
def test_layouts(tmp_path: Path, content: Any, lines: list[int]) -> None:
    """Byte-order marks, Windows line ends, blank lines and arrays are read, each row with its own line."""
    path = save(tmp_path, content)
    assert [row.place for row in messages_of(path)] == [f"{path}:{line}" for line in lines]


def test_line_separators_inside_text(tmp_path: Path) -> None:
    """Only a line feed ends a row: U+2028 and U+0085 inside a text stay in it."""
    row = {"instruction": "a\u2028b\x85c", "output": "d\x00e"}
    path = save(tmp_path, json.dumps(row, ensure_ascii=False).replace("\x00", "\\u0000"))
    assert turns(alpaca_of(path)[0]) == [("user", "a\u2028b\x85c"), ("assistant", "d\x00e")]


def test_pairs_of_surrogates(tmp_path: Path) -> None:
    """An emoji written as two JSON escapes is one character."""
    path = save(tmp_path, r'{"instruction": "\ud83d\ude00", "output": "ok"}')
    assert turns(alpaca_of(path)[0])[0] == ("user", "😀")


# What is said about rows that mean nothing


def row_of(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in pairs]})


@pytest.mark.parametrize(
    ("row", "message", "help"),
    [
        ("{", "not JSON: expecting property name enclosed in double quotes at column 2", None),
        ('{"a": 1} x', "not JSON: extra data at column 10", None),
        ('{"a": "\t"}', "not JSON: invalid control character at at column 8", None),
        ("[" * 100_000, "not usable JSON: nested too deeply", None),
        ("1" * 5000, "not usable JSON: a number with too many digits", None),
        ("3", "the row is a number, expected an object", ""),
        ("null", "the row is null, expected an object", ""),
        ('"text"', "the row is text, expected an object", ""),
        ("{}", "the row has no column `messages`", "columns of this row: none"),
        ('{"a": 1, "Messages": []}', "the row has no column `messages`", "columns of this row: `a`, `Messages`"),
        ('{"messages": null}', "`messages` is null, expected a list of messages", ""),
        ('{"messages": "hi"}', "`messages` is text, expected a list of messages", ""),
        ('{"messages": []}', "`messages` is an empty list, expected a list of messages", ""),
        ('{"messages": ["hi"]}', "message 1 is text, expected an object", ""),
        ('{"messages": [{"from": "human", "value": "q"}]}', "message 1 has no `role`", "keys of this message: `from`, `value`"),
        ('{"messages": [{"role": "user"}]}', "message 1 has no `content`", "keys of this message: `role`"),
        (row_of(("human", "q")), 'message 1 has the role "human", expected one of system, user, assistant, tool', ""),
        (row_of((None, "q")), "message 1 has the role null, expected one of system, user, assistant, tool", ""),
        (row_of(({}, "q")), "message 1 has the role an object, expected one of system, user, assistant, tool", ""),
        (row_of(("user", None)), "`content` of message 1 is null, expected text", ""),
        (row_of(("user", ["q"])), "`content` of message 1 is a list, expected text", ""),
        (row_of(("user", True)), "`content` of message 1 is a boolean, expected text", ""),
        (row_of(("user", "q"), ("assistant", " \n")), "message 2 is an empty answer", ""),
        (row_of(("system", "s")), "the conversation has no turns", ""),
        (row_of(("user", "q")), "the conversation ends with the user, there is no answer to learn", ""),
        (row_of(("assistant", "a")), "message 1 is from `assistant`, expected `user`", TAKE_TURNS),
        (row_of(("user", "q"), ("user", "q")), "message 2 is from `user`, expected `assistant`", TAKE_TURNS),
        (row_of(("system", "s"), ("user", "q"), ("system", "s")), "message 3 is from `system`, expected `assistant`", TAKE_TURNS),
        (row_of(("user", "q"), ("assistant", "\ud83d")), r"`content` of message 2 holds \ud83d, half of a character", ""),
    ],
)  # fmt: skip
def test_bad_messages_row(tmp_path: Path, row: str, message: str, help: str | None) -> None:
    """A bad row is told with its file, its line, what is wrong, and what is there instead."""
    path = save(tmp_path, f"{GOOD}\n\n{row}\n{GOOD}\n")
    error = fault(messages_of, path)
    assert error.message == f"{path}:3: {message}"
    assert help is None or error.help == help


@pytest.mark.parametrize(
    ("row", "message", "help"),
    [
        ({"instruction": "q", "answer": "a"}, "the row has no column `output`", "columns of this row: `instruction`, `answer`"),
        ({"output": "a"}, "the row has no column `instruction`", "columns of this row: `output`"),
        ({"instruction": None, "output": "a"}, "`instruction` is null, expected text", ""),
        ({"instruction": "q", "output": 3}, "`output` is a number, expected text", ""),
        ({"instruction": "q", "output": None}, "`output` is null, expected text", ""),
        ({"instruction": "q", "output": "  "}, "`output` is empty: there is no answer to learn", ""),
        ({"instruction": "", "input": " ", "output": "a"}, "`instruction` is empty", ""),
        ({"instruction": "q", "input": {}, "output": "a"}, "`input` is an object, expected text", ""),
        ({"instruction": "q", "output": "a", "system": 1}, "`system` is a number, expected text", ""),
        ({"instruction": "q", "output": "a", "history": "x"}, "`history` is not a list of [user, assistant] pairs of texts", ""),
        ({"instruction": "q", "output": "a", "history": [["x"]]}, "`history` is not a list of [user, assistant] pairs of texts", ""),
        ({"instruction": "q", "output": "a", "history": [["x", None]]}, "`history` is not a list of [user, assistant] pairs of texts", ""),
        ({"instruction": "q", "output": "a", "history": [["x", "y"], ["z", ""]]}, "pair 2 of `history` has an empty answer", ""),
        ({"instruction": "\udc00", "output": "a"}, r"`instruction` holds \udc00, half of a character", ""),
    ],
)  # fmt: skip
def test_bad_alpaca_row(tmp_path: Path, row: dict[str, Any], message: str, help: str) -> None:
    """A bad row in an array is placed by the line it begins in."""
    good = '{"instruction": "q", "output": "a"}'
    path = save(tmp_path, f"[\n{good},\n\n{json.dumps(row)}]", "data.json")
    error = fault(alpaca_of, path)
    assert (error.message, error.help) == (f"{path}:4: {message}", help)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (f"[{GOOD},\n{{]", 2, "not JSON: expecting property name enclosed in double quotes at column 2"),
        (f"[{GOOD}\n{GOOD}]", 2, "not JSON: expecting `,` or `]` at column 1"),
        (f"[{GOOD},\n]", 2, "not JSON: expecting value at column 1"),
        (f"[,\n{GOOD}]", 1, "not JSON: expecting value at column 2"),
        (f"[{GOOD}\n", 2, "not JSON: expecting `,` or `]` at column 1"),
        (f"[{GOOD}]\n\n{GOOD}", 3, "not JSON: there is text after the closing `]` at column 1"),
        ("[[" * 100_000, 1, "not usable JSON: nested too deeply"),
        (b"\xef\xbb\xbf" + GOOD.encode() + b"\n\xff", 2, "not UTF-8 text"),
        (GOOD.encode("utf-16"), 1, "not UTF-8 text"),
        (GOOD.encode() + b"\n\x00\n", 2, "not JSON: expecting value at column 1"),
    ],
)  # fmt: skip
def test_broken_file(tmp_path: Path, content: Any, line: int, message: str) -> None:
    """Whatever breaks the JSON or the text of a file is told with the line it stands in."""
    path = save(tmp_path, content)
    assert fault(messages_of, path).message == f"{path}:{line}: {message}"


@pytest.mark.parametrize("as_array", [False, True])
def test_a_row_of_a_whole_file(
    as_array: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that no process could tokenize is told with its size, and what to do with it."""
    monkeypatch.setattr(importlib.import_module("tunec.runtime.data.read"), "LARGEST_ROW", 999)
    row = json.dumps({"instruction": "a", "output": "b" * 1000})
    path = save(tmp_path, f"[\n{row}]" if as_array else f"\n{row}\n{GOOD}")
    error = fault(messages_of, path)
    size = 1001 if as_array else len(row)
    assert error.message == (
        f"{path}:2: the row has {size:,} characters, more than the 999 that a row may have"
    )
    assert error.help == "cut it into several rows"


@pytest.mark.parametrize("content", ["", " \n\n", "[]", "[ \n]", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, content: Any) -> None:
    """A source without rows is an error, however the nothing is written."""
    path = save(tmp_path, content)
    assert fault(messages_of, path).message == f"{path}: the data set is empty"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """A missing file and a folder in its place are named without `..` in the path."""
    (tmp_path / "runs").mkdir()
    error = fault(messages_of, tmp_path / "runs" / ".." / "none.jsonl")
    assert error.message == f"{tmp_path / 'none.jsonl'}: no such data file"
    assert fault(messages_of, tmp_path).message == f"{tmp_path}: the folder holds no data files"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.text(st.characters(), max_size=5) | st.just("a")
MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": TEXTS | JSON}
)  # fmt: skip
ROWS = (
    JSON
    | st.fixed_dictionaries({"messages": st.lists(MESSAGE | JSON, max_size=4) | JSON})
    | st.fixed_dictionaries(
        {}, optional={"instruction": TEXTS | JSON, "output": TEXTS | JSON, "history": JSON, "input": JSON}
    )
)  # fmt: skip


@given(row=ROWS, as_array=st.booleans())
def test_any_row(tmp_path_factory: pytest.TempPathFactory, row: Any, as_array: bool) -> None:
    """Whatever JSON a row is, it becomes a conversation that can be learned from or one error with its line."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    save(path.parent, f"[{json.dumps(row)}]" if as_array else json.dumps(row), path.name)
    for read_file in (messages_of, alpaca_of):
        outcome = attempt(read_file, path)
        if isinstance(outcome, UserError):
            assert outcome.message.startswith(f"{path}")
            assert outcome.text().encode()
        else:
            assert outcome.messages[-1].role == "assistant"
            assert outcome.messages[-1].content.strip().encode()


def attempt(read_file: Any, path: Path) -> Conversation | UserError:
    try:
        (conversation,) = read_file(path)
    except UserError as error:
        return error
    return conversation
