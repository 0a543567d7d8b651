"""Which formats fit a file: each candidate is tried on the rows with the checks that `tunec check` uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from ..facts.row_checks import check_row
from ..facts.rows import FileSource, RowError
from ..names import choose
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

LOOKED_AT = 100
"""Rows that decide what a file is."""
MOST_PROBLEMS = 5

QUESTION = ("instruction", "question", "query", "prompt", "problem", "user")
ANSWER = ("output", "response", "answer", "completion", "solution", "target", "assistant")
TEXT = ("text", "content", "document", "body")
PAIRS = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("preferred", "dispreferred"))


@frozen
class Proposal:
    """A source that reads the file, how well it does, and why it was thought of."""

    source: FileSource
    settings: tuple[tuple[str, str], ...]
    """Settings that are not the default."""
    why: str
    fits: int
    of: int
"""Rows that fit, of how many."""


@frozen
class Problem:
    """A row that the proposed source cannot use."""

    line: int
    message: str


def propose(found: Rows) -> tuple[list[Proposal], list[Problem], int]:
    """Return the sources that fit, the best first; the first bad rows for the best; and how many bad rows it has."""
    rows = [row.value for row in found.rows if isinstance(row.value, dict)][:LOOKED_AT]
    total = min(len(found.rows), LOOKED_AT)
    tried = [_try(source, why, rows, total) for source, why in _candidates(rows)]
    # Sorting is stable: among equals the more telling format, which comes first, wins.
    fitting = sorted((p for p in tried if p.fits), key=lambda p: -p.fits)
    bad = list(_problems(found.rows, fitting[0].source if fitting else None))
    return fitting, bad[:MOST_PROBLEMS], len(bad)
