"""Registries of LLaMA-Factory: every key of an entry has its counterpart, and the catalog is one that a spec can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from tunec.compiler.cli import main
from tunec.compiler.facts.catalog import read_entry
from tunec.compiler.importers.draft import Kind
from tunec.compiler.importers.homes import DATASET_INFO
from tunec.compiler.importers.importer import Imported, import_words
from tunec.compiler.spec import CatalogSource

TAGS = {
    "role_tag": "who",
    "content_tag": "text",
    "user_tag": "U",
    "assistant_tag": "A",
    "observation_tag": "O",
    "function_tag": "F",
    "system_tag": "S",
}
TAGGED = {
    "role": "who",
    "content": "text",
    "user_tag": "U",
    "assistant_tag": "A",
    "tool_result_tag": "O",
    "tool_call_tag": "F",
    "system_tag": "S",
}
MEDIA = {name: name for name in ("images", "videos", "audios")}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "file": ({"file_name": "a.json"}, {"format": "alpaca", "path": "a.json"}),
    "folder": ({"file_name": "rows"}, {"format": "alpaca", "path": "rows"}),
    "hub": (
        {"hf_hub_url": "o/d", "subset": "x", "split": "test", "folder": "f", "num_samples": 12},
        {"format": "alpaca", "path": "o/d", "hub": "huggingface", "subset": "x", "split": "test", "folder": "f", "sample": 12},
    ),
    "modelscope": ({"ms_hub_url": "o/d"}, {"format": "alpaca", "path": "o/d", "hub": "modelscope"}),
    "modelers": ({"om_hub_url": "o/d"}, {"format": "alpaca", "path": "o/d", "hub": "modelers"}),
    "cloud": (
        {"cloud_file_name": "s3://b/a.json"},
        {"format": "alpaca", "path": "s3://b/a.json"},
    ),
    "columns": (
        {"file_name": "a", "columns": {"prompt": "q", "query": "i", "response": "r", "history": "h", "system": "s", "tools": "t"}},
        {"format": "alpaca", "path": "a", "instruction": "q", "input": "i", "output": "r", "history": "h", "system": "s", "tools": "t"},
    ),
    "ranked": (
        {"file_name": "a", "ranking": True, "columns": {"prompt": "q", "query": "i", "chosen": "c", "rejected": "r"}},
        {"format": "alpaca", "path": "a", "instruction": "q", "input": "i", "chosen": "c", "rejected": "r"},
    ),
    "ranked, not said": (
        {"file_name": "a", "columns": {"prompt": "q", "query": "i", "response": "r", "chosen": "c", "rejected": "w"}},
        {"format": "alpaca", "path": "a", "instruction": "q", "input": "i", "output": "r"},
    ),
    "judged": (
        {"file_name": "a", "columns": {"prompt": "q", "query": "i", "response": "r", "kto_tag": "k"}},
        {"format": "alpaca", "path": "a", "instruction": "q", "input": "i", "output": "r", "label": "k"},
    ),
    "text": (
        {"file_name": "a", "columns": {"prompt": "text"}},
        {"format": "text", "path": "a", "text": "text"},
    ),
    "sharegpt": (
        {"file_name": "a", "formatting": "sharegpt", "columns": {"messages": "m", "system": "s", "tools": "t", **MEDIA}, "tags": TAGS},
        {"format": "sharegpt", "path": "a", "messages": "m", "system": "s", "tools": "t", **MEDIA, **TAGGED},
    ),
    "openai": (
        {"file_name": "a", "formatting": "openai", "tags": {"role_tag": "role", "content_tag": "content"}},
        {"format": "messages", "path": "a", "messages": "conversations", "role": "role", "content": "content"},
    ),
}  # fmt: skip


def imported(folder: Path, **entries: Any) -> Imported:
    """Import a registry."""
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(entries))
    return import_words([str(path)], None, folder)


@pytest.mark.parametrize("case", CASES)
def test_entries(case: str, tmp_path: Path) -> None:
    """Each entry becomes a table with the same meaning, and a spec that names it gets that source."""
    entry, expected = CASES[case]
    found = imported(tmp_path, rows=entry)
    assert tomli.loads(found.text) == {"rows": expected}
    (tmp_path / "datasets.toml").write_text(found.text)
    read = read_entry(tmp_path, CatalogSource(format="catalog", entry="rows"))
    assert (read.problem, read.source and read.source.path) == ("", expected["path"])
    lost = [remark.key for remark in found.remarks if remark.kind is Kind.LOST]
    assert lost == []


def test_every_key_is_among_them() -> None:
    """The cases name every key of the registry but the one that is refused."""
    keys = set()
    for entry, _ in CASES.values():
        for name, value in entry.items():
            inner = value if isinstance(value, dict) else {}
            keys |= {name, *(f"{name}.{key}" for key in inner)}
    assert set(DATASET_INFO) - keys == {"script_url"}


def test_scripts_are_refused_with_the_reason(tmp_path: Path) -> None:
    """What cannot be is said, with what to do instead."""
    found = imported(tmp_path, old={"script_url": "x"})
    (remark,) = found.remarks
    assert remark.key == "dataset_info.json: old.script_url"
    assert remark.text.startswith("loading scripts run code of strangers")
    assert not found.is_whole


def test_a_catalog_stands_beside_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths in a catalog start from its own folder, wherever that is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    registry = {"rows": {"file_name": "a.json"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(registry))
    for output, path in (
        ("datasets.toml", "data/a.json"),
        ("data/datasets.toml", "a.json"),
        ("sets/datasets.toml", "../data/a.json"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["import", "data/dataset_info.json", "-o", output])
        assert end.value.code == 0
        assert tomli.loads(Path(output).read_text())["rows"]["path"] == path
    capsys.readouterr()
