"""Conversations: what every data format is turned into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ExitCode, UserError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant in turn, the assistant last.

    `source` names the data source and `place` the file and line (`data/facts.jsonl:12`) for messages.
    """

    messages: tuple[Message, ...]
    source: str
    place: str


def place_of(path: Path, line: int) -> str:
    """Return `file:line` the way editors understand it."""
    return f"{path}:{line}"


def row_error(place: str, message: str, help: str = "") -> UserError:
    """Return the error for one bad row."""
    return UserError(f"{place}: {message}", help=help, code=ExitCode.DATA)


def check_order(messages: tuple[Message, ...], place: str) -> None:
    """Raise `UserError` unless the roles alternate and an assistant turn closes the conversation."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns:
        raise row_error(place, "the conversation has no turns")
    for index, message in enumerate(turns):
        expected: Role = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            number = index + 1 + (len(messages) - len(turns))
            raise row_error(
                place,
                f"message {number} is from `{message.role}`, expected `{expected}`",
                "after an optional system message, user and assistant take turns",
            )
    if turns[-1].role != "assistant":
        raise row_error(place, "the conversation ends with the user, there is no answer to learn")
