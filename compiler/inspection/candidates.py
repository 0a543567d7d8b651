"""Formats that the names and kinds of columns speak for, each with the settings it would need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..facts.row_checks import label_of
from ..facts.sample_kinds import SampleKind
from .talks import Talk, talks

QUESTION = ("instruction", "question", "query", "prompt", "problem", "user")
ANSWER = ("output", "response", "answer", "completion", "solution", "target", "assistant")
CONTEXT = ("input", "context")
TEXT = ("text", "content", "document", "body")
PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred", "dispreferred"),
)
LABEL = ("label", "kto_tag", "is_good", "desirable", "thumbs_up")
MARGIN = ("margin",)
ROLES = ("system", "user", "assistant", "tool")
TAGS = {
    "user_tag": ("human", "user", "prompter", "Human", "question"),
    "assistant_tag": ("gpt", "assistant", "bot", "model", "chatgpt", "bing", "bard", "Assistant"),
    "system_tag": ("system",),
    "tool_call_tag": ("function_call", "tool_call"),
    "tool_result_tag": ("observation", "tool", "tool_response", "function_response"),
}
MEDIA = {
    "images": ("images", "image"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
}

Row = dict[str, Any]


@frozen
class Candidate:
    """A format, its settings, what is learned with it, and why it was thought of."""

    format: str
    settings: dict[str, str]
    kind: SampleKind
    why: str


def candidates(rows: Sequence[Row]) -> Iterator[Candidate]:
    """Yield the formats that the columns speak for, the most telling first."""
    look = _Columns(rows)
    question = look.first(QUESTION)
    yield from _with_pairs(look, question)
    yield from _with_labels(look, question)
    worse = {pair[1] for pair in PAIRS if look.counts[pair[0]]}
    for talk in look.talks:
        if talk.column not in worse:
            yield _talk(talk, look)
    yield from _alpaca(look, question, {}, "answers")
    answer = look.first(ANSWER)
    if question:
        columns = {"prompt": question} | ({"answer": answer} if answer else {})
        yield Candidate("prompt", columns, "prompts", look.why(columns.values()))
    text = look.first(TEXT) or next((name for name in look.counts if len(look.counts) == 1), None)
    if text:
        yield Candidate("text", {"text": text}, "text", look.why([text]))


class _Columns:
    """What the columns of the first rows are called, and how many rows have each."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.counts = Counter(name for row in rows for name in row)
        self.talks = list(talks(rows))

    def first(
        self, names: Iterable[str], fits: Callable[[Any], bool] = lambda value: True
    ) -> str | None:
        """Return the first name that most rows have, where its values fit."""
        for name in names:
            if self.counts[name] > len(self.rows) / 2:
                values = [row[name] for row in self.rows if row.get(name) not in (None, "", [])]
                if all(map(fits, values)):
                    return name
        return None

    def why(self, names: Iterable[str]) -> str:
        """Say in how many rows some columns are."""
        listed = [*dict.fromkeys(names)]
        quoted = [f"`{name}`" for name in listed]
        columns = " and ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
        verb = "are" if len(listed) > 1 else "is"
        least = min(self.counts[name] for name in listed)
        return f"{columns} {verb} in {least} of {len(self.rows)} rows"

    def beside(self) -> dict[str, str]:
        """Return the columns that go with any conversation: tools and media."""
        found = {"tools": self.first(("tools", "functions"), _is_tools)}
        found |= {setting: self.first(names, _is_files) for setting, names in MEDIA.items()}
        held = {setting: name for setting, name in found.items() if name is not None}
        # A column that is empty in every row says nothing.
        return {s: n for s, n in held.items() if any(row.get(n) for row in self.rows)}


def _is_tools(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip()[:1] in ("[", "{", "")
    return isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(item, dict) for item in value)
    )


def _is_files(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | dict | list) for item in items)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_pairs(look: _Columns, question: str | None) -> Iterator[Candidate]:
    for pair in PAIRS:
        if not (look.counts[pair[0]] and look.counts[pair[1]]):
            continue
        columns = dict(zip(("chosen", "rejected"), pair, strict=True))
        for talk in look.talks:
            if talk.column not in (*pair, question):
                yield _talk(talk, look, columns, "pairs")
        asked = {"prompt": question} if question else {}
        margin = look.first(MARGIN, _is_number)
        more = {"margin": margin} if margin else {}
        preference = {**asked, **columns, **more}
        known = Candidate("preference", preference, "pairs", look.why(preference.values()))
        # An input beside the instruction is part of the question, which only alpaca knows.
        is_alpaca = question == "instruction" or look.first(CONTEXT) is not None
        yield from _alpaca(look, question, columns, "pairs") if is_alpaca else ()
        yield known


def _with_labels(look: _Columns, question: str | None) -> Iterator[Candidate]:
    label = look.first(LABEL, lambda value: label_of(value) is not None)
    if label is not None:
        for talk in look.talks:
            yield _talk(talk, look, {"label": label}, "labels")
        yield from _alpaca(look, question, {"label": label}, "labels")


def _alpaca(
    look: _Columns, question: str | None, more: dict[str, str], kind: SampleKind
) -> Iterator[Candidate]:
    answer = look.first(ANSWER)
    if question is None or (answer is None and kind != "pairs"):
        return
    columns = {"instruction": question} | ({"output": answer} if kind != "pairs" and answer else {})
    context = look.first(CONTEXT)
    columns |= {"input": context} if context else {}
    columns |= more
    yield Candidate("alpaca", {**columns, **look.beside()}, kind, look.why(columns.values()))


def _talk(
    talk: Talk, look: _Columns, more: dict[str, str] | None = None, kind: SampleKind = "answers"
) -> Candidate:
    keys = f"{{{talk.role}, {talk.content}}}"
    why = f"`{talk.column}` is a list of {keys} in {talk.count} of {len(look.rows)} rows"
    columns = {"messages": talk.column, "role": talk.role, "content": talk.content}
    beside = {**(more or {}), **look.beside()}
    more_why = f"; {look.why(more.values())}" if more else ""
    if set(talk.tags) <= set(ROLES):
        return Candidate("messages", {**columns, **beside}, kind, why + more_why)
    tags = {
        name: tag
        for name, known in TAGS.items()
        if (tag := next((t for t in talk.tags if t in known), None)) is not None
    }
    system = look.first(("system", "system_prompt"), lambda value: isinstance(value, str))
    beside |= {"system": system} if system and "system" not in talk.tags else {}
    why += f", with the roles {', '.join(talk.tags[:8])}{more_why}"
    return Candidate("sharegpt", {**columns, **tags, **beside}, kind, why)
