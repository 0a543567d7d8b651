"""Lists of messages: the same checks, in the same words, as the reader of the runtime (a test compares the two)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from ..spec import ShareGptSource
from .rows import (
    RowError,
    check_encodable,
    column_of,
    json_fault,
    kind_of,
    names_of,
    shown,
)

TAKE_TURNS = "after an optional system message, user and assistant take turns"
RESULTS = "a tool's results follow the message that calls it, then the assistant goes on"
LARGEST_WEIGHT = 1000
"""A larger weight of an answer is taken for a mistake."""
NOTES = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Keys of a message that templates read beside its content."""
CALL_FORM = 'a call is written {"name": "...", "arguments": {...}}'
OPENAI = {role: role for role in ("system", "user", "assistant", "tool")}
"""The roles of OpenAI's format."""


@frozen
class Words:
    """The keys of a message, and what its roles are called: tag to role; `call` is a call of tools as JSON."""

    role: str
    content: str
    roles: Mapping[str, str]


OPENAI_WORDS = Words("role", "content", OPENAI)


@frozen
class Turn:
    """A message: what it says, and whom it comes from."""

    role: str
    content: str = ""
    calls: tuple[Any, ...] = ()
    """Calls of tools: name, arguments and id of each."""
    weight: float = 1.0
    """How much the loss of an answer counts."""
    notes: Mapping[str, str] = field(factory=dict)
    """What else templates read of it."""


def sharegpt_words(source: ShareGptSource) -> Words:
    """Return how a source in ShareGPT's words calls its roles."""
    roles = {
        source.user_tag: "user",
        source.assistant_tag: "assistant",
        source.system_tag: "system",
        source.tool_call_tag: "call",
        source.tool_result_tag: "tool",
    }
    return Words(source.role, source.content, roles)


def turns_of(row: dict[str, Any], column: str, words: Words) -> list[Turn]:
    """Return the messages of a row, in whatever order; raises `RowError` for what is no message."""
    return listed_turns(column_of(row, column), column, words)


def listed_turns(listed: Any, column: str, words: Words, within: str = "") -> list[Turn]:
    """Return the messages of a list, in whatever order; raises `RowError` for what is no message.

    `within` follows the number of a message where one of several lists is meant.
    """
    if not isinstance(listed, list) or not listed:
        found = "an empty list" if listed == [] else kind_of(listed)
        raise RowError(f"`{column}` is {found}, expected a list of messages")
    return [_turn(item, f"{number}{within}", words) for number, item in enumerate(listed, start=1)]


def _turn(item: Any, number: str, words: Words) -> Turn:
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
        return Turn("assistant", "", written, _weight(item, number), _notes(item, number))
    calls = _calls(called, number, role)
    content = item.get(words.content)
    if content is None and calls:
        content = ""
    what = f"`{words.content}` of message {number}"
    if not isinstance(content, str):
        raise RowError(f"{what} is {kind_of(content)}, expected text")
    check_encodable(content, what)
    if role == "assistant" and not content.strip() and not calls:
        raise RowError(f"message {number} is an empty answer")
    weight = _weight(item, number) if role == "assistant" else 1.0
    return Turn(role, content, calls, weight, _notes(item, number))


def _role(tag: Any, number: str, words: Words) -> str:
    role = words.roles.get(tag) if isinstance(tag, str) else None
    if role is None:
        known = ", ".join(words.roles)
        raise RowError(
            f"message {number} has the {words.role} {shown(tag)}, expected one of {known}"
        )
    return role


def _weight(item: dict[str, Any], number: str) -> float:
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


def _calls(listed: Any, number: str, role: str) -> tuple[Any, ...]:
    if not listed:
        return ()
    if role != "assistant":
        raise RowError(f"message {number} is from `{role}`, only the assistant calls tools")
    if not isinstance(listed, list):
        raise RowError(f"`tool_calls` of message {number} is {kind_of(listed)}, expected a list")
    return tuple(
        _call(item, f"call {index} of message {number}")
        for index, item in enumerate(listed, start=1)
    )


def _written_calls(item: dict[str, Any], number: str, words: Words) -> tuple[Any, ...]:
    what = f"`{words.content}` of message {number}"
    text = item[words.content]
    if not isinstance(text, str):
        raise RowError(f"{what} is {kind_of(text)}, expected text")
    value = _json_of(text, what)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RowError(f"{what} calls no tool", CALL_FORM)
    return tuple(
        _call(call, f"call {index} of message {number}")
        for index, call in enumerate(listed, start=1)
    )


def _call(item: Any, what: str) -> tuple[Any, ...]:
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
    check_characters(arguments, f"`arguments` of {what}")
    return name, arguments or {}, _call_id(item.get("id"), f"`id` of {what}")


def _call_id(value: Any, what: str) -> str | None:
    if value is not None and type(value) not in (str, int):
        raise RowError(f"{what} is {kind_of(value)}, expected text")
    check_encodable(str(value), what)
    return None if value is None else str(value)


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
    check_characters(item, what)


def _json_of(text: str, what: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise RowError(f"{what} is {json_fault(fault)}") from None
    check_characters(value, what)
    return value


def check_characters(value: Any, what: str) -> None:
    """Raise `RowError` unless a value can be written as JSON that a tokenizer takes."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RowError(f"{what} holds a value that cannot be written as JSON") from None
    check_encodable(text, what)


def check_order(messages: Sequence[Turn]) -> None:
    """Raise `RowError` unless the roles take turns, calls get results, and an answer closes the conversation."""
    last = check_turns(messages)
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"the conversation ends with {words}, there is no answer to learn")
    if not any(turn.weight > 0 for turn in messages if turn.role == "assistant"):
        raise RowError("every answer is left out of training, there is nothing to learn")


def check_prompt(messages: Sequence[Turn]) -> None:
    """Raise `RowError` unless the roles take turns, calls get results, and an answer can follow."""
    if check_turns(messages) == "assistant":
        raise RowError("the prompt ends with the assistant, there is nothing to answer")


def check_turns(messages: Sequence[Turn], after: str = "system", within: str = "") -> str:
    """Return the role of the last message; raises `RowError` unless they can follow `after` and each other."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    skipped = len(messages) - len(turns)
    if not turns:
        raise RowError("the conversation has no turns")
    open_calls, last = 0, after
    for number, turn in enumerate(turns, start=1 + skipped):
        expected = _expected(last, open_calls)
        if turn.role not in expected:
            raise _misplaced(turn.role, f"{number}{within}", expected)
        open_calls = len(turn.calls) or (open_calls - 1 if turn.role == "tool" else 0)
        last = turn.role
    return last


def _expected(last: str, open_calls: int) -> tuple[str, ...]:
    if last == "tool":
        return ("assistant", "tool") if open_calls > 0 else ("assistant",)
    if last == "assistant":
        return ("tool",) if open_calls else ("user",)
    return ("assistant",) if last == "user" else ("user",)


def _misplaced(role: str, number: str, expected: tuple[str, ...]) -> RowError:
    if role == "tool":
        return RowError(f"message {number} is the result of a tool that was not called", RESULTS)
    help = RESULTS if "tool" in expected else TAKE_TURNS
    return RowError(f"message {number} is from `{role}`, expected `{expected[0]}`", help)
