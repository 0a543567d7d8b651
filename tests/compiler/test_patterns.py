"""Patterns of data files: what `Path.glob` finds, without walking a whole disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunec.compiler.facts import patterns
from tunec.compiler.facts.patterns import fitting_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files in folders."""
    for name in ("a.jsonl", "b.json", "d/c.jsonl", "d/e/f.jsonl", "d/e/g.txt", "x[1]/h.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*.jsonl",
        "**/*.jsonl",
        "d/*/*.jsonl",
        "d/**/*.jsonl",
        "?.json*",
        "[ab].*",
        "d/c.*",
        "no/*.jsonl",
    ],
)
def test_finds_what_glob_finds(tree: Path, pattern: str) -> None:
    """Every pattern finds the same files as the standard library."""
    assert set(fitting_files(tree, pattern)) == set(tree.glob(pattern))


def test_stops_after_many_entries(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that would walk a whole disk ends early with what was found."""
    monkeypatch.setattr(patterns, "MOST_ENTRIES", 3)
    assert len(list(fitting_files(tree, "**/*"))) <= 3
