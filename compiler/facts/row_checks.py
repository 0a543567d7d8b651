"""What one row must hold, by the format of its source and by what is learned.

The same checks, in the same order and words, as the reader of the runtime (a test compares the two).
"""

from __future__ import annotations

import math
from typing import Any

from ..spec import AlpacaSource, PreferenceSource, PromptSource, ShareGptSource, TextSource
from .answers import check_preference, check_sides, prompt_in
from .media import check_marks, has_media
from .messages import (
    OPENAI,
    Turn,
    Words,
    check_characters,
    check_order,
    check_prompt,
    check_tools,
    sharegpt_words,
    turns_of,
)
from .rows import RowError, check_encodable, column_of, kind_of, optional_text, shown, text_of
from .sample_kinds import FileSource, SampleKind, TalkSource, kind_of_rows


def check_row(source: FileSource, row: Any, kind: SampleKind | None = None) -> None:
    """Raise `RowError` for a row that cannot be used; `kind` is what is learned, by default what the source tells."""
    if not isinstance(row, dict):
        raise RowError(f"the row is {kind_of(row)}, expected an object")
    if isinstance(source, TalkSource):
        _check_talk(source, row, kind or kind_of_rows(source))
    elif isinstance(source, TextSource):
        if not text_of(row, source.text).strip():
            raise RowError(f"`{source.text}` is empty: there is nothing to learn")
    elif isinstance(source, PreferenceSource):
        check_preference(source, row)
        if source.margin is not None:
            _check_margin(row, source.margin)
    elif isinstance(source, PromptSource):
        column_of(row, source.prompt)
        prompt_in(row, source.prompt)
        if source.answer is not None:
            _check_reference(row, source.answer)


def label_of(value: Any) -> bool | None:
    """Return a judgement: a boolean, 0 or 1, also as text; None for anything else."""
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, dict | list):
        return None
    return True if word in ("true", "1", 1) else False if word in ("false", "0", 0) else None


def _check_talk(source: TalkSource, row: dict[str, Any], kind: SampleKind) -> None:
    answered = kind not in ("pairs", "prompts")
    turns, words = _turns(source, row, answered)
    if answered:
        check_order(turns)
    else:
        # The last answer makes way for the one that is chosen, rejected or generated.
        turns = turns[:-1] if turns[-1:] and turns[-1].role == "assistant" else turns
        check_prompt(turns)
    sides: list[list[Turn]] = []
    if kind == "pairs" and source.chosen is not None and source.rejected is not None:
        sides = check_sides(row, (source.chosen, source.rejected), words)
    check_tools(row, source.tools)
    if kind == "labels" and source.label is not None:
        _check_label(row, source.label)
    if has_media(source):
        check_marks(source, row, turns, sides)


def _turns(source: TalkSource, row: dict[str, Any], answered: bool) -> tuple[list[Turn], Words]:
    if isinstance(source, AlpacaSource):
        return _alpaca_turns(source, row, answered), Words("role", "content", OPENAI)
    if not isinstance(source, ShareGptSource):
        words = Words(source.role, source.content, OPENAI)
        return turns_of(row, source.messages, words), words
    words = sharegpt_words(source)
    turns = turns_of(row, source.messages, words)
    system = "" if source.system is None else optional_text(row, source.system)
    if system and turns[0].role == "system":
        raise RowError(
            f"the system prompt is given twice: in `{source.system}` and as the first message"
        )
    return [*_system(system), *turns], words


def _alpaca_turns(source: AlpacaSource, row: dict[str, Any], answered: bool) -> list[Turn]:
    turns = _system(optional_text(row, source.system))
    for asked, answer in _history(row.get(source.history), source.history):
        turns += [Turn("user", asked), Turn("assistant", answer)]
    parts = [text_of(row, source.instruction), optional_text(row, source.input)]
    question = "\n".join(part for part in parts if part)
    if not question.strip():
        raise RowError(f"`{source.instruction}` is empty")
    turns.append(Turn("user", question))
    if answered:
        answer = text_of(row, source.output)
        if not answer.strip():
            raise RowError(f"`{source.output}` is empty: there is no answer to learn")
        turns.append(Turn("assistant", answer))
    return turns


def _system(text: str) -> list[Turn]:
    return [Turn("system", text)] if text else []


def _history(value: Any, name: str) -> list[tuple[str, str]]:
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


def _check_label(row: dict[str, Any], name: str) -> None:
    value = column_of(row, name)
    if label_of(value) is None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        found = f"{value}" if is_number else shown(value)
        raise RowError(f"`{name}` is {found}, expected true or false")


def _check_margin(row: dict[str, Any], name: str) -> None:
    value = column_of(row, name)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"`{name}` is {shown(value)}, expected a number") from None
    if isinstance(value, bool):
        raise RowError(f"`{name}` is a boolean, expected a number")
    if not math.isfinite(number):
        raise RowError(f"`{name}` is not finite")


def _check_reference(row: dict[str, Any], name: str) -> None:
    value = column_of(row, name)
    if value is None:
        raise RowError(f"`{name}` is null, expected a reference answer")
    check_characters(value, f"`{name}`")
