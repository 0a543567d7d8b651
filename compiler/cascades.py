"""Findings that only follow from other findings."""

from __future__ import annotations

from collections.abc import Iterable

from .diagnostics import Diagnostic, SpecPath


def suppress_cascades(
    diagnostics: Iterable[Diagnostic], broken: Iterable[SpecPath]
) -> tuple[Diagnostic, ...]:
    """Drop findings about a value that is broken, holds something broken, or is part of it.

    The empty path stands for the spec as a whole, and is never taken for broken.
    """
    roots = frozenset(path for path in broken if path)
    above = frozenset(path[:end] for path in roots for end in range(1, len(path)))

    def is_healthy(path: SpecPath) -> bool:
        return path not in above and not any(path[:end] in roots for end in range(1, len(path) + 1))

    return tuple(found for found in diagnostics if all(map(is_healthy, found.involves())))
