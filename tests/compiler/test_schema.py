"""The JSON Schema: what editors accept is what the compiler accepts, as far as a schema can say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
import tomli

import tiny
from tunec.compiler import cli
from tunec.compiler.document import parse_document
from tunec.compiler.rules import RULES
from tunec.compiler.rules.ranges import RANGES
from tunec.compiler.schema import DRAFT, schema_text, spec_schema
from tunec.compiler.settings import all_settings
from tunec.compiler.spec import Spec
from tunec.compiler.structure import structure

ROOT = Path(__file__).parents[2]
SCHEMA = spec_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
SPECS = [
    path
    for folder in (ROOT / "examples", ROOT / "tests" / "golden")
    for path in sorted(folder.rglob("*.toml"))
    if "runs" not in path.parts
]


def faults(text: str) -> list[str]:
    """Return what the schema says against a spec."""
    return [fault.message for fault in VALIDATOR.iter_errors(tomli.loads(text))]


def test_the_schema_is_one() -> None:
    """It is valid draft 7, with a reference for every definition and a definition for every reference."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DRAFT
    used = {value.rpartition("/")[2] for key, value in pairs(SCHEMA) if key == "$ref"}
    assert used == set(SCHEMA["definitions"])


def pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested data."""
    if isinstance(value, dict):
        yield from value.items()
        for item in value.values():
            yield from pairs(item)
    elif isinstance(value, list):
        for item in value:
            yield from pairs(item)


def test_editors_that_know_no_conditions_are_served() -> None:
    """taplo ignores `if`, and what stands beside `$ref` is ignored by the draft."""
    for value in (v for _, v in pairs({"": SCHEMA}) if isinstance(v, dict)):
        assert "if" not in value
        assert "$ref" not in value or len(value) == 1


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))
def test_specs_of_the_tree_are_valid(path: Path) -> None:
    """Examples and golden specs, the resolved ones too."""
    assert faults(path.read_text()) == []


def test_the_base_of_the_tests_and_of_the_rules_is_valid() -> None:
    """What passes a rule passes the schema."""
    assert faults(tiny.BASE) == []
    for rule in RULES:
        block = rule.explanation.rpartition("Passes:")[2].split("```")[1].removeprefix("toml\n")
        text = "\n".join(line.strip() for line in block.splitlines())
        assert faults(text) == [], rule.code


MISTAKES = [
    "[nonsense]\n",
    "[run]\nnonsense = 1\n",
    "[run]\nname = 1\n",
    "run = 1\n",
    'extends = "base.toml"\n',
    '[method]\ntype = "lorra"\n',
    '[method]\ntype = "lora"\nrank = "16"\n',
    '[method]\ntype = "lora"\nrank = 1.5\n',
    '[method]\ntype = "lora"\nrank = true\n',
    '[method]\ntype = "lora"\nrank = 0\n',
    '[method]\ntype = "full"\nrank = 8\n',
    '[method]\ntype = "lora"\ntargets = "q_proj"\n',
    '[method]\ntype = "lora"\ntargets = [1]\n',
    '[method]\ntype = "lora"\nrank_pattern = { q = "x" }\n',
    '[method]\ntype = "lora"\ninit = { type = "pissa", bits = 4 }\n',
    '[data]\nsources = { format = "messages", path = "x" }\n',
    '[[data.sources]]\nformat = "messages"\ncolumn = "x"\n',
    '[[data.sources]]\npath = "x"\n',
    '[[data.sources]]\nformat = "messages"\npath = "x"\nlimit = 0\n',
    "[training]\nlearning_rate = 1\n",
    "[training]\nlearning_rate = 0\n",
    '[training]\nprecision = "BF16"\n',
    "[deepspeed]\nzero_stage = 4\n",
    "[allow]\nR806 = 1\n",
]


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_refused(text: str) -> None:
    """What the compiler refuses for its type, kind or range, the schema refuses."""
    assert faults(text) != []


@pytest.mark.parametrize("text", MISTAKES)
def test_the_compiler_refuses_them_as_well(text: str) -> None:
    """The list above holds mistakes and nothing else; ranges and `extends` are judged elsewhere."""
    data = parse_document(text, "s").data
    found = [item for item in structure(data).diagnostics if item.path[:1] == (next(iter(data)),)]
    is_elsewhere = "extends" in data or any(t in text for t in ("rank = 0", "_rate", "limit = 0"))
    assert found or is_elsewhere


def test_every_key_is_there_with_its_text() -> None:
    """Descriptions are what an editor shows; a key without one would be a riddle."""
    assert set(SCHEMA["properties"]) == {"extends", *attrs.fields_dict(Spec)}
    for _, value in pairs(SCHEMA):
        for name, item in value.get("properties", {}).items() if isinstance(value, dict) else ():
            assert item.get("description"), name


def test_every_range_is_used() -> None:
    """A range for a key that does not exist would be forgotten without a word."""
    names = {name for item in all_settings() for name in item.range_names}
    assert set(RANGES) - names == set()


def test_defaults_and_choices_are_offered() -> None:
    """What an editor proposes."""
    training = SCHEMA["definitions"]["Training"]["properties"]
    assert training["precision"]["default"] == "bf16"
    assert "fp32" in training["precision"]["enum"]
    assert training["learning_rate"]["exclusiveMaximum"] == 1
    lora = SCHEMA["definitions"]["Lora"]["properties"]
    assert (lora["rank"]["default"], lora["rank"]["minimum"]) == (8, 1)
    assert lora["type"]["const"] == "lora"


def test_the_verb_prints_or_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tunec schema` prints, `--output` writes."""
    assert run("schema") == 0
    assert capsys.readouterr().out == schema_text()
    file = tmp_path / "sub" / "x.json"
    assert run("schema", "--output", str(file)) == 0
    assert json.loads(file.read_text()) == SCHEMA


def test_a_starter_spec_brings_the_schema(tmp_path: Path) -> None:
    """`tunec new` writes the schema beside the spec, which names it where editors look."""
    spec = tmp_path / "run.toml"
    assert run("new", str(spec)) == 0
    assert spec.read_text().splitlines()[:2] == ["#:schema ./tunec.schema.json", ""]
    assert json.loads((tmp_path / "tunec.schema.json").read_text()) == SCHEMA
    assert faults(spec.read_text()) == []
    assert run("new", str(tmp_path / "other.toml"), "--no-schema") == 0
    assert "#:schema" not in (tmp_path / "other.toml").read_text()


def run(*words: str) -> int:
    """Run the command line and return its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert isinstance(end.value.code, int)
    return end.value.code
