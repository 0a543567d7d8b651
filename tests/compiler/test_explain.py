"""`tunec explain`: every code and every setting has an explanation that says something."""

from __future__ import annotations

import re

import pytest

from tunec.compiler import document, structure
from tunec.compiler.explain import _settings, explain, similar
from tunec.compiler.rules import RULES

CODES = [rule.code for rule in RULES] + [*document.CODES, *structure.CODES]
PATHS = sorted({path for path, _ in _settings()})


def test_codes_are_used_once() -> None:
    """Rules, parser and structure share no code."""
    assert len(set(CODES)) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str) -> None:
    """The explanation of a code starts with it, and is a text of sentences that ends with a line break."""
    text = explain(code)
    assert text is not None
    assert text.startswith(code)
    assert len(text.split()) > 5
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("code", [rule.code for rule in RULES])
def test_rules_show_both_examples(code: str) -> None:
    """The explanation of a rule shows what fails and what passes, at the margin."""
    text = explain(code)
    assert text is not None
    assert re.search(r"^Fails:\n```toml\n\[", text, re.MULTILINE)
    assert re.search(r"^Passes:\n```toml\n\[", text, re.MULTILINE)


@pytest.mark.parametrize("path", PATHS)
def test_every_setting_is_explained(path: str) -> None:
    """Type, default and meaning of each setting, in TOML's words."""
    text = explain(path)
    assert text is not None
    head, body, *_ = text.splitlines()
    assert head.startswith(f"{path}: ")
    kind = head.removeprefix(f"{path}: ")
    assert not re.search(r"None|True|False|\(\)|'|<class|int\b|str\b", kind)
    assert len(body.split()) > 1
    assert body.rstrip()[-1] in ".)`"


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("run.output_dir", "run.output_dir: text, required"),
        ("data.shuffle", "data.shuffle: true | false, default true"),
        ("data.eval_sources", "data.eval_sources: list of tables, default []"),
        ("training.steps", "training.steps: whole number"),
        ("training.precision", 'training.precision: "fp32" | "bf16" | "fp16", default "bf16"'),
        ("deepspeed.zero_stage", "deepspeed.zero_stage: 0 | 1 | 2 | 3, default 2"),
        ("data.sources.limit", "data.sources.limit: whole number"),
    ],
)
def test_types_and_defaults(path: str, head: str) -> None:
    """Types are named as people name them; a default is written as it is in TOML."""
    text = explain(path)
    assert text is not None
    assert text.splitlines()[0] == head


def test_a_setting_of_several_kinds_names_them_all() -> None:
    """`data.sources.path` belongs to both formats, and says so."""
    text = explain("data.sources.path")
    assert text is not None
    assert '[data.sources] format = "alpaca"' in text
    assert '[data.sources] format = "messages"' in text


def test_unknown_topics() -> None:
    """What nobody knows is None, and names like it are offered."""
    assert explain("nonsense") is None
    assert similar("learning_rte") == ["training.learning_rate"]
    assert similar("batch.microsize")[0] == "batch.micro_size"
    assert "R811" in similar("r8111")
