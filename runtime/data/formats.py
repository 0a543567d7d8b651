"""Formats: a row of a file becomes a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conversation import Conversation, Message
from .turns import OPENAI, Words, check_order, messages_of, tools_of
from .values import RowError, check_encodable, optional_text, text_of


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where rows are, and how many of them count.

    `path` is a file, a folder of data files, or a pattern of names. The first `limit` rows count; of those
    `sample` are drawn at random, some of them repeatedly where there are fewer. `weight` is the share in a mix.
    """

    path: Path
    name: str
    limit: int | None = None
    sample: int | None = None
    weight: float | None = None
    tools: str | None = None


@dataclass(frozen=True, kw_only=True)
class Alpaca(Rows):
    """Rows with an instruction, an optional input and an output, in the named columns."""

    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    system: str = "system"
    history: str = "history"

    def conversation(self, row: dict[str, Any], place: str) -> Conversation:
        """Return the row as a conversation; raises `RowError` for a row that is none."""
        messages = _system(optional_text(row, self.system))
        for asked, answered in _pairs(row.get(self.history), self.history):
            messages += [Message("user", asked), Message("assistant", answered)]
        parts = [text_of(row, self.instruction), optional_text(row, self.input)]
        question = "\n".join(part for part in parts if part)
        if not question.strip():
            raise RowError(f"`{self.instruction}` is empty")
        answer = text_of(row, self.output)
        if not answer.strip():
            raise RowError(f"`{self.output}` is empty: there is no answer to learn")
        messages += [Message("user", question), Message("assistant", answer)]
        return Conversation(tuple(messages), self.name, place, tools_of(row, self.tools))


@dataclass(frozen=True, kw_only=True)
class Messages(Rows):
    """Rows that hold a list of messages under one key."""

    messages: str = "messages"
    role: str = "role"
    content: str = "content"

    def conversation(self, row: dict[str, Any], place: str) -> Conversation:
        """Return the row as a conversation; raises `RowError` for a row that is none."""
        messages = messages_of(row, self.messages, Words(self.role, self.content, OPENAI))
        check_order(messages)
        return Conversation(messages, self.name, place, tools_of(row, self.tools))


@dataclass(frozen=True, kw_only=True)
class ShareGpt(Rows):
    """Rows that hold a list of messages whose roles have names of their own."""

    messages: str = "conversations"
    role: str = "from"
    content: str = "value"
    system: str | None = None
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    system_tag: str = "system"
    tool_call_tag: str = "function_call"
    tool_result_tag: str = "observation"

    def conversation(self, row: dict[str, Any], place: str) -> Conversation:
        """Return the row as a conversation; raises `RowError` for a row that is none."""
        listed = messages_of(row, self.messages, self._words())
        system = _system(optional_text(row, self.system))
        if system and listed[0].role == "system":
            raise RowError(
                f"the system prompt is given twice: in `{self.system}` and as the first message"
            )
        check_order(listed)
        messages = (*system, *listed)
        return Conversation(messages, self.name, place, tools_of(row, self.tools))

    def _words(self) -> Words:
        roles = {
            self.user_tag: "user",
            self.assistant_tag: "assistant",
            self.system_tag: "system",
            self.tool_call_tag: "call",
            self.tool_result_tag: "tool",
        }
        return Words(self.role, self.content, roles)  # type: ignore[arg-type]


Source = Alpaca | Messages | ShareGpt


def _system(text: str) -> list[Message]:
    return [Message("system", text)] if text else []


def _pairs(value: Any, name: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    good = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in value
    )
    if not good:
        raise RowError(f"`{name}` is not a list of [user, assistant] pairs of texts")
    for number, (asked, answered) in enumerate(value, start=1):
        check_encodable(asked + answered, f"pair {number} of `{name}`")
        if not answered.strip():
            raise RowError(f"pair {number} of `{name}` has an empty answer")
    return [(pair[0], pair[1]) for pair in value]
