"""A folder with everything that examples of rules name, and ways to check a few lines of TOML in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunec.compiler.diagnostics import Diagnostic
from tunec.compiler.pipeline import analyse


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with everything that the examples in the rules' docstrings name."""
    base = tmp_path_factory.mktemp("rules")
    for name in ("model", "torn-model", "bare-model", "untemplated-model"):
        shutil.copytree(tiny_model, base / name)
    weights = base / "torn-model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (base / "bare-model" / "tokenizer.json").unlink()
    (base / "untemplated-model" / "chat_template.jinja").unlink()
    (base / "model.gguf").write_bytes(b"GGUF")
    tiny.write_chats(base / "data" / "chat.jsonl", 24)
    tiny.write_chats(base / "data" / "more.jsonl", 6, seed=1)
    rows = (base / "data" / "chat.jsonl").read_text().splitlines()[:2]
    (base / "data" / "bad.jsonl").write_text("\n".join([*rows, tiny.BAD_ROW]) + "\n")
    (base / "data" / "empty.jsonl").write_text("\n")
    tiny.write_kinds(base)
    tiny.write_models(base)
    (base / "other").mkdir()
    (base / "other" / "thesis.tex").write_text("\\begin{document}")
    return base


@pytest.fixture
def found(folder: Path) -> Callable[..., tuple[Diagnostic, ...]]:
    """Lay a TOML block over the base spec and return the findings."""

    def find(text: str, **options: Any) -> tuple[Diagnostic, ...]:
        spec = tiny.write_over(folder / "spec.toml", text)
        return analyse(spec, {}, **options).diagnostics

    return find


@pytest.fixture
def only(found: Callable[..., tuple[Diagnostic, ...]]) -> Callable[[str], Diagnostic]:
    """Lay a TOML block over the base spec and return its one finding."""

    def find(text: str) -> Diagnostic:
        (finding,) = found(text)
        return finding

    return find


@pytest.fixture
def told(found: Callable[..., tuple[Diagnostic, ...]]) -> Callable[[str], list[Diagnostic]]:
    """Lay a TOML block over the base spec and return its findings, but not that something is not available yet."""

    def find(text: str) -> list[Diagnostic]:
        return [item for item in found(text) if item.code != "N901"]

    return find
