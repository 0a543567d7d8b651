"""What one row must hold, by the format of its source."""

from __future__ import annotations

from typing import Any

from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from .messages import check_messages, check_sharegpt, check_tools
from .rows import (
    FileSource,
    RowError,
    check_alpaca,
    column_of,
    kind_of,
    text_of,
)


def check_row(source: FileSource, row: Any) -> None:
    """Raise `RowError` for a row that cannot be used."""
    if not isinstance(row, dict):
        raise RowError(f"the row is {kind_of(row)}, expected an object")
    if isinstance(source, AlpacaSource | MessagesSource | ShareGptSource):
        _check_conversation(source, row)
    elif isinstance(source, TextSource):
        if not text_of(row, source.text).strip():
            raise RowError(f"`{source.text}` is empty: there is nothing to learn")
    elif isinstance(source, PreferenceSource):
        for name in (source.prompt, source.chosen, source.rejected):
            if name is not None:
                _check_turns(row, name)
    elif isinstance(source, PromptSource):
        _check_turns(row, source.prompt)


def _check_conversation(
    source: AlpacaSource | MessagesSource | ShareGptSource, row: dict[str, Any]
) -> None:
    pair = [name for name in (source.chosen, source.rejected) if name is not None]
    if pair:
        # The answers stand beside the conversation, which ends with the question.
        for name in pair:
            _check_answer(row, name)
    elif isinstance(source, AlpacaSource):
        check_alpaca(source, row)
        check_tools(row, source.tools)
    elif isinstance(source, MessagesSource):
        check_messages(source, row)
    else:
        check_sharegpt(source, row)
    if source.label is not None and not isinstance(column_of(row, source.label), bool):
        found = kind_of(row[source.label])
        raise RowError(f"`{source.label}` is {found}, expected true or false")


def _check_answer(row: dict[str, Any], name: str) -> None:
    """An answer is text, one message, or a list of messages."""
    if not isinstance(column_of(row, name), dict):
        _check_turns(row, name)


def _check_turns(row: dict[str, Any], name: str) -> None:
    value = column_of(row, name)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return
    if isinstance(value, str) and text_of(row, name).strip():
        return
    found = "empty" if value in ("", []) or isinstance(value, str) else kind_of(value)
    raise RowError(f"`{name}` is {found}, expected text or a list of messages")
