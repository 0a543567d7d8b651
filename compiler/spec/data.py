"""`[data]`: what the model learns from."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

TooLong = Literal["truncate", "drop", "error"]


@frozen(kw_only=True)
class AlpacaSource:
    """Rows with an instruction, an optional input and an output."""

    format: Literal["alpaca"]
    """`alpaca`: one instruction and one answer a row, in named columns."""

    path: str
    """A `.json` or `.jsonl` file, relative to the spec."""

    name: str | None = None
    """Name in reports. Default: the file's name."""

    limit: int | None = None
    """Use only the first rows of this source."""

    instruction: str = "instruction"
    """Column with the user's text."""

    input: str = "input"
    """Column with more user text, joined to the instruction by a line break. May be absent."""

    output: str = "output"
    """Column with the answer."""

    system: str = "system"
    """Column with the system prompt. May be absent."""

    history: str = "history"
    """Column with earlier `[user, assistant]` pairs. May be absent."""


@frozen(kw_only=True)
class MessagesSource:
    """Rows that hold a conversation as a list of messages (OpenAI's format)."""

    format: Literal["messages"]
    """`messages`: a list of `{role, content}` a row."""

    path: str
    """A `.json` or `.jsonl` file, relative to the spec."""

    name: str | None = None
    """Name in reports. Default: the file's name."""

    limit: int | None = None
    """Use only the first rows of this source."""

    messages: str = "messages"
    """Column with the list of messages."""

    role: str = "role"
    """Key of a message's role: `system`, `user` or `assistant`."""

    content: str = "content"
    """Key of a message's text."""


Source = AlpacaSource | MessagesSource


@frozen(kw_only=True)
class Data:
    """The data sets and how rows become training samples."""

    sources: tuple[Source, ...]
    """Training data, concatenated in this order."""

    eval_sources: tuple[Source, ...] = ()
    """Evaluation data of its own. Excludes `eval_rows`."""

    eval_rows: int | float = field(default=0)
    """Rows held out of `sources` for evaluation: a count, or a fraction below 1."""

    max_length: int = 2048
    """Most tokens of a sample."""

    too_long: TooLong = "truncate"
    """Samples above `max_length`: `truncate` their end, `drop` them (counted and reported), or stop with an `error`."""

    shuffle: bool = True
    """Visit the training rows in a new random order each epoch (fixed by `training.seed`)."""
