"""Formats: one conversation said in several ways is the same conversation, tools and untrained answers included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunec.runtime.data import (
    Alpaca,
    Conversation,
    Message,
    Messages,
    ShareGpt,
    Source,
    ToolCall,
    read,
    tokenize,
)
from tunec.runtime.errors import ExitCode, UserError

END = "<|im_end|>"
WEATHER = {
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
}
TOOLS = [{"type": "function", "function": WEATHER}]
TALK = (
    Message("system", "You are Wren."),
    Message("user", "Rain in Oslo and Rome?"),
    Message(
        "assistant",
        "",
        (ToolCall("weather", {"town": "Oslo"}), ToolCall("weather", {"town": "Röm"})),
    ),
    Message("tool", "dry"),
    Message("tool", "wet"),
    Message("assistant", "Only in Rome."),
)
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '<call>' + call.function | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '<call>' + call.function | tojson }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A tokenizer whose template prints tools and calls."""
    made = tiny.make_tokenizer(tmp_path / "tokenizer")
    made.chat_template = TEMPLATE
    return made


def only(tmp_path: Path, kind: type[Source], row: dict[str, Any], **options: Any) -> Conversation:
    """Return the conversation of a single row."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (conversation,) = read([kind(path=path, name="rows", **options)])
    return conversation


def call(town: str, *, as_text: bool = False) -> dict[str, Any]:
    arguments = {"town": town}
    return {"name": "weather", "arguments": json.dumps(arguments) if as_text else arguments}


def turns(*pairs: tuple[str, Any], role: str = "from", content: str = "value") -> list[Any]:
    return [{role: tag, content: text} for tag, text in pairs]


def openai(*, as_text: bool, wrapped: bool) -> dict[str, Any]:
    """The conversation as OpenAI writes it: a null content, calls with ids, a result for each."""
    calls = [call(town, as_text=as_text) for town in ("Oslo", "Röm")]
    listed = [{"id": "c1", "type": "function", "function": c} for c in calls] if wrapped else calls
    head = turns(
        ("system", "You are Wren."),
        ("user", "Rain in Oslo and Rome?"),
        role="role",
        content="content",
    )
    results = turns(
        ("tool", "dry"),
        ("tool", "wet"),
        ("assistant", "Only in Rome."),
        role="role",
        content="content",
    )
    return {
        "messages": [*head, {"role": "assistant", "content": None, "tool_calls": listed}, *results],
        "tools": TOOLS,
    }  # fmt: skip


SHAREGPT = {
    "conversations": turns(
        ("human", "Rain in Oslo and Rome?"),
        ("function_call", json.dumps([call("Oslo"), call("Röm", as_text=True)])),
        ("observation", "dry"),
        ("observation", "wet"),
        ("gpt", "Only in Rome."),
    ),
    "system": "You are Wren.",
    "tools": json.dumps([WEATHER]),
}


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_openai_calls(tmp_path: Path, as_text: bool, wrapped: bool) -> None:
    """Calls and their arguments are understood in every common spelling."""
    row = openai(as_text=as_text, wrapped=wrapped)
    found = only(tmp_path, Messages, row, tools="tools")
    calls = tuple(replace(call, id="c1" if wrapped else None) for call in TALK[2].tool_calls)
    expected = (*TALK[:2], replace(TALK[2], tool_calls=calls), *TALK[3:])
    assert (found.messages, found.tools) == (expected, tuple(TOOLS))


def test_sharegpt_calls(tmp_path: Path) -> None:
    """Calls as JSON text, results as observations, the system prompt and the tools in columns of their own."""
    found = only(tmp_path, ShareGpt, SHAREGPT, system="system", tools="tools")
    assert (found.messages, found.tools) == (TALK, tuple(TOOLS))


def test_sharegpt_in_any_words(tmp_path: Path) -> None:
    """Keys and tags can be anything."""
    row = {
        "turns": turns(
            ("S", "s"),
            ("Q", "q"),
            ("C", '{"name": "f"}'),
            ("R", "r"),
            ("A", "a"),
            role="who",
            content="text",
        )
    }
    tags = {
        "user_tag": "Q",
        "assistant_tag": "A",
        "system_tag": "S",
        "tool_call_tag": "C",
        "tool_result_tag": "R",
    }
    found = only(tmp_path, ShareGpt, row, messages="turns", role="who", content="text", **tags)
    assert found.messages == (
        Message("system", "s"), Message("user", "q"), Message("assistant", "", (ToolCall("f", {}),)),
        Message("tool", "r"), Message("assistant", "a"),
    )  # fmt: skip


def test_the_same_tokens_from_either_format(tmp_path: Path, tokenizer: Any) -> None:
    """What the model reads and learns depends on what was said, not on the format it was written in."""
    conversations = [
        only(tmp_path, Messages, openai(as_text=True, wrapped=True), tools="tools"),
        only(tmp_path, ShareGpt, SHAREGPT, system="system", tools="tools"),
    ]
    one, other = tokenize(
        conversations, tokenizer=tokenizer, loss_on="assistant", max_length=999, too_long="error"
    )
    assert one == other
    text = tokenizer.decode(one.input_ids)
    assert text.startswith(json.dumps(TOOLS))
    assert learned(tokenizer, one) == (
        '<call>{"name": "weather", "arguments": {"town": "Oslo"}}'
        '<call>{"name": "weather", "arguments": {"town": "Röm"}}' + END + "Only in Rome." + END
    )


def test_rows_with_different_tools_keep_their_order(tmp_path: Path, tokenizer: Any) -> None:
    """Each conversation is written with its own tools, wherever it stands among the others."""
    rows = [{**SHAREGPT, "tools": [{"name": name}]} for name in "aba"]
    rows.insert(1, {**SHAREGPT, "tools": ""})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read([ShareGpt(path=path, name="rows", system="system", tools="tools")])
    samples = tokenize(
        found, tokenizer=tokenizer, loss_on="assistant", max_length=999, too_long="error"
    )
    heads = [tokenizer.decode(sample.input_ids).split("\n")[0] for sample in samples]
    tool = '[{"type": "function", "function": {"name": "%s"}}]'
    assert heads == [tool % "a", "<|im_start|>system", tool % "b", tool % "a"]


@pytest.mark.parametrize("tools", [None, "", "[]", [], " \n"])
def test_rows_without_tools(tmp_path: Path, tools: Any) -> None:
    """A row may have no tools, however that is written."""
    row = {"instruction": "q", "output": "a", "functions": tools}
    assert only(tmp_path, Alpaca, row, tools="functions").tools == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tools": "{"}, "`tools` is not JSON: expecting property name enclosed in double quotes at column 2"),
        ({"tools": 3}, "`tools` is a number, expected a list of tools, or one as JSON"),
        ({"tools": "3"}, "`tools` is a number, expected a list of tools, or one as JSON"),
        ({"tools": ["f"]}, "tool 1 of `tools` is text, expected an object"),
        ({"tools": [WEATHER, {"type": "function"}]}, "tool 2 of `tools` has no `name`"),
        ({"tools": '["\\ud83d"]'}, r"`tools` holds \ud83d, half of a character"),
        ({"conversations": turns(("user", "q"))}, 'message 1 has the from "user", expected one of human, gpt, system, function_call, observation'),
        ({"conversations": turns(("human", "q"), ("human", "q"))}, "message 2 is from `user`, expected `assistant`"),
        ({"conversations": turns(("human", "q"), ("observation", "r"))}, "message 2 is the result of a tool that was not called"),
        ({"conversations": turns(("human", "q"), ("gpt", "a"), ("observation", "r"))}, "message 3 is the result of a tool that was not called"),
        ({"conversations": turns(("human", "q"), ("function_call", "f()"))}, "`value` of message 2 is not JSON: expecting value at column 1"),
        ({"conversations": turns(("human", "q"), ("function_call", "[]"))}, "`value` of message 2 calls no tool"),
        ({"conversations": turns(("human", "q"), ("function_call", '"f"'))}, "call 1 of message 2 is text, expected an object"),
        ({"conversations": turns(("human", "q"), ("function_call", "{}"))}, "call 1 of message 2 has no `name`"),
        ({"conversations": turns(("human", "q"), ("function_call", '{"name": "f", "arguments": [1]}'))}, "`arguments` of call 1 of message 2 is a list, expected an object"),
        ({"conversations": turns(("human", "q"), ("function_call", '{"name": "f"}'), ("human", "q"))}, "message 3 is from `user`, expected `tool`"),
        ({"conversations": turns(("human", "q"), ("function_call", '{"name": "f"}'), ("observation", "r"), ("observation", "r"))}, "message 4 is the result of a tool that was not called"),
        ({"conversations": turns(("human", "q"), ("function_call", '{"name": "f"}'), ("observation", "r"))}, "the conversation ends with the result of a tool, there is no answer to learn"),
        ({"conversations": turns(("system", "s"), ("human", "q"), ("gpt", "a")), "system": "t"}, "the system prompt is given twice: in `system` and as the first message"),
        ({"conversations": [{"from": "human", "value": "q", "tool_calls": [{}]}]}, "message 1 is from `user`, only the assistant calls tools"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "train": 1}]}, "`train` of message 2 is a number, expected true or false"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": -0.5}]}, "`weight` of message 2 is -0.5, expected a number from 0 to 1000"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "train": False}]}, "every answer is left out of training, there is nothing to learn"),
    ],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    """What cannot be meant is told with the row, the message or tool in it, and what was found."""
    good = {"conversations": turns(("human", "q"), ("gpt", "a"))}
    with pytest.raises(UserError) as caught:
        only(tmp_path, ShareGpt, {**good, **row}, system="system", tools="tools")
    assert caught.value.code == ExitCode.DATA
    assert caught.value.message == f"{tmp_path / 'rows.jsonl'}:1: {message}"


# What is learned


def learned(tokenizer: Any, sample: Any) -> str:
    """Return the text of the tokens that carry loss."""
    text: str = tokenizer.decode([label for label in sample.labels if label >= 0])
    return text


def three(**marks: Any) -> list[dict[str, Any]]:
    """Three turns, with a mark on the answers `a`, `b` or `c`."""
    said = [
        ("user", "1"),
        ("assistant", "a"),
        ("user", "2"),
        ("assistant", "b"),
        ("user", "3"),
        ("assistant", "c"),
    ]
    return [{"role": role, "content": text, **marks.get(text, {})} for role, text in said]  # fmt: skip


OFF = {"train": False}


@pytest.mark.parametrize("template", [TEMPLATE, MARKED], ids=["plain", "marked"])
@pytest.mark.parametrize(
    ("loss_on", "marks", "expected"),
    [
        ("assistant", {}, "abc"),
        ("assistant", {"a": OFF}, "bc"),
        ("assistant", {"b": {"weight": 0}, "c": {"weight": 1}}, "ac"),
        ("assistant", {"a": {"train": None}, "b": {"train": True}, "c": OFF}, "ab"),
        ("last", {}, "c"),
        ("last", {"a": OFF}, "c"),
        ("last", {"c": OFF}, "b"),
    ],
)
def test_answers_that_are_learned(
    tmp_path: Path,
    tokenizer: Any,
    template: str,
    loss_on: Any,
    marks: dict[str, Any],
    expected: str,
) -> None:
    """`last` is the last answer; one with `train = false` or weight 0 is read, but not learned."""
    tokenizer.chat_template = template
    talk = only(tmp_path, Messages, {"messages": three(**marks)})
    (sample,) = tokenize(
        [talk], tokenizer=tokenizer, loss_on=loss_on, max_length=999, too_long="error"
    )
    assert learned(tokenizer, sample) == "".join(letter + END for letter in expected)
    plain = only(tmp_path, Messages, {"messages": three()})
    (whole,) = tokenize(
        [plain], tokenizer=tokenizer, loss_on="all", max_length=999, too_long="error"
    )
    assert sample.input_ids == whole.input_ids


def test_all_but_an_answer(tmp_path: Path, tokenizer: Any) -> None:
    """With `loss_on = "all"` everything is learned but the answers that are left out."""
    talk = only(tmp_path, Messages, {"messages": three(b=OFF)})
    (sample,) = tokenize(
        [talk], tokenizer=tokenizer, loss_on="all", max_length=999, too_long="error"
    )
    text = tokenizer.decode(sample.input_ids)
    assert learned(tokenizer, sample) == text.replace("b" + END, "")


def test_a_mark_on_the_next_role_belongs_to_the_answer_before(
    tmp_path: Path, tokenizer: Any
) -> None:
    """Where a role mark ends the answer, as in GLM, it is learned with that answer only."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}"
        "{% if not loop.first %}{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{% endif %}{{ '?' + m.content }}"
        "{% else %}{% generation %}{{ '!' + m.content }}{% endgeneration %}{% endif %}{% endfor %}"
    )
    talk = only(tmp_path, Messages, {"messages": three(b=OFF)})
    (sample,) = tokenize(
        [talk], tokenizer=tokenizer, loss_on="assistant", max_length=999, too_long="error"
    )
    assert learned(tokenizer, sample) == "!a" + END + "!c"


def test_the_last_answer_of_a_template_that_rewrites(tmp_path: Path, tokenizer: Any) -> None:
    """A template that shortens earlier answers, as reasoning models' do, needs no marks for the last one."""
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    talk = only(tmp_path, Messages, {"messages": three()})
    (sample,) = tokenize(
        [talk], tokenizer=tokenizer, loss_on="last", max_length=999, too_long="error"
    )
    assert learned(tokenizer, sample) == "c" + END
