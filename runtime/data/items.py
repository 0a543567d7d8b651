"""Items: what a row is to the objectives. A conversation is one of them; the others are made of conversations or text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .conversation import Conversation

Kind = Literal["answers", "text", "pairs", "labels", "prompts"]
"""What is learned from: answers, texts, preferences between two answers, good and bad answers, prompts alone."""


@dataclass(frozen=True)
class Document:
    """A text to continue, for pretraining."""

    text: str
    source: str
    place: str


@dataclass(frozen=True)
class Pair:
    """Two ways to go on after the same messages; `margin` says how much better the chosen one is."""

    chosen: Conversation
    rejected: Conversation
    margin: float | None = None

    @property
    def place(self) -> str:
        """File and line of the row."""
        return self.chosen.place


@dataclass(frozen=True)
class Judged:
    """A conversation whose last answer is good or bad."""

    conversation: Conversation
    good: bool

    @property
    def place(self) -> str:
        """File and line of the row."""
        return self.conversation.place


@dataclass(frozen=True)
class Prompt:
    """Messages that an answer is generated to; `answer` is what reward functions compare it with, any value of JSON."""

    conversation: Conversation
    answer: Any = None

    @property
    def place(self) -> str:
        """File and line of the row."""
        return self.conversation.place


Item = Conversation | Document | Pair | Judged | Prompt
KINDS: dict[type, Kind] = {
    Conversation: "answers",
    Document: "text",
    Pair: "pairs",
    Judged: "labels",
    Prompt: "prompts",
}
"""The kind of each class."""
