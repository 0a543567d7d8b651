"""Realistic files of other trainers, and the spec and report that each becomes.

To accept changes: TUNEC_GOLDENS=write python -m pytest tests/compiler/importers/test_goldens.py
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import tomli

from tunec.compiler.importers.importer import Imported, import_words
from tunec.compiler.importers.report import render_report
from tunec.compiler.structure import structure

GOLDENS = Path(__file__).parent / "goldens"
CASES = sorted(path.name for path in GOLDENS.iterdir())
UPDATE = os.environ.get("TUNEC_GOLDENS") == "write"


def words_of(case: Path) -> list[str]:
    """Return the words after `tunec import`: those of command.txt, else the one file of the case."""
    if (case / "command.txt").exists():
        return shlex.split((case / "command.txt").read_text(encoding="utf-8"))
    names = (path.name for path in case.iterdir() if path.is_file())
    return [next(n for n in sorted(names, reverse=True) if not n.startswith(("expected", "ds_")))]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a case, which is the working folder."""
    folder = GOLDENS / str(request.param)
    monkeypatch.chdir(folder)
    return folder


def shown(imported: Imported) -> dict[str, str]:
    """Return what an import is compared by."""
    return {"expected.toml": imported.text, "expected.txt": render_report(imported.remarks)}


def test_import_gives_the_expected_spec(case: Path) -> None:
    """Spec and report are those written down, and the same each time."""
    imported = import_words(words_of(case))
    assert import_words(words_of(case)) == imported
    for name, text in shown(imported).items():
        if UPDATE:
            (case / name).write_text(text, encoding="utf-8", newline="\n")
        assert text == (case / name).read_text(encoding="utf-8")


def test_expected_spec_structures(case: Path) -> None:
    """A spec structures without an error; sections and catalogs are at least TOML."""
    data = tomli.loads(import_words(words_of(case)).text)
    if case.name not in ("dataset_info", "deepspeed"):
        assert [found.message for found in structure(data).diagnostics] == []


def test_no_secret_is_written(case: Path) -> None:
    """Tokens never leave their file."""
    texts = shown(import_words(words_of(case))).values()
    assert all("not_a_real_token" not in text for text in texts)
