"""Preference pairs and prompts: the same checks, in the same words, as the reader of the runtime (a test compares them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..spec import PreferenceSource
from .messages import OPENAI_WORDS, Turn, Words, check_turns, listed_turns
from .rows import RowError, column_of, kind_of, text_of

Columns = tuple[str, str]
"""Those of the chosen and of the rejected answer."""


def check_preference(source: PreferenceSource, row: dict[str, Any]) -> None:
    """Raise `RowError` unless the row holds a prompt and two different answers, or two conversations that part."""
    columns = (source.chosen, source.rejected)
    asked = prompt_in(row, source.prompt) if source.prompt in row else None
    if asked is not None and not all(_is_whole(row.get(name)) for name in columns):
        check_sides(row, columns, OPENAI_WORDS)
        return
    both = [_whole(row, name) for name in columns]
    _check_different(both, columns)
    same = _common(both, columns)
    if asked is not None and not _begins(same, asked, row[source.prompt]):
        raise RowError(
            f"the answers are whole conversations that do not begin with `{source.prompt}`"
        )


def check_sides(row: dict[str, Any], columns: Columns, words: Words) -> list[list[Turn]]:
    """Return the chosen and the rejected answer; raises `RowError` where one is none, or both are the same."""
    sides = [_side(row, name, words) for name in columns]
    _check_different(sides, columns)
    return sides


def prompt_in(row: dict[str, Any], column: str) -> list[Turn]:
    """Return the prompt of a row, a text or a list of messages; raises `RowError` for anything else."""
    value = row[column]
    if isinstance(value, str):
        if not text_of(row, column).strip():
            raise RowError(f"`{column}` is empty")
        return [Turn("user", value)]
    if not isinstance(value, list) or not value:
        found = _found(value)
        raise RowError(f"`{column}` is {found}, expected text or a list of messages")
    turns = listed_turns(value, column, OPENAI_WORDS, f" of `{column}`")
    if all(turn.role == "system" for turn in turns):
        raise RowError(f"`{column}` has no question")
    if check_turns(turns, within=f" of `{column}`") == "assistant":
        raise RowError(f"`{column}` ends with an answer, expected the user or the result of a tool")
    return turns


def _side(row: dict[str, Any], column: str, words: Words) -> list[Turn]:
    value = column_of(row, column)
    if isinstance(value, str):
        if not text_of(row, column).strip():
            raise RowError(f"`{column}` is empty: there is no answer to learn")
        return [Turn("assistant", value)]
    if not isinstance(value, dict | list) or not value:
        found = _found(value)
        raise RowError(f"`{column}` is {found}, expected text, a message or a list of messages")
    listed = [value] if isinstance(value, dict) else value
    turns = listed_turns(listed, column, words, f" of `{column}`")
    last = check_turns(turns, after="user", within=f" of `{column}`")
    _check_answered(last, column)
    return turns


def _check_answered(last: str, column: str) -> None:
    if last != "assistant":
        words = "the user" if last == "user" else "the result of a tool"
        raise RowError(f"`{column}` ends with {words}, there is no answer to learn")


def _is_whole(value: Any) -> bool:
    """Tell whether an answer begins with something that is not an answer."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("role") != "assistant"


def _whole(row: dict[str, Any], column: str) -> list[Turn]:
    value = column_of(row, column)
    if not isinstance(value, list) or not value:
        raise RowError(
            f"`{column}` is {_found(value)}, but without a prompt both answers are whole conversations",
            "name the column of the prompt with `prompt`",
        )
    turns = listed_turns(value, column, OPENAI_WORDS, f" of `{column}`")
    _check_answered(check_turns(turns, within=f" of `{column}`"), column)
    return turns


def _common(both: Sequence[list[Turn]], columns: Columns) -> list[Turn]:
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


def _begins(same: list[Turn], asked: list[Turn], given: Any) -> bool:
    return same[-1].content == given if isinstance(given, str) else same == asked


def _check_different(sides: Sequence[list[Turn]], columns: Columns) -> None:
    if sides[0] == sides[1]:
        raise RowError(
            f"`{columns[0]}` and `{columns[1]}` are the same, there is nothing to prefer"
        )


def _found(value: Any) -> str:
    return "an empty list" if value == [] else kind_of(value)
