"""Sources in programs: what is written of each, and what is said of one that cannot be read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan.honoured import WrittenSource, written_sources
from tunec.compiler.render import render_files
from tunec.compiler.render.sources import CLASSES
from tunec.runtime import data

SPEC = """
[run]
output_dir = "run"
[model]
path = "model"
[data]
max_length = 96
sources = [{ %s }]
[method]
type = "lora"
[training]
steps = 2
[batch]
micro_size = 1
accumulation_steps = 1
[launch]
device = "cpu"
"""


@pytest.fixture
def chats(workspace: Path) -> Path:
    """The common workspace with one more file and a catalog."""
    rows = [{"instruction": "q", "output": "a"}] * 4
    (workspace / "data" / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (workspace / "data" / "sets.toml").write_text(
        '[facts]\nformat = "alpaca"\npath = "facts.jsonl"\nsample = 2\n'
        '[pairs]\nformat = "preference"\npath = "facts.jsonl"\n'
        '[photos]\nformat = "alpaca"\npath = "facts.jsonl"\nimages = "photos"\n'
    )
    return workspace


def compiled(workspace: Path, source: str) -> tuple[list[str], str]:
    """Return the findings of a spec with this source, and the program that prepares its data."""
    path = workspace / "spec.toml"
    path.write_text(SPEC % source)
    analysis = analyse(path, {})
    errors = [f"{d.code} {d.message}" for d in analysis.diagnostics if d.level.name == "ERROR"]
    return errors, "" if errors else render_files(plan_of(analysis))["prepare.py"]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: CLASSES[cls])
def test_the_runtime_has_the_same_settings(cls: Any) -> None:
    """A setting that is not written means the same on both sides: names and defaults agree."""
    ours = {field.name: field.default for field in attrs.fields(cls)}
    theirs = dataclasses.fields(getattr(data, CLASSES[cls]))
    for field in theirs:
        if field.default is not dataclasses.MISSING:
            assert ours[field.name] == field.default


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/chat.jsonl", "chat"),
        ("data/many", "many"),
        ("data/many/*.jsonl", "many"),
        ("data/cha?.jsonl", "data"),
    ],
)
def test_files_folders_and_patterns(chats: Path, path: str, name: str) -> None:
    """All of them compile; the name is that of the file or folder."""
    (chats / "data" / "many").mkdir(exist_ok=True)
    (chats / "data" / "many" / "a.jsonl").write_bytes((chats / "data" / "chat.jsonl").read_bytes())
    errors, program = compiled(chats, f'format = "messages", path = "{path}"')
    assert errors == []
    assert f'path=RUN_DIR / "../{path}",' in program
    assert f'name="{name}",' in program


def test_a_catalog_is_shown_as_its_entry(chats: Path) -> None:
    """The program names the real file, from the catalog's own folder, with what the spec changes."""
    errors, program = compiled(
        chats, 'format = "catalog", entry = "facts", catalog = "data/sets.toml", limit = 3'
    )
    assert errors == []
    assert (
        """                data.Alpaca(
                    path=RUN_DIR / "../data/facts.jsonl",
                    name="facts",
                    limit=3,
                    sample=2,
                ),
"""
        in program
    )


@pytest.mark.parametrize(
    ("entry", "finding"),
    [
        ("pairs", "D707 `sft` learns from conversations, this source holds preference pairs"),
        ("photos", "N901 `data.sources[0].images` is not available yet"),
    ],
)
def test_what_a_catalog_declares_is_judged(chats: Path, entry: str, finding: str) -> None:
    """A setting is never ignored, wherever it stands."""
    source = f'format = "catalog", entry = "{entry}", catalog = "data/sets.toml"'
    assert finding in compiled(chats, source)[0]


def test_drawn_rows_are_not_counted(chats: Path) -> None:
    """A number of rows that only preparation knows is not claimed."""
    path = chats / "spec.toml"
    for source, known in (
        ('format = "messages", path = "data/chat.jsonl"', True),
        ('format = "messages", path = "data/chat.jsonl", sample = 2', False),
        ('format = "catalog", entry = "facts", catalog = "data/sets.toml"', False),
    ):
        path.write_text(SPEC % source)
        plan = plan_of(analyse(path, {}))
        assert (plan.duration.num_rows is not None) is known
        assert isinstance(written_sources(plan.spec, plan.facts)[0][0], WrittenSource)
