"""Which formats fit a file: each candidate is tried on the rows with the checks that `tunec check` uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..facts.row_checks import check_row
from ..facts.rows import FileSource, RowError
from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from .reading import Row, Rows
from .talks import Talk, talks

Candidate = tuple[str, dict[str, str], str]
"""Format, settings, and why it was thought of."""

LOOKED_AT = 100
"""Rows that decide what a file is."""
MOST_PROBLEMS = 5

KINDS: dict[str, type] = {
    "preference": PreferenceSource,
    "messages": MessagesSource,
    "sharegpt": ShareGptSource,
    "alpaca": AlpacaSource,
    "prompt": PromptSource,
    "text": TextSource,
}
QUESTION = ("instruction", "question", "query", "prompt", "problem", "user")
ANSWER = ("output", "response", "answer", "completion", "solution", "target", "assistant")
CONTEXT = ("input", "context")
TEXT = ("text", "content", "document", "body")
PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred", "dispreferred"),
)
ROLES = ("system", "user", "assistant")
TAGS = {
    "user_tag": ("human", "user", "prompter", "Human", "question"),
    "assistant_tag": ("gpt", "assistant", "bot", "model", "chatgpt", "bing", "bard", "Assistant"),
    "system_tag": ("system",),
    "tool_call_tag": ("function_call", "tool_call"),
    "tool_result_tag": ("observation", "tool", "tool_response", "function_response"),
}


@frozen
class Proposal:
    """A source that reads the file, how well it does, and why it was thought of."""

    source: FileSource
    settings: dict[str, str]
    """Settings beside `path`: the format, and what is not its default."""
    why: str
    fits: int
    """Rows that it can use."""
    of: int
    """Rows that were tried."""


@frozen
class Problem:
    """A row that the proposed source cannot use."""

    line: int
    message: str


@frozen
class Findings:
    """What speaks for which source."""

    proposals: tuple[Proposal, ...]
    """Sources that fit, the best first."""
    problems: tuple[Problem, ...]
    """The first rows that the best cannot use."""
    num_bad: int


def propose(found: Rows) -> Findings:
    """Try every format that the columns speak for."""
    rows = [row.value for row in found.rows[:LOOKED_AT] if isinstance(row.value, dict)]
    total = min(len(found.rows), LOOKED_AT)
    tried = [_try(candidate, rows, total) for candidate in _candidates(rows)]
    # Sorting is stable: among equals the more telling format, which comes first, wins.
    fitting = sorted((p for p in tried if p.fits), key=lambda p: -p.fits)
    bad = tuple(_problems(found.rows, fitting[0].source if fitting else None))
    return Findings(tuple(fitting), bad[:MOST_PROBLEMS], len(bad))


def _try(candidate: Candidate, rows: Sequence[dict[str, Any]], total: int) -> Proposal:
    format_, settings, why = candidate
    kind = KINDS[format_]
    source: FileSource = kind(format=format_, path="", **settings)
    plain = kind(format=format_, path="")
    changed = {name: text for name, text in settings.items() if getattr(plain, name) != text}
    fits = sum(_fault(source, row) is None for row in rows)
    return Proposal(source, {"format": format_, **changed}, why, fits, total)


def _fault(source: FileSource, value: Any) -> str | None:
    try:
        check_row(source, value)
    except RowError as fault:
        return fault.message
    return None


def _problems(rows: Sequence[Row], source: FileSource | None) -> Iterator[Problem]:
    for row in rows:
        fault = row.fault or ("" if source is None else _fault(source, row.value))
        if fault:
            yield Problem(row.line, fault)


def _candidates(rows: Sequence[dict[str, Any]]) -> Iterator[Candidate]:
    """Yield the formats that the names and kinds of the columns speak for, the most telling first."""
    counts = Counter(name for row in rows for name in row)

    def found(names: Sequence[str]) -> str | None:
        return next((name for name in names if counts[name] > len(rows) / 2), None)

    question, answer = found(QUESTION), found(ANSWER)
    yield from _pairs(counts, question)
    for talk in talks(rows):
        yield _talk(talk, len(rows))
    if question and answer:
        columns = {"instruction": question, "output": answer}
        context = found(CONTEXT)
        columns |= {"input": context} if context else {}
        yield "alpaca", columns, _named(counts, columns.values(), len(rows))
    if question:
        columns = {"prompt": question} | ({"answer": answer} if answer else {})
        yield "prompt", columns, _named(counts, columns.values(), len(rows))
    text = found(TEXT) or next((n for n in counts if len(counts) == 1), None)
    if text:
        yield "text", {"text": text}, _named(counts, [text], len(rows))


def _pairs(counts: Counter[str], question: str | None) -> Iterator[Candidate]:
    for chosen, rejected in PAIRS:
        if counts[chosen] and counts[rejected]:
            columns = {"chosen": chosen, "rejected": rejected}
            columns |= {"prompt": question} if question else {}
            yield "preference", columns, _named(counts, columns.values(), max(counts.values()))


def _talk(talk: Talk, total: int) -> Candidate:
    keys = f"{{{talk.role}, {talk.content}}}"
    why = f"`{talk.column}` is a list of {keys} in {talk.count} of {total} rows"
    columns = {"messages": talk.column, "role": talk.role, "content": talk.content}
    if set(talk.tags) <= set(ROLES):
        return "messages", columns, why
    tags = {
        name: tag
        for name, known in TAGS.items()
        if (tag := next((t for t in talk.tags if t in known), None)) is not None
    }
    roles = ", ".join(talk.tags[:8])
    return "sharegpt", {**columns, **tags}, f"{why}, with the roles {roles}"


def _named(counts: Counter[str], names: Iterable[str], total: int) -> str:
    listed = [*names]
    columns = " and ".join(f"`{name}`" for name in listed)
    verb = "are" if len(listed) > 1 else "is"
    return f"{columns} {verb} in {min(counts[name] for name in listed)} of {total} rows"
