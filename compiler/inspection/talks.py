"""Columns that hold conversations: which keys of a message are its role and its text, and which roles there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

ROLE = ("role", "from", "speaker", "who", "author", "type")
CONTENT = ("content", "value", "text", "message", "utterance")
MOST_TAGS = 8
"""Roles of a conversation are few; what takes more values is something else."""


@frozen
class Talk:
    """A column with a conversation a row."""

    column: str
    role: str
    content: str
    tags: tuple[str, ...]
    """Roles in the order of their first appearance."""
    count: int
    """Rows that hold one."""


def talks(rows: Sequence[dict[str, Any]]) -> Iterator[Talk]:
    """Yield the columns that hold conversations."""
    for name in dict.fromkeys(name for row in rows for name in row):
        listed = [row[name] for row in rows if _is_talk(row.get(name))]
        messages = [message for talk in listed for message in talk]
        if not messages:
            continue
        role, content = _role(messages), _key(messages, CONTENT)
        if role is not None and content is not None and role != content:
            tags = tuple(dict.fromkeys(m[role] for m in messages if isinstance(m.get(role), str)))
            yield Talk(name, role, content, tags, len(listed))


def _is_talk(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) for m in value)


def _role(messages: Sequence[dict[str, Any]]) -> str | None:
    name = _key(messages, ROLE)
    if name is None:
        return None
    found = {str(message.get(name)) for message in messages}
    return name if len(found) <= MOST_TAGS else None


def _key(messages: Sequence[dict[str, Any]], names: Sequence[str]) -> str | None:
    """Return the first of some names that most messages have."""
    most = len(messages) / 2
    return next((n for n in names if sum(n in message for message in messages) > most), None)
