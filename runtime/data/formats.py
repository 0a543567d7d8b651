"""Formats: a row of a file becomes an item: a conversation, a text, a preference, a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .conversation import Conversation, Message
from .items import Document, Item, Judged, Kind, Pair, Prompt
from .turns import (
    OPENAI,
    Words,
    check_order,
    check_prompt,
    check_turns,
    listed_messages,
    messages_of,
    tools_of,
)
from .values import (
    RowError,
    answer_of,
    check_encodable,
    column_of,
    kind_of,
    label_of,
    margin_of,
    optional_text,
    text_of,
)

OPENAI_WORDS = Words("role", "content", OPENAI)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where rows are, and how many of them count.

    `path` is a file, a folder of data files, or a pattern of names; as a text it is a URL, or an id on `hub`. The
    first `limit` rows count; of those `sample` are drawn at random, some of them repeatedly where there are fewer.
    `weight` is the share in a mix.
    """

    path: Path | str
    name: str
    hub: str | None = None
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    folder: str | None = None
    token_env: str | None = None
    limit: int | None = None
    sample: int | None = None
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class Talks(Rows):
    """Rows that hold a conversation, and perhaps two answers to it or a judgement of its last one.

    What is learned decides what is read: `chosen` and `rejected` take the place of the last answer in pairs, and
    `label` judges it.
    """

    tools: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None

    def item(self, row: dict[str, Any], place: str, kind: Kind = "answers") -> Item:
        """Return what the row holds; raises `RowError` for a row that cannot be used."""
        answered = kind not in ("pairs", "prompts")
        messages = self._messages(row, answered=answered)
        if answered:
            check_order(messages)
        else:
            messages = _asked(messages)
            check_prompt(messages)
        if kind == "pairs":
            sides = [_side(row, name, self._words()) for name in self._answers()]
            _check_different(sides, self._answers())
        talk = Conversation(messages, self.name, place, tools_of(row, self.tools))
        if kind == "pairs":
            return _paired(talk, sides)
        if kind == "labels":
            return Judged(talk, label_of(row, _given(self.label, "label", self.name)))
        return talk if kind == "answers" else Prompt(talk)

    def _answers(self) -> tuple[str, str]:
        """Return the columns of both answers."""
        chosen = _given(self.chosen, "chosen", self.name)
        return chosen, _given(self.rejected, "rejected", self.name)

    def _messages(self, row: dict[str, Any], *, answered: bool) -> tuple[Message, ...]:
        """Return the messages; without `answered`, the last answer need not be there."""
        raise NotImplementedError

    def _words(self) -> Words:
        return OPENAI_WORDS


@dataclass(frozen=True, kw_only=True)
class Alpaca(Talks):
    """Rows with an instruction, an optional input and an output, in the named columns."""

    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    system: str = "system"
    history: str = "history"

    def _messages(self, row: dict[str, Any], *, answered: bool) -> tuple[Message, ...]:
        messages = _system(optional_text(row, self.system))
        for asked, answer in _pairs(row.get(self.history), self.history):
            messages += [Message("user", asked), Message("assistant", answer)]
        parts = [text_of(row, self.instruction), optional_text(row, self.input)]
        question = "\n".join(part for part in parts if part)
        if not question.strip():
            raise RowError(f"`{self.instruction}` is empty")
        messages.append(Message("user", question))
        if answered:
            messages.append(Message("assistant", _answer(row, self.output)))
        return tuple(messages)


@dataclass(frozen=True, kw_only=True)
class Messages(Talks):
    """Rows that hold a list of messages under one key."""

    messages: str = "messages"
    role: str = "role"
    content: str = "content"

    def _messages(self, row: dict[str, Any], *, answered: bool) -> tuple[Message, ...]:
        return messages_of(row, self.messages, self._words())

    def _words(self) -> Words:
        return Words(self.role, self.content, OPENAI)


@dataclass(frozen=True, kw_only=True)
class ShareGpt(Talks):
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

    def _messages(self, row: dict[str, Any], *, answered: bool) -> tuple[Message, ...]:
        listed = messages_of(row, self.messages, self._words())
        system = _system(optional_text(row, self.system))
        if system and listed[0].role == "system":
            raise RowError(
                f"the system prompt is given twice: in `{self.system}` and as the first message"
            )
        return (*system, *listed)

    def _words(self) -> Words:
        roles = {
            self.user_tag: "user",
            self.assistant_tag: "assistant",
            self.system_tag: "system",
            self.tool_call_tag: "call",
            self.tool_result_tag: "tool",
        }
        return Words(self.role, self.content, roles)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Text(Rows):
    """Rows of plain text."""

    text: str = "text"

    def item(self, row: dict[str, Any], place: str, kind: Kind = "text") -> Item:
        """Return the text of the row; raises `RowError` for a row without one."""
        text = text_of(row, self.text)
        if not text.strip():
            raise RowError(f"`{self.text}` is empty: there is nothing to learn")
        return Document(text, self.name, place)


