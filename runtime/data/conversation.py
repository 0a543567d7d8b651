"""Conversations: what every data format is turned into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ExitCode, UserError
from .tool_calls import ToolCall

Role = Literal["system", "user", "assistant", "tool"]
Tool = dict[str, Any]
"""The description of a tool, as a JSON schema of its function."""
NOTES = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Keys of a message beside its content: the tool a result is of, the call it answers, the thought before an answer."""


@dataclass(frozen=True)
class Message:
    """One turn. An assistant's can call tools; each result is a turn of a tool."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    weight: float = 1.0
    """How much the loss of an answer counts, 0 for not at all; it means nothing for others than the assistant."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What else templates read, as the row has it: see `NOTES`."""

    @property
    def train(self) -> bool:
        """Whether an answer carries loss."""
        return self.weight > 0

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content, **self.notes}
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
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
