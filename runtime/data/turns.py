"""Lists of messages: their roles in any words, tool calls, and the order of turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .conversation import Message, Role, Tool
from .tool_calls import ToolCall
from .values import (
    RowError,
    check_characters,
    check_encodable,
    column_of,
    json_of,
    kind_of,
    names_of,
    shown,
)

TAKE_TURNS = "after an optional system message, user and assistant take turns"
RESULTS = "a tool's results follow the message that calls it, then the assistant goes on"
CALL_FORM = 'a call is written {"name": "...", "arguments": {...}}'


@dataclass(frozen=True)
class Words:
    """The keys of a message, and what its roles are called."""

    role: str
    content: str
    roles: Mapping[str, Role | Literal["call"]]
    """Tag -> role; `call` is the assistant whose text is the call of a tool, as JSON."""


OPENAI: dict[str, Role | Literal["call"]] = {role: role for role in get_args(Role)}
"""The roles of OpenAI's format."""


def messages_of(row: dict[str, Any], column: str, words: Words) -> tuple[Message, ...]:
    """Return the messages of a row, in whatever order; raises `RowError` for what is no message."""
    listed = column_of(row, column)
    if not isinstance(listed, list) or not listed:
        found = "an empty list" if listed == [] else kind_of(listed)
        raise RowError(f"`{column}` is {found}, expected a list of messages")
    return tuple(_message(item, number, words) for number, item in enumerate(listed, start=1))


def _message(item: Any, number: int, words: Words) -> Message:
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
        return Message("assistant", "", _written_calls(item, number, words), _train(item, number))
    calls = _calls(called, number, role)
    content = _content(item.get(words.content), number, words, calls)
    if role == "assistant" and not content.strip() and not calls:
        raise RowError(f"message {number} is an empty answer")
    return Message(role, content, calls, role != "assistant" or _train(item, number))


def _role(tag: Any, number: int, words: Words) -> Role | Literal["call"]:
    role = words.roles.get(tag) if isinstance(tag, str) else None
    if role is None:
        known = ", ".join(words.roles)
        raise RowError(
            f"message {number} has the {words.role} {shown(tag)}, expected one of {known}"
        )
    return role


def _content(value: Any, number: int, words: Words, calls: Sequence[ToolCall]) -> str:
    if value is None and calls:
        return ""
    what = f"`{words.content}` of message {number}"
    if not isinstance(value, str):
        raise RowError(f"{what} is {kind_of(value)}, expected text")
    check_encodable(value, what)
    return value


def _train(item: dict[str, Any], number: int) -> bool:
    """Read `train` (true or false), or `weight` (1 or 0) as OpenAI's format has it."""
    train, weight = item.get("train"), item.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"`train` of message {number} is {kind_of(train)}, expected true or false")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        found = weight if type(weight) in (int, float) else kind_of(weight)
        raise RowError(f"`weight` of message {number} is {found}, expected 0 or 1")
    return train is not False and weight != 0


def _calls(listed: Any, number: int, role: Role) -> tuple[ToolCall, ...]:
    if not listed:
        return ()
    if role != "assistant":
        raise RowError(f"message {number} is from `{role}`, only the assistant calls tools")
    if not isinstance(listed, list):
        raise RowError(f"`tool_calls` of message {number} is {kind_of(listed)}, expected a list")
    return tuple(
        call_of(item, f"call {index} of message {number}")
        for index, item in enumerate(listed, start=1)
    )


def _written_calls(item: dict[str, Any], number: int, words: Words) -> tuple[ToolCall, ...]:
    what = f"`{words.content}` of message {number}"
    text = item[words.content]
    if not isinstance(text, str):
        raise RowError(f"{what} is {kind_of(text)}, expected text")
    value = json_of(text, what)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RowError(f"{what} calls no tool", CALL_FORM)
    return tuple(
        call_of(call, f"call {index} of message {number}")
        for index, call in enumerate(listed, start=1)
    )


def call_of(item: Any, what: str) -> ToolCall:
    """Return a tool call, with or without the `function` around it; raises `RowError`."""
    function = item.get("function") or item if isinstance(item, dict) else item
    if not isinstance(function, dict):
        raise RowError(f"{what} is {kind_of(function)}, expected an object", CALL_FORM)
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise RowError(f"{what} has no `name`", CALL_FORM)
    check_encodable(name, f"`name` of {what}")
    if isinstance(arguments, str):
        arguments = json_of(arguments or "{}", f"`arguments` of {what}")
    if not isinstance(arguments, dict | None):
        raise RowError(f"`arguments` of {what} is {kind_of(arguments)}, expected an object")
    check_characters(arguments, f"`arguments` of {what}")
    return ToolCall(name, arguments or {})


def tools_of(row: dict[str, Any], column: str | None) -> tuple[Tool, ...]:
    """Return the tools of a row: a list, or a text that holds one as JSON; none where it is empty."""
    value = row.get(column) if column is not None else None
    what = f"`{column}`"
    if isinstance(value, str):
        value = json_of(value, what) if value.strip() else None
    if value is None:
        return ()
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise RowError(f"{what} is {kind_of(value)}, expected a list of tools, or one as JSON")
    return tuple(
        _tool(item, f"tool {number} of {what}") for number, item in enumerate(listed, start=1)
    )


def _tool(item: Any, what: str) -> Tool:
    if not isinstance(item, dict):
        raise RowError(f"{what} is {kind_of(item)}, expected an object")
    function = item.get("function")
    if not isinstance((function if isinstance(function, dict) else item).get("name"), str):
        raise RowError(f"{what} has no `name`", f"keys of this tool: {names_of(item)}")
    check_characters(item, what)
    # Templates expect the function inside its wrapper, as OpenAI's interface has it.
    return item if isinstance(function, dict) else {"type": "function", "function": item}


def check_order(messages: Sequence[Message]) -> None:
    """Raise `RowError` unless the roles take turns, calls get results, and an answer closes the conversation."""
    turns = messages[1:] if messages[0].role == "system" else messages
    skipped = len(messages) - len(turns)
    if not turns:
        raise RowError("the conversation has no turns")
    open_calls = 0
    last: Role = "system"
    for number, message in enumerate(turns, start=1 + skipped):
        expected = _expected(last, open_calls)
        if message.role not in expected:
            raise _misplaced(message.role, number, expected)
        # Tools may answer all calls of a message at once.
        open_calls = len(message.tool_calls) or (open_calls - 1 if message.role == "tool" else 0)
        last = message.role
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"the conversation ends with {words}, there is no answer to learn")
    if not any(message.train for message in messages if message.role == "assistant"):
        raise RowError("every answer is left out of training, there is nothing to learn")


def _expected(last: Role, open_calls: int) -> tuple[Role, ...]:
    """Return the roles that may come next."""
    if last == "tool":
        return ("assistant", "tool") if open_calls > 0 else ("assistant",)
    if last == "assistant":
        return ("tool",) if open_calls else ("user",)
    return ("assistant",) if last == "user" else ("user",)


def _misplaced(role: Role, number: int, expected: tuple[Role, ...]) -> RowError:
    if role == "tool":
        return RowError(f"message {number} is the result of a tool that was not called", RESULTS)
    help = RESULTS if "tool" in expected else TAKE_TURNS
    return RowError(f"message {number} is from `{role}`, expected `{expected[0]}`", help)
