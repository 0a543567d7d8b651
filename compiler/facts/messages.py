"""Lists of messages: the same checks, in the same words, as the reader of the runtime (a test compares the two)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from ..spec import MessagesSource, ShareGptSource
from .rows import (
    RowError,
    check_encodable,
    column_of,
    json_fault,
    kind_of,
    names_of,
    optional_text,
    shown,
)

TAKE_TURNS = "after an optional system message, user and assistant take turns"
RESULTS = "a tool's results follow the message that calls it, then the assistant goes on"
CALL_FORM = 'a call is written {"name": "...", "arguments": {...}}'
OPENAI = {role: role for role in ("system", "user", "assistant", "tool")}
"""The roles of OpenAI's format."""


@frozen
class Words:
    """The keys of a message, and what its roles are called: tag to role; `call` is a call of tools as JSON."""

    role: str
    content: str
    roles: Mapping[str, str]


@frozen
class Turn:
    """What the order of turns depends on."""

    role: str
    num_calls: int = 0
    train: bool = True


def check_messages(source: MessagesSource, row: dict[str, Any]) -> None:
    """Raise `RowError` unless the row is a conversation that ends with an answer."""
    words = Words(source.role, source.content, OPENAI)
    _check_order(_turns(row, source.messages, words))
    check_tools(row, source.tools)


def check_sharegpt(source: ShareGptSource, row: dict[str, Any]) -> None:
    """Raise `RowError` unless the row is a conversation that ends with an answer."""
    roles = {
        source.user_tag: "user",
        source.assistant_tag: "assistant",
        source.system_tag: "system",
        source.tool_call_tag: "call",
        source.tool_result_tag: "tool",
    }
    turns = _turns(row, source.messages, Words(source.role, source.content, roles))
    given = source.system is not None and optional_text(row, source.system)
    if given and turns[0].role == "system":
        raise RowError(
            f"the system prompt is given twice: in `{source.system}` and as the first message"
        )
    _check_order(turns)
    check_tools(row, source.tools)


def _turns(row: dict[str, Any], column: str, words: Words) -> list[Turn]:
    listed = column_of(row, column)
    if not isinstance(listed, list) or not listed:
        found = "an empty list" if listed == [] else kind_of(listed)
        raise RowError(f"`{column}` is {found}, expected a list of messages")
    return [_turn(item, number, words) for number, item in enumerate(listed, start=1)]


def _turn(item: Any, number: int, words: Words) -> Turn:
    if not isinstance(item, dict):
        raise RowError(f"message {number} is {kind_of(item)}, expected an object")
    called = item.get("tool_calls")
    for key in (words.role, words.content):
        if key not in item and not (key == words.content and called):
            raise RowError(
                f"message {number} has no `{key}`", f"keys of this message: {names_of(item)}"
            )
    role = _role(item[words.role], number, words)
    if role == "call":
        return Turn("assistant", _check_written(item, number, words), _train(item, number))
    num_calls = _check_calls(called, number, role)
    content = item.get(words.content)
    if content is None and num_calls:
        content = ""
    what = f"`{words.content}` of message {number}"
    if not isinstance(content, str):
        raise RowError(f"{what} is {kind_of(content)}, expected text")
    check_encodable(content, what)
    if role == "assistant" and not content.strip() and not num_calls:
        raise RowError(f"message {number} is an empty answer")
    return Turn(role, num_calls, role != "assistant" or _train(item, number))


def _role(tag: Any, number: int, words: Words) -> str:
    role = words.roles.get(tag) if isinstance(tag, str) else None
    if role is None:
        known = ", ".join(words.roles)
        raise RowError(
            f"message {number} has the {words.role} {shown(tag)}, expected one of {known}"
        )
    return role


def _train(item: dict[str, Any], number: int) -> bool:
    train, weight = item.get("train"), item.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"`train` of message {number} is {kind_of(train)}, expected true or false")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        found = weight if type(weight) in (int, float) else kind_of(weight)
        raise RowError(f"`weight` of message {number} is {found}, expected 0 or 1")
    return train is not False and weight != 0


