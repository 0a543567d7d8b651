"""Rows of every format: what is wrong with one is said by the compiler as the runtime says it, word for word."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler.facts.row_checks import check_row
from tunec.compiler.facts.rows import RowError
from tunec.compiler.facts.sample_kinds import FileSource, SampleKind, kind_of_rows
from tunec.compiler.spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from tunec.runtime import data as runtime
from tunec.runtime.data.values import RowError as RuntimeRowError

PATH = "rows.jsonl"
PAIR: dict[str, Any] = {"chosen": "chosen", "rejected": "rejected"}
ALPACA = AlpacaSource(format="alpaca", path=PATH)
MESSAGES = MessagesSource(format="messages", path=PATH)
SHAREGPT = ShareGptSource(format="sharegpt", path=PATH, system="system")
TEXT = TextSource(format="text", path=PATH)
PAIRS = PreferenceSource(format="preference", path=PATH, margin="margin")
PLAIN = PreferenceSource(format="preference", path=PATH)
PROMPT = PromptSource(format="prompt", path=PATH)
SOLVED = PromptSource(format="prompt", path=PATH, answer="answer")
RANKED = AlpacaSource(format="alpaca", path=PATH, **PAIR)
COMPARED = MessagesSource(format="messages", path=PATH, tools="tools", **PAIR)
SHARED = ShareGptSource(format="sharegpt", path=PATH, **PAIR)
JUDGED = AlpacaSource(format="alpaca", path=PATH, label="label")
RATED = MessagesSource(format="messages", path=PATH, label="label")

ASKED = [{"role": "user", "content": "q"}]
ANSWER = {"role": "assistant", "content": "a"}
OTHER = {"role": "assistant", "content": "b"}
TALK = [*ASKED, ANSWER]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
RESULT = {"role": "tool", "content": "r"}
PREFERENCE = {"prompt": "q", "chosen": "a", "rejected": "b"}
ALIKE = {"chosen": [*ASKED, ANSWER], "rejected": [*ASKED, OTHER]}
HUMAN = [{"from": "human", "value": "q"}]
GPT = {"from": "gpt", "value": "a"}

Case = tuple[FileSource, SampleKind | None, Any, str | None]
CASES: list[Case] = [
    # Text
    (TEXT, None, {"text": "x"}, None),
    (TEXT, None, {"text": " \n"}, "`text` is empty: there is nothing to learn"),
    (TEXT, None, {"text": 3}, "`text` is a number, expected text"),
    (TEXT, None, {"text": None}, "`text` is null, expected text"),
    (TEXT, None, {"text": "\ud83d"}, "`text` holds \\ud83d, half of a character"),
    (TEXT, None, {}, "the row has no column `text`"),
    # Preferences with a prompt
    (PLAIN, None, PREFERENCE, None),
    (PLAIN, None, {"prompt": ASKED, "chosen": ANSWER, "rejected": [OTHER]}, None),
    (PLAIN, None, {"prompt": [*ASKED, CALL, RESULT], "chosen": "a", "rejected": OTHER}, None),
    (PLAIN, None, {**PREFERENCE, "chosen": [CALL, RESULT, ANSWER]}, None),
    (PLAIN, None, {**PREFERENCE, "rejected": "a"}, "`chosen` and `rejected` are the same, there is nothing to prefer"),
    (PLAIN, None, {**PREFERENCE, "rejected": [ANSWER]}, "`chosen` and `rejected` are the same, there is nothing to prefer"),
    (PLAIN, None, {"prompt": "q", "chosen": "a"}, "the row has no column `rejected`"),
    (PLAIN, None, {**PREFERENCE, "chosen": ""}, "`chosen` is empty: there is no answer to learn"),
    (PLAIN, None, {**PREFERENCE, "chosen": [{**ANSWER, "content": ""}]}, "message 1 of `chosen` is an empty answer"),
    (PLAIN, None, {**PREFERENCE, "chosen": []}, "`chosen` is an empty list, expected text, a message or a list of messages"),
    (PLAIN, None, {**PREFERENCE, "chosen": None}, "`chosen` is null, expected text, a message or a list of messages"),
    (PLAIN, None, {**PREFERENCE, "chosen": ASKED}, "message 1 of `chosen` is from `user`, expected `assistant`"),
    (PLAIN, None, {**PREFERENCE, "chosen": [ANSWER, *ASKED]}, "`chosen` ends with the user, there is no answer to learn"),
    (PLAIN, None, {**PREFERENCE, "chosen": [CALL, RESULT]}, "`chosen` ends with the result of a tool, there is no answer to learn"),
    (PLAIN, None, {**PREFERENCE, "prompt": None}, "`prompt` is null, expected text or a list of messages"),
    (PLAIN, None, {**PREFERENCE, "prompt": []}, "`prompt` is an empty list, expected text or a list of messages"),
    (PLAIN, None, {**PREFERENCE, "prompt": " "}, "`prompt` is empty"),
    (PLAIN, None, {**PREFERENCE, "prompt": TALK}, "`prompt` ends with an answer, expected the user or the result of a tool"),
    (PLAIN, None, {**PREFERENCE, "prompt": [{"role": "system", "content": "s"}]}, "`prompt` has no question"),
    (PLAIN, None, {**PREFERENCE, "prompt": [*ASKED, *ASKED]}, "message 2 of `prompt` is from `user`, expected `assistant`"),
    (PLAIN, None, {**PREFERENCE, "prompt": [{"role": "bot", "content": "q"}]}, 'message 1 of `prompt` has the role "bot", expected one of system, user, assistant, tool'),
    # Whole conversations
    (PLAIN, None, ALIKE, None),
    (PLAIN, None, {"prompt": "q", **ALIKE}, None),
    (PLAIN, None, {"prompt": ASKED, **ALIKE}, None),
    (PLAIN, None, {"prompt": "x", **ALIKE}, "the answers are whole conversations that do not begin with `prompt`"),
    (PLAIN, None, {"chosen": "a", "rejected": "b"}, "`chosen` is text, but without a prompt both answers are whole conversations"),
    (PLAIN, None, {**ALIKE, "rejected": TALK}, "`chosen` and `rejected` are the same, there is nothing to prefer"),
    (PLAIN, None, {**ALIKE, "rejected": [{"role": "user", "content": "x"}, OTHER]}, "`chosen` and `rejected` do not begin alike: what they share is the prompt"),
    (PLAIN, None, {**ALIKE, "rejected": [*TALK, *ASKED, OTHER]}, "`chosen` and `rejected` part at message 3, which is not an answer in both"),
    (PLAIN, None, {**ALIKE, "rejected": ASKED}, "`rejected` ends with the user, there is no answer to learn"),
    # Margins
    *[(PAIRS, None, {**PREFERENCE, "margin": value}, None) for value in (1, 0.5, -2, " 0.25")],
    (PAIRS, None, PREFERENCE, "the row has no column `margin`"),
    (PAIRS, None, {**PREFERENCE, "margin": True}, "`margin` is a boolean, expected a number"),
    (PAIRS, None, {**PREFERENCE, "margin": "big"}, '`margin` is "big", expected a number'),
    (PAIRS, None, {**PREFERENCE, "margin": None}, "`margin` is null, expected a number"),
    (PAIRS, None, {**PREFERENCE, "margin": float("nan")}, "`margin` is not finite"),
    (PAIRS, None, {**PREFERENCE, "margin": "inf"}, "`margin` is not finite"),
    (PAIRS, None, {**PREFERENCE, "margin": 10**400}, "`margin` is a number, expected a number"),
    # Prompts
    (PROMPT, None, {"prompt": "q"}, None),
    (PROMPT, None, {"prompt": ASKED}, None),
    (PROMPT, None, {}, "the row has no column `prompt`"),
    (PROMPT, None, {"prompt": 3}, "`prompt` is a number, expected text or a list of messages"),
    *[(SOLVED, None, {"prompt": "q", "answer": value}, None) for value in ("7", 7, 0.5, False, [1], {"x": 1})],
    (SOLVED, None, {"prompt": "q"}, "the row has no column `answer`"),
    (SOLVED, None, {"prompt": "q", "answer": None}, "`answer` is null, expected a reference answer"),
    (SOLVED, None, {"prompt": "q", "answer": ["\ud83d"]}, "`answer` holds \\ud83d, half of a character"),
    (ALPACA, "prompts", {"instruction": "q"}, None),
    (ALPACA, "prompts", {"instruction": ""}, "`instruction` is empty"),
    (MESSAGES, "prompts", {"messages": TALK}, None),
    (MESSAGES, "prompts", {"messages": ASKED}, None),
    (MESSAGES, "prompts", {"messages": [ANSWER]}, "the conversation has no turns"),
    (MESSAGES, "prompts", {"messages": [*TALK, OTHER]}, "the prompt ends with the assistant, there is nothing to answer"),
    # Answers beside a conversation
    (RANKED, None, {"instruction": "q", "chosen": "a", "rejected": "b"}, None),
    (RANKED, None, {"instruction": "q", "output": None, "chosen": "a", "rejected": "b"}, None),
    (RANKED, "answers", {"instruction": "q", "output": "a"}, None),
    (RANKED, None, {"instruction": "q", "chosen": "a", "rejected": "a"}, "`chosen` and `rejected` are the same, there is nothing to prefer"),
    (COMPARED, None, {"messages": ASKED, "chosen": ANSWER, "rejected": "no"}, None),
    (COMPARED, None, {"messages": TALK, "chosen": ANSWER, "rejected": "no"}, None),
    (COMPARED, None, {"messages": ASKED, "chosen": ANSWER}, "the row has no column `rejected`"),
    (COMPARED, None, {"messages": [*ASKED, *ASKED], "chosen": "a", "rejected": "b"}, "message 2 is from `user`, expected `assistant`"),
    (COMPARED, None, {"messages": ASKED, "chosen": GPT, "rejected": "b"}, "message 1 of `chosen` has no `role`"),
    (COMPARED, None, {"messages": ASKED, "chosen": "a", "rejected": "b", "tools": "x"}, "`tools` is not JSON: expecting value at column 1"),
    (SHARED, None, {"conversations": HUMAN, "chosen": GPT, "rejected": "b"}, None),
    (SHARED, None, {"conversations": HUMAN, "chosen": {"from": "function_call", "value": '{"name": "f"}'}, "rejected": "b"}, None),
    # Labels
    *[(JUDGED, None, {"instruction": "q", "output": "a", "label": value}, None) for value in (True, False, 0, 1, 1.0, "true", "FALSE", " 1 ", "0")],
    (JUDGED, None, {"instruction": "q", "output": "a"}, "the row has no column `label`"),
    (JUDGED, None, {"instruction": "q", "output": "a", "label": None}, "`label` is null, expected true or false"),
    (JUDGED, None, {"instruction": "q", "output": "a", "label": "good"}, '`label` is "good", expected true or false'),
    (JUDGED, None, {"instruction": "q", "output": "a", "label": 2}, "`label` is 2, expected true or false"),
    (JUDGED, None, {"instruction": "q", "output": "a", "label": [True]}, "`label` is a list, expected true or false"),
    (JUDGED, "answers", {"instruction": "q", "output": "a", "label": "good"}, None),
    (RATED, None, {"messages": ASKED, "label": True}, "the conversation ends with the user, there is no answer to learn"),
]  # fmt: skip

CLASSES = {
    AlpacaSource: runtime.Alpaca,
    MessagesSource: runtime.Messages,
    ShareGptSource: runtime.ShareGpt,
    TextSource: runtime.Text,
    PreferenceSource: runtime.Preference,
    PromptSource: runtime.Prompts,
}


def said_here(source: FileSource, row: Any, kind: SampleKind | None) -> tuple[str, str] | None:
    """Return what the compiler says about a row; nothing else than a `RowError` is ever raised."""
    try:
        check_row(source, row, kind)
    except RowError as fault:
        return fault.message, fault.help
    return None


def said_there(source: FileSource, row: Any, kind: SampleKind | None) -> tuple[str, str] | None:
    """Return what the runtime says about a row."""
    cls = CLASSES[type(source)]
    fields = {name: getattr(source, name, None) for name in cls.__dataclass_fields__}
    reader: Any = cls(**{**fields, "path": Path(PATH), "name": "rows"})
    try:
        reader.item(row, "rows:1", kind or kind_of_rows(source))
    except RuntimeRowError as fault:
        return fault.message, fault.help
    return None


@pytest.mark.parametrize(("source", "kind", "row", "problem"), CASES)
def test_rows_of_every_format(
    source: FileSource, kind: SampleKind | None, row: Any, problem: str | None
) -> None:
    """Each fault is told in its own words, the same before the run and in it."""
    said = said_here(source, row, kind)
    assert (said and said[0]) == problem
    assert said_there(source, row, kind) == said


def test_a_row_is_an_object() -> None:
    """Anything else is said to be what it is."""
    assert said_here(TEXT, "x", None) == ("the row is text, expected an object", "")


# --- any row ---------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.floats()
    | st.sampled_from(["", " ", "x", "true", "0", "\ud83d", "[]", '{"name": "f"}', "<image>"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "arguments", "path"]), inner, max_size=2)
    ),
    max_leaves=4,
)
TAGS = ["user", "assistant", "system", "tool", "human", "gpt", "function_call", "observation"]


def messages_with(role: str, content: str) -> st.SearchStrategy[Any]:
    """Messages that are nearly right."""
    tidy = st.fixed_dictionaries({role: st.sampled_from(TAGS), content: st.just("x")})
    odd = st.fixed_dictionaries(
        {role: st.sampled_from(TAGS), content: VALUES},
        optional=dict.fromkeys(("tool_calls", "train", "weight", "name", "reasoning"), VALUES),
    )
    return tidy | odd


OPENAI = messages_with("role", "content")
WORDS = messages_with("from", "value")
SAID = VALUES | OPENAI | st.lists(OPENAI, max_size=4) | WORDS | st.just(TALK) | st.just(ASKED)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("prompt", "chosen", "rejected"), SAID),
        **dict.fromkeys(
            ("text", "label", "margin", "answer", "system", "tools", "history"), VALUES
        ),
        **dict.fromkeys(("instruction", "input", "output"), VALUES),
        "messages": st.just(TALK) | st.just(ASKED) | st.lists(OPENAI, max_size=4) | VALUES,
        "conversations": st.just([*HUMAN, GPT]) | st.lists(WORDS, max_size=4) | VALUES,
        **dict.fromkeys(("images", "videos"), VALUES),
    },
)
KINDS: list[tuple[FileSource, list[SampleKind]]] = [
    (TEXT, ["text"]),
    *[(source, ["pairs"]) for source in (PAIRS, PLAIN)],
    *[(source, ["prompts"]) for source in (PROMPT, SOLVED)],
    *[(source, ["answers", "prompts"]) for source in (ALPACA, MESSAGES, SHAREGPT)],
    *[(source, ["answers", "pairs", "prompts"]) for source in (RANKED, COMPARED, SHARED)],
    *[(source, ["answers", "labels", "prompts"]) for source in (JUDGED, RATED)],
]


@given(row=ROWS)
@settings(max_examples=600, deadline=None)
def test_both_readers_judge_any_row_alike(row: dict[str, Any]) -> None:
    """Whatever a row holds, both take it, or both refuse it with the same words; neither changes it."""
    before = copy.deepcopy(row)
    for source, kinds in KINDS:
        for kind in kinds:
            assert said_here(source, row, kind) == said_there(source, row, kind)
    assert repr(row) == repr(before)


SEEN = AlpacaSource(
    format="alpaca", path=PATH, images="images", videos="videos", audios="audios", **PAIR
)


@given(row=ROWS | VALUES)
@settings(max_examples=300, deadline=None)
def test_any_row_with_media(row: Any) -> None:
    """Columns of media are counted or refused, whatever they hold."""
    for kind in ("answers", "pairs", "prompts"):
        said = said_here(SEEN, row, kind)
        assert said is None or not said[0].endswith(".")


MARKED: list[tuple[dict[str, Any], str | None]] = [
    ({"images": "a.png", "instruction": "<image>?"}, None),
    ({"images": ["a.png", {"bytes": "x"}], "instruction": "<image><image>?"}, None),
    ({"videos": [["1.png", "2.png"]], "output": "<video>"}, None),
    ({"instruction": "?"}, None),
    ({"images": [], "videos": None, "audios": ""}, None),
    ({"instruction": "<image>?"}, "`images` holds 0 images, the texts hold 1 `<image>` mark"),
    ({"images": ["a", "b"], "input": "<image>"}, "`images` holds 2 images, the texts hold 1 `<image>` mark"),
    ({"audios": ["a"]}, "`audios` holds 1 audio, the texts hold 0 `<audio>` marks"),
    ({"images": 3}, "`images` is a number, expected a path or a list of paths"),
    ({"images": {}}, "`images` is an object, expected a path or a list of paths"),
    ({"images": ["a", 3]}, "image 2 of `images` is a number, expected a path"),
    ({"images": [["a"]]}, "image 1 of `images` is a list, expected a path"),
    ({"videos": [["a", ""]]}, "video 1 of `videos` is empty, expected a path"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "problem"), MARKED)
def test_marks_and_files(row: dict[str, Any], problem: str | None) -> None:
    """There are as many marks in the texts as files in the column, and each of these is a path."""
    said = said_here(SEEN, {"instruction": "q", "output": "a", **row}, "answers")
    assert (said and said[0]) == problem


def test_marks_in_either_answer() -> None:
    """Prompt and rejected answer need their marks just as prompt and chosen one do."""
    row = {"instruction": "q", "images": "a", "chosen": "<image>", "rejected": "no"}
    said = said_here(SEEN, row, "pairs")
    assert said is not None
    assert said[0] == ("`images` holds 1 image, the texts with `rejected` hold 0 `<image>` marks")
    assert said_here(SEEN, {**row, "rejected": "<image>!"}, "pairs") is None


def test_rows_come_from_json() -> None:
    """The cases above are what a file can hold."""
    for _, _, row, _ in CASES:
        assert repr(json.loads(json.dumps(row))) == repr(row)
