"""Which formats fit some rows: each candidate is tried on them with the checks that `tunec check` uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from ..facts.row_checks import check_row
from ..facts.rows import RowError
from ..facts.sample_kinds import FileSource, SampleKind
from ..spec import (
    AlpacaSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    TextSource,
)
from .candidates import MEDIA, Candidate, candidates
from .reading import Row, Rows

LOOKED_AT = 100
"""Rows that decide what a file is."""
MOST_PROBLEMS = 5

FORMATS: dict[str, type] = {
    "preference": PreferenceSource,
    "messages": MessagesSource,
    "sharegpt": ShareGptSource,
    "alpaca": AlpacaSource,
    "prompt": PromptSource,
    "text": TextSource,
}


@frozen
class Proposal:
    """A source that reads the rows, how well it does, and why it was thought of."""

    source: FileSource
    kind: SampleKind
    """What is learned from such a source."""
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

    row: Row
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
    tried = [_try(candidate, rows, total) for candidate in candidates(rows)]
    # Sorting is stable: the more telling format, which comes first, wins, even with some bad rows.
    most = max((p.fits for p in tried), default=0)
    fitting = sorted((p for p in tried if p.fits), key=lambda p: 2 * p.fits < most)
    bad = tuple(_problems(found.rows, fitting[0] if fitting else None))
    return Findings(tuple(fitting), bad[:MOST_PROBLEMS], len(bad))


def _try(candidate: Candidate, rows: Sequence[dict[str, Any]], total: int) -> Proposal:
    """Try a candidate; columns of media only count where the texts have marks for them."""
    made = _made(candidate, candidate.settings, rows, total)
    plain = {name: text for name, text in candidate.settings.items() if name not in MEDIA}
    if made.fits < total and plain != candidate.settings:
        without = _made(candidate, plain, rows, total)
        return without if without.fits > made.fits else made
    return made


def _made(
    candidate: Candidate, settings: dict[str, str], rows: Sequence[dict[str, Any]], total: int
) -> Proposal:
    cls = FORMATS[candidate.format]
    source: FileSource = cls(format=candidate.format, path="", **settings)
    plain = cls(format=candidate.format, path="")
    changed = {name: text for name, text in settings.items() if getattr(plain, name) != text}
    fits = sum(_fault(source, candidate.kind, row) is None for row in rows)
    named = {"format": candidate.format, **changed}
    return Proposal(source, candidate.kind, named, candidate.why, fits, total)


def _fault(source: FileSource, kind: SampleKind, value: Any) -> str | None:
    try:
        check_row(source, value, kind)
    except RowError as fault:
        return fault.message
    return None


def _problems(rows: Sequence[Row], best: Proposal | None) -> Iterator[Problem]:
    for row in rows:
        fault = row.fault or ("" if best is None else _fault(best.source, best.kind, row.value))
        if fault:
            yield Problem(row, fault)