def _check_calls(listed: Any, number: int, role: str) -> int:
    if not listed:
        return 0
    if role != "assistant":
        raise RowError(f"message {number} is from `{role}`, only the assistant calls tools")
    if not isinstance(listed, list):
        raise RowError(f"`tool_calls` of message {number} is {kind_of(listed)}, expected a list")
    for index, item in enumerate(listed, start=1):
        _check_call(item, f"call {index} of message {number}")
    return len(listed)


def _check_written(item: dict[str, Any], number: int, words: Words) -> int:
    what = f"`{words.content}` of message {number}"
    text = item[words.content]
    if not isinstance(text, str):
        raise RowError(f"{what} is {kind_of(text)}, expected text")
    value = _json_of(text, what)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RowError(f"{what} calls no tool", CALL_FORM)
    for index, call in enumerate(listed, start=1):
        _check_call(call, f"call {index} of message {number}")
    return len(listed)


def _check_call(item: Any, what: str) -> None:
    function = item.get("function") or item if isinstance(item, dict) else item
    if not isinstance(function, dict):
        raise RowError(f"{what} is {kind_of(function)}, expected an object", CALL_FORM)
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise RowError(f"{what} has no `name`", CALL_FORM)
    check_encodable(name, f"`name` of {what}")
    if isinstance(arguments, str):
        arguments = _json_of(arguments or "{}", f"`arguments` of {what}")
    if not isinstance(arguments, dict | None):
        raise RowError(f"`arguments` of {what} is {kind_of(arguments)}, expected an object")
    _check_characters(arguments, f"`arguments` of {what}")


def check_tools(row: dict[str, Any], column: str | None) -> None:
    """Raise `RowError` unless the tools of a row are a list, or a text that holds one as JSON, or absent."""
    value = row.get(column) if column is not None else None
    what = f"`{column}`"
    if isinstance(value, str):
        value = _json_of(value, what) if value.strip() else None
    if value is None:
        return
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise RowError(f"{what} is {kind_of(value)}, expected a list of tools, or one as JSON")
    for number, item in enumerate(listed, start=1):
        _check_tool(item, f"tool {number} of {what}")


def _check_tool(item: Any, what: str) -> None:
    if not isinstance(item, dict):
        raise RowError(f"{what} is {kind_of(item)}, expected an object")
    function = item.get("function")
    if not isinstance((function if isinstance(function, dict) else item).get("name"), str):
        raise RowError(f"{what} has no `name`", f"keys of this tool: {names_of(item)}")
    _check_characters(item, what)


def _json_of(text: str, what: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise RowError(f"{what} is {json_fault(fault)}") from None
    _check_characters(value, what)
    return value


def _check_characters(value: Any, what: str) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RowError(f"{what} holds a value that cannot be written as JSON") from None
    check_encodable(text, what)


def _check_order(messages: Sequence[Turn]) -> None:
    turns = messages[1:] if messages[0].role == "system" else messages
    skipped = len(messages) - len(turns)
    if not turns:
        raise RowError("the conversation has no turns")
    open_calls, last = 0, "system"
    for number, turn in enumerate(turns, start=1 + skipped):
        expected = _expected(last, open_calls)
        if turn.role not in expected:
            raise _misplaced(turn.role, number, expected)
        open_calls = turn.num_calls or (open_calls - 1 if turn.role == "tool" else 0)
        last = turn.role
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"the conversation ends with {words}, there is no answer to learn")
    if not any(turn.train for turn in messages if turn.role == "assistant"):
        raise RowError("every answer is left out of training, there is nothing to learn")


def _expected(last: str, open_calls: int) -> tuple[str, ...]:
    if last == "tool":
        return ("assistant", "tool") if open_calls > 0 else ("assistant",)
    if last == "assistant":
        return ("tool",) if open_calls else ("user",)
    return ("assistant",) if last == "user" else ("user",)


def _misplaced(role: str, number: int, expected: tuple[str, ...]) -> RowError:
    if role == "tool":
        return RowError(f"message {number} is the result of a tool that was not called", RESULTS)
    help = RESULTS if "tool" in expected else TAKE_TURNS
    return RowError(f"message {number} is from `{role}`, expected `{expected[0]}`", help)