@dataclass(frozen=True, kw_only=True)
class Preference(Rows):
    """Rows with a prompt and two answers, each a text, a message or a list of messages.

    Answers can be whole conversations: what they begin with alike is the prompt then, with or without a column for it.
    """

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str | None = None

    def item(self, row: dict[str, Any], place: str, kind: Kind = "pairs") -> Item:
        """Return the preference; raises `RowError` for a row that holds none."""
        columns = (self.chosen, self.rejected)
        asked = prompt_in(row, self.prompt) if self.prompt in row else None
        if asked is None or all(_is_whole(row.get(name)) for name in columns):
            both = [_whole(row, name, self.prompt) for name in columns]
            _check_different(both, columns)
            same = _common(both, columns)
            if asked is not None and not _begins(same, asked, row[self.prompt]):
                raise RowError(
                    f"the answers are whole conversations that do not begin with `{self.prompt}`"
                )
            asked, sides = same, [found[len(same) :] for found in both]
        else:
            sides = [_side(row, name, OPENAI_WORDS) for name in columns]
            _check_different(sides, columns)
        margin = None if self.margin is None else margin_of(row, self.margin)
        return _paired(Conversation(asked, self.name, place), sides, margin)


@dataclass(frozen=True, kw_only=True)
class Prompts(Rows):
    """Rows with a prompt alone: answers are generated in training."""

    prompt: str = "prompt"
    answer: str | None = None

    def item(self, row: dict[str, Any], place: str, kind: Kind = "prompts") -> Item:
        """Return the prompt; raises `RowError` for a row without one."""
        column_of(row, self.prompt)
        asked = Conversation(prompt_in(row, self.prompt), self.name, place)
        return Prompt(asked, None if self.answer is None else answer_of(row, self.answer))


Source = Alpaca | Messages | ShareGpt | Text | Preference | Prompts


def _given(column: str | None, name: str, source: str) -> str:
    if column is None:
        raise RowError(f"the source `{source}` names no column `{name}`")
    return column


def _answer(row: dict[str, Any], column: str) -> str:
    answer = text_of(row, column)
    if not answer.strip():
        raise RowError(f"`{column}` is empty: there is no answer to learn")
    return answer


def _asked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The answer that a conversation ends with makes way for the one that is chosen, rejected or generated."""
    return messages[:-1] if messages[-1:] and messages[-1].role == "assistant" else messages


def prompt_in(row: dict[str, Any], column: str) -> tuple[Message, ...]:
    """Return the prompt of a row, a text or a list of messages; raises `RowError` for anything else."""
    value = row[column]
    if isinstance(value, str):
        if not text_of(row, column).strip():
            raise RowError(f"`{column}` is empty")
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else kind_of(value)
        raise RowError(f"`{column}` is {found}, expected text or a list of messages")
    messages = listed_messages(value, column, OPENAI_WORDS, within=f" of `{column}`")
    if all(message.role == "system" for message in messages):
        raise RowError(f"`{column}` has no question")
    if check_turns(messages, within=f" of `{column}`") == "assistant":
        raise RowError(f"`{column}` ends with an answer, expected the user or the result of a tool")
    return messages


def _side(row: dict[str, Any], column: str, words: Words) -> tuple[Message, ...]:
    """Return an answer that stands in a column of its own: a text, a message, or several."""
    value = column_of(row, column)
    if isinstance(value, str):
        return (Message("assistant", _answer(row, column)),)
    if not isinstance(value, dict | list) or not value:
        found = "an empty list" if value == [] else kind_of(value)
        raise RowError(f"`{column}` is {found}, expected text, a message or a list of messages")
    listed = [value] if isinstance(value, dict) else value
    messages = listed_messages(listed, column, words, within=f" of `{column}`")
    last = check_turns(messages, after="user", within=f" of `{column}`")
    _check_answered(last, column)
    return messages


def _check_answered(last: str, column: str) -> None:
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"`{column}` ends with {words}, there is no answer to learn")


def _is_whole(value: Any) -> bool:
    """Tell whether an answer begins with something that is not an answer."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("role") != "assistant"


def _whole(row: dict[str, Any], column: str, prompt: str) -> tuple[Message, ...]:
    value = column_of(row, column)
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else kind_of(value)
        raise RowError(
            f"`{column}` is {found}, but without a prompt both answers are whole conversations",
            "name the column of the prompt with `prompt`",
        )
    messages = listed_messages(value, column, OPENAI_WORDS, within=f" of `{column}`")
    _check_answered(check_turns(messages, within=f" of `{column}`"), column)
    return messages


def _common(both: Sequence[tuple[Message, ...]], columns: tuple[str, str]) -> tuple[Message, ...]:
    """Return the messages that both begin with: the prompt of what follows."""
    pairs = enumerate(zip(*both, strict=False))
    first = next((i for i, (one, other) in pairs if one != other), min(map(len, both)))
    chosen, rejected = columns
    if first == 0:
        raise RowError(
            f"`{chosen}` and `{rejected}` do not begin alike: what they share is the prompt"
        )
    if any(len(found) <= first or found[first].role != "assistant" for found in both):
        raise RowError(
            f"`{chosen}` and `{rejected}` part at message {first + 1}, which is not an answer in both"
        )
    return both[0][:first]


def _begins(same: tuple[Message, ...], asked: tuple[Message, ...], given: Any) -> bool:
    return same[-1].content == given if isinstance(given, str) else same == asked


def _check_different(sides: Sequence[tuple[Message, ...]], columns: tuple[str, str]) -> None:
    if sides[0] == sides[1]:
        raise RowError(
            f"`{columns[0]}` and `{columns[1]}` are the same, there is nothing to prefer"
        )


def _paired(
    talk: Conversation, sides: Sequence[tuple[Message, ...]], margin: float | None = None
) -> Pair:
    """Only what follows the prompt is learned."""
    before = tuple(replace(m, weight=float(m.role != "assistant")) for m in talk.messages)
    chosen, rejected = (replace(talk, messages=(*before, *side)) for side in sides)
    return Pair(chosen, rejected, margin)


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
