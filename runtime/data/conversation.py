"""Conversations: what every data format is turned into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ExitCode, UserError
from .tool_calls import ToolCall

Role = Literal["system", "user", "assistant", "tool"]
Tool = dict[str, Any]
"""The description of a tool, as a JSON schema of its function."""


@dataclass(frozen=True)
class Message:
    """One turn. An assistant's can call tools; each result is a turn of a tool."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    train: bool = True
    """Whether an answer carries loss; it means nothing for others than the assistant."""

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user, assistant and tools in turn, the assistant last.

    `source` names the data source and `place` the file and line (`data/facts.jsonl:12`) for messages.
    `tools` are those that the assistant may call.
    """

    messages: tuple[Message, ...]
    source: str
    place: str
    tools: tuple[Tool, ...] = ()


def place_of(path: Path, line: int) -> str:
    """Return `file:line` the way editors understand it."""
    return f"{path}:{line}"


def row_error(place: str, message: str, help: str = "") -> UserError:
    """Return the error for one bad row."""
    return UserError(f"{place}: {message}", help=help, code=ExitCode.DATA)
