"""`tunec explain`: every code and every setting has an explanation that says something."""

from __future__ import annotations

import re

import pytest

from tunec.compiler import allow, document, structure
from tunec.compiler.codes import all_codes
from tunec.compiler.explain import explain, similar
from tunec.compiler.rules import RULES
from tunec.compiler.settings import all_settings

CODES = list(all_codes())
PATHS = sorted({item.path for item in all_settings()})


def test_codes_are_used_once() -> None:
    """Rules, parser, structure and `[allow]` share no code."""
    rules = [rule.code for rule in RULES]
    assert sorted(CODES) == sorted([*rules, *document.CODES, *structure.CODES, *allow.CODES])


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
    assert not re.search(r"None|True|False|\(\)|'|<class|\bint\b|\bstr\b", kind)
    assert len(body.split()) > 1
    assert body.rstrip()[-1] in ".)`"
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("run.output_dir", "run.output_dir: text, required"),
        ("data.shuffle", "data.shuffle: true | false, default true"),
        ("data.eval_sources", "data.eval_sources: list of tables, default []"),
        ("training.steps", "training.steps: whole number, at least 1"),
        ("method.type", 'method.type: "lora", required'),
        ("data.eval_rows", "data.eval_rows: number, 0 or more, default 0"),
        ("method.layers", "method.layers: list of whole numbers, 0 or more, default []"),
        ("method.rank_pattern", "method.rank_pattern: table of NAME = whole number, at least 1"),
        ("method.init", 'method.init: table, default type = "default"'),
        ("deepspeed.zero_stage", "deepspeed.zero_stage: 0 | 1 | 2 | 3, default 2"),
        ("data.sources.limit", "data.sources.limit: whole number, at least 1"),
    ],
)
def test_types_and_defaults(path: str, head: str) -> None:
    """Types are named as people name them; a default is written as it is in TOML."""
    text = explain(path)
    assert text is not None
    assert text.splitlines()[0] == head


def test_a_setting_of_several_kinds_names_them_all() -> None:
    """Kinds that say the same about a key are named together, others apart."""
    text = explain("data.sources.content")
    assert text == (
        'data.sources.content: text, default "content"\n'
        '  [[data.sources]] format = "messages": Key of a message\'s text.\n\n'
        'data.sources.content: text, default "value"\n'
        '  [[data.sources]] format = "sharegpt": Key of a message\'s text.\n'
    )
    text = explain("method.dropout")
    assert text is not None
    assert (
        '  [method] type = "lora" | "adalora" | "vera" | "randlora" | "miss" | "vblora": Dropout on the adapters'
        in text
    )


def test_one_kind_can_be_asked_for() -> None:
    """`method[vera].rank` is that of VeRA alone, `method[full]` all there is to that kind."""
    text = explain("method[vera].rank")
    assert text is not None
    assert text.startswith(
        "method.rank: whole number, at least 1, default 256\n"
        '  [method] type = "vera": Inner dimension.\n\n'
        "checked by "
    )
    assert text.count("method.rank") == 1
    assert explain("method[full]") == '[method] type = "full": All parameters.\n'
    assert explain("method[full].rank") is None
    assert explain("method[nonsense]") is None


def test_sections_of_many_kinds_list_them() -> None:
    """One line a kind, and how to see one of them."""
    text = explain("method")
    assert text is not None
    assert text.startswith(
        "method: table, required\n  Which parameters are trained.\n\nkinds of [method]:\n"
    )
    assert '\n  type = "full": All parameters.\n' in text
    assert text.endswith("\nmore: tunec explain 'method[lora]'\n")


def test_a_section_shows_its_keys() -> None:
    """With type, range, default and meaning."""
    text = explain("batch")
    assert text is not None
    assert text.startswith("batch: table, required\n  Batch arithmetic.\n\n[batch]: ")
    assert "\n  micro_size: whole number, at least 1\n    Samples" in text


def test_nested_tables_are_explained() -> None:
    """A table inside a kind of a table, inside a section."""
    text = explain("objective[sft].loss[asft].reference")
    assert text is not None
    assert text.startswith('objective.loss.reference: table, default type = "start"\n')
    assert (
        '\n[objective.loss.reference] type = "model": Another model.\n  path: text, required\n'
        in text
    )


def test_rules_about_a_key_are_named() -> None:
    """Those whose failing example sets it."""
    text = explain("batch.micro_size")
    assert text is not None
    assert text.splitlines()[-1].startswith("checked by ")
    assert "R811 (batch does not divide)" in text.splitlines()[-1]


def test_unknown_topics() -> None:
    """What nobody knows is None, and names like it are offered."""
    assert explain("nonsense") is None
    assert explain("method..rank") is None
    assert explain("[method]") is None
    assert similar("learning_rte") == ["training.learning_rate"]
    assert similar("batch.microsize")[0] == "batch.micro_size"
    assert "R811" in similar("r8111")


def test_names_in_any_case_and_codes_by_name() -> None:
    """A code may be written small; its name stands behind it."""
    text = explain("p101")
    assert text is not None
    assert text.startswith("P101: byte order mark\n\nThe file starts with")


def test_extends_is_explained() -> None:
    """The one key outside of sections has its text, and the overview leads to it."""
    text = explain("extends")
    assert text is not None
    assert text.startswith("extends: list of texts, at the top of the file\n\n`extends` is a list")
    assert "Paths inside any of the files count from the folder of the file that is" in text
    assert "tunec explain extends" in (explain("") or "")
