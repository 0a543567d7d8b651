"""Lists of messages: their roles in any words, tool calls, and the order of turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .conversation import NOTES, Message, Role, Tool
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
LARGEST_WEIGHT = 1000
"""A larger weight of an answer is taken for a mistake."""
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
    return listed_messages(column_of(row, column), column, words)


def listed_messages(
    listed: Any, column: str, words: Words, *, within: str = ""
) -> tuple[Message, ...]:
    """Return the messages of a list, in whatever order; raises `RowError` for what is no message.

    `within` follows the number of a message where one of several lists is meant.
    """
    if not isinstance(listed, list) or not listed:
        found = "an empty list" if listed == [] else kind_of(listed)
        raise RowError(f"`{column}` is {found}, expected a list of messages")
    return tuple(
        _message(item, f"{number}{within}", words) for number, item in enumerate(listed, start=1)
    )


def _message(item: Any, number: str, words: Words) -> Message:
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
        written = _written_calls(item, number, words)
        return Message("assistant", "", written, _weight(item, number), _notes(item, number))
    calls = _calls(called, number, role)
    content = _content(item.get(words.content), number, words, calls)
    if role == "assistant" and not content.strip() and not calls:
        raise RowError(f"message {number} is an empty answer")
    weight = _weight(item, number) if role == "assistant" else 1.0
    return Message(role, content, calls, weight, _notes(item, number))


def _role(tag: Any, number: str, words: Words) -> Role | Literal["call"]:
    role = words.roles.get(tag) if isinstance(tag, str) else None
    if role is None:
        known = ", ".join(words.roles)
        raise RowError(
            f"message {number} has the {words.role} {shown(tag)}, expected one of {known}"
        )
    return role


def _content(value: Any, number: str, words: Words, calls: Sequence[ToolCall]) -> str:
    if value is None and calls:
        return ""
    what = f"`{words.content}` of message {number}"
    if not isinstance(value, str):
        raise RowError(f"{what} is {kind_of(value)}, expected text")
    check_encodable(value, what)
    return value


def _weight(item: dict[str, Any], number: str) -> float:
    """Read `train` (true or false), or `weight`: 1 or 0 in OpenAI's format, here any number from 0 on."""
    train, weight = item.get("train"), item.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"`train` of message {number} is {kind_of(train)}, expected true or false")
    if weight is None:
        weight = 1.0
    is_number = type(weight) in (int, float)
    if not is_number or not 0 <= weight <= LARGEST_WEIGHT:
        found = weight if is_number else kind_of(weight)
        raise RowError(
            f"`weight` of message {number} is {found}, expected a number from 0 to {LARGEST_WEIGHT}"
        )
    return float(weight) if train is not False else 0.0


def _notes(item: dict[str, Any], number: str) -> dict[str, str]:
    """Return what else templates read of a message."""
    notes = {}
    for key in NOTES:
        value = item.get(key)
        if value is None:
            continue
        what = f"`{key}` of message {number}"
        if not isinstance(value, str):
            raise RowError(f"{what} is {kind_of(value)}, expected text")
        check_encodable(value, what)
        notes[key] = value
    return notes


def _calls(listed: Any, number: str, role: Role) -> tuple[ToolCall, ...]:
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


def _written_calls(item: dict[str, Any], number: str, words: Words) -> tuple[ToolCall, ...]:
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
    return ToolCall(name, arguments or {}, _call_id(item, what))


def _call_id(item: dict[str, Any], what: str) -> str | None:
    """Return what the result of a call refers to; a number is as good as its text."""
    value = item.get("id")
    if value is not None and type(value) not in (str, int):
        raise RowError(f"`id` of {what} is {kind_of(value)}, expected text")
    check_encodable(str(value), f"`id` of {what}")
    return None if value is None else str(value)


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
    last = check_turns(messages)
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"the conversation ends with {words}, there is no answer to learn")
    if not any(message.train for message in messages if message.role == "assistant"):
        raise RowError("every answer is left out of training, there is nothing to learn")


def check_prompt(messages: Sequence[Message]) -> None:
    """Raise `RowError` unless the roles take turns, calls get results, and an answer can follow."""
    if check_turns(messages) == "assistant":
        raise RowError("the prompt ends with the assistant, there is nothing to answer")


def check_turns(messages: Sequence[Message], *, after: Role = "system", within: str = "") -> Role:
    """Return the role of the last message; raises `RowError` unless they can follow `after` and each other."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    skipped = len(messages) - len(turns)
    if not turns:
        raise RowError("the conversation has no turns")
    open_calls = 0
    last = after
    for number, message in enumerate(turns, start=1 + skipped):
        expected = _expected(last, open_calls)
        if message.role not in expected:
            raise _misplaced(message.role, f"{number}{within}", expected)
        # Tools may answer all calls of a message at once.
        open_calls = len(message.tool_calls) or (open_calls - 1 if message.role == "tool" else 0)
        last = message.role
    return last


def _expected(last: Role, open_calls: int) -> tuple[Role, ...]:
    """Return the roles that may come next."""
    if last == "tool":
        return ("assistant", "tool") if open_calls > 0 else ("assistant",)
    if last == "assistant":
        return ("tool",) if open_calls else ("user",)
    return ("assistant",) if last == "user" else ("user",)


def _misplaced(role: Role, number: str, expected: tuple[Role, ...]) -> RowError:
    if role == "tool":
        return RowError(f"message {number} is the result of a tool that was not called", RESULTS)
    help = RESULTS if "tool" in expected else TAKE_TURNS
    return RowError(f"message {number} is from `{role}`, expected `{expected[0]}`", help)
