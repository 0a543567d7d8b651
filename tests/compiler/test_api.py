"""The interface for programs: specs from and to text, checked and compiled, mistakes as exceptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from specs import documents, specs, values
from tunec import compiler
from tunec.compiler import (
    ApplyError,
    Spec,
    SpecError,
    check,
    cli,
    compile_spec,
    from_json,
    from_toml,
    to_json,
    to_toml,
)
from tunec.compiler.field_types import are_tables, class_of, fields_of, table_classes
from tunec.compiler.render.toml import toml_lines
from tunec.compiler.structure import unstructure

SOUND = """\
[run]
output_dir = "runs/first"

[model]
path = "model"

[data]

[[data.sources]]
format = "messages"
path = "data/chat.jsonl"

[method]
type = "lora"
rank = 4

[batch]
global_size = 4
micro_size = 2
"""
slow = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def sound() -> Spec:
    """A small sound spec."""
    return from_toml(SOUND)


def evolve(table: Any, **changes: Any) -> Any:
    """Return a copy with changes, which need not fit their fields."""
    return attrs.evolve(table, **changes)


def classes(cls: type = Spec) -> Iterator[type]:
    """Yield every class of the spec."""
    yield cls
    for field in fields_of(cls).values():
        for inner in table_classes(field.type):
            yield from classes(inner)


# --- round trips -----------------------------------------------------------------------------------------


@slow
@given(specs())
def test_toml_round_trip(spec: Spec) -> None:
    """What `to_toml` writes, `from_toml` reads back as an equal spec, numbers with their types."""
    text = to_toml(spec)
    read = from_toml(text)
    assert read == spec
    assert repr(read) == repr(spec)
    assert to_toml(read) == text


@slow
@given(specs())
def test_json_round_trip(spec: Spec) -> None:
    """What `to_json` writes, `from_json` reads back as an equal spec; it says the same as the TOML."""
    text = to_json(spec)
    assert repr(from_json(text)) == repr(spec)
    assert json.loads(text) == tomli.loads(to_toml(spec))


@slow
@given(documents())
def test_texts_round_trip(text: str) -> None:
    """A text with all defaults and one without give the same spec again."""
    spec = from_toml(text)
    assert from_toml(to_toml(spec)) == spec


@pytest.mark.parametrize("cls", sorted(set(classes()), key=str))
def test_every_class_is_generated(cls: type) -> None:
    """The strategies know every type of field that the spec uses."""
    for field in fields_of(cls).values():
        assert isinstance(values(field.type), st.SearchStrategy)
    assert are_tables((cls,))


def test_defaults_are_left_out(sound: Spec) -> None:
    """A spec is written as short as its author would write it."""
    assert to_toml(sound) == SOUND


def test_null_is_not_given(sound: Spec) -> None:
    """JSON has a word for what TOML leaves out."""
    data = json.loads(to_json(sound))
    data["model"]["revision"] = None
    data["benchmark"] = None
    assert from_json(json.dumps(data)) == sound


# --- mistakes --------------------------------------------------------------------------------------------


def test_a_wrong_type_in_code(sound: Spec) -> None:
    """Python does not look at types when a spec is built; `check` does, at the line it would stand in."""
    wrong: Any = evolve(sound, method=evolve(sound.method, rank="16"))
    (found,) = check(wrong)
    assert (found.code, found.path, found.message) == (
        "T203",
        ("method", "rank"),
        "`method.rank` is text, expected a whole number",
    )
    for use in (to_toml, to_json, compile_spec):
        with pytest.raises(SpecError) as caught:
            use(wrong)
        assert f"error[T203]: {found.message}\n" in str(caught.value)
        assert ' | rank = "16"\n' in str(caught.value)
        assert str(caught.value).endswith("error" if use is not compile_spec else "errors")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "path", Path("m"), "`model.path` is a PosixPath, expected text"),
        ("model", "path", None, "`model.path` is missing: folder in the Hugging Face layout"),
        ("run", "name", None, "`run.name` is nothing, expected text"),
        ("run", "name", "a\0b", "`run.name` holds a NUL character"),
        ("run", "name", "\ud800", "`run.name` holds half of a surrogate pair"),
        ("training", "seed", 1 << 63, "`training.seed` does not fit into 64 bits"),
        (
            "training",
            "learning_rate",
            float("nan"),
            "`training.learning_rate` is nan, which is no finite number",
        ),
        ("data", "sources", 3, "`data.sources` is a whole number, expected a list of tables"),
        ("tokenizer", "described_tokens", {1: "x"}, "a key of `tokenizer.described_tokens` is no text"),
        ("tokenizer", "described_tokens", {"\0": "x"}, "a key holds a NUL character"),
    ],
)  # fmt: skip
def test_what_only_code_can_say(
    section: str, key: str, value: Any, message: str, sound: Spec
) -> None:
    """Values that no TOML text could hold are findings too, and never a fault of the program."""
    part = evolve(getattr(sound, section), **{key: value})
    wrong = evolve(sound, **{section: part})
    found = check(wrong)
    assert found[0].message.startswith(message)
    with pytest.raises(SpecError, match=r"error\[") as caught:
        to_toml(wrong)
    assert message in str(caught.value)


@slow
@given(specs(), st.data())
def test_any_wrong_value_is_a_finding(spec: Spec, data: st.DataObject) -> None:
    """Whatever stands in a field of a section built in code: findings or none, never another exception."""
    section = data.draw(st.sampled_from(["run", "model", "data", "training", "batch"]))
    table = getattr(spec, section)
    key = data.draw(st.sampled_from(sorted(fields_of(class_of(table)))))
    value: Any = data.draw(
        st.sampled_from([None, b"x", 1j, {1, 2}, (), [[{}]], [{"a": 1}, 2], {"a": {"b": object()}}, "x", 1 << 70])
    )  # fmt: skip
    wrong = evolve(spec, **{section: evolve(table, **{key: value})})
    findings = check(wrong)
    if any(item.code.startswith("T20") or item.code.startswith("P1") for item in findings):
        with pytest.raises(SpecError, match=r"error\["):
            to_toml(wrong)
    else:
        assert from_toml(to_toml(wrong)) is not None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            '{"a": 1,}',
            "error[P150]: the text is not JSON: expecting property name enclosed in double quotes\n --> spec.json:1:9\n",
        ),
        ("[]", "error[P150]: the JSON is no object\n"),
        ('{"run": 1, "run": 2}', "error[P104]: `run` is defined twice\n"),
        ('{"run": NaN}', "error[P150]: the text is not JSON: `NaN` is no number of JSON\n"),
        ('{"run": {"name": 1e999}}', "error[P109]: `run.name` is inf, which is no finite number\n"),
        ('{"a":' * 70 + "1" + "}" * 70, "error[P105]: values are nested deeper than 64 levels\n"),
        ("[" * 100_000, "error[P150]: "),
        ('{"\\ud800": 1}', "error[P102]: a key holds half of a surrogate pair\n"),
        ('{"run": {"output_dir": "x", "nmae": "y"}}', "error[T201]: unknown key `nmae` in `[run]`\n"),
    ],
)  # fmt: skip
def test_json_that_is_no_spec(text: str, shown: str) -> None:
    """Mistakes in JSON are findings as well."""
    with pytest.raises(SpecError) as caught:
        from_json(text)
    assert shown in str(caught.value)


@slow
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))  # fmt: skip
def test_any_json(value: Any) -> None:
    """Any JSON is a spec or a `SpecError`."""
    with pytest.raises(SpecError) as caught:
        from_json(json.dumps({"run": value, "data": {"sources": value}}))
    assert str(caught.value)


def test_toml_that_is_no_spec(tmp_path: Path) -> None:
    """A text, a file, a base and a setting: each mistake says where it is."""
    file = tmp_path / "run.toml"
    file.write_text('extends = ["base.toml"]\n')
    cases: list[tuple[str | Path, list[str], str]] = [
        ("[run\n", [], "error[P127]: the table header is not closed\n --> spec.toml:1:5\n"),
        (SOUND, ["run.name"], "error[P140]: the flag is no `key=value`\n --> --set run.name\n"),
        (file, [], f"error[P131]: the base `base.toml` cannot be used: the file does not exist\n --> {file}:1:12\n"),
        (tmp_path, [], "error[P114]: this is a folder, not a regular file\n"),
        (SOUND.replace("4", '"4"', 1), [], "error[T203]: `method.rank` is text, expected a whole number\n"),
    ]  # fmt: skip
    for source, changes, shown in cases:
        with pytest.raises(SpecError) as caught:
            from_toml(source, settings=changes)
        assert str(caught.value).startswith(shown)
        assert caught.value.diagnostics[0].code in shown


def test_a_name_is_no_text() -> None:
    """The name of a file as text is a fault of the program that gives it, and the message says what to write."""
    with pytest.raises(TypeError, match=r"from_toml\(Path\('run\.toml'\)\)"):
        from_toml("run.toml")


def test_check_asks_the_rules(sound: Spec, workspace: Path) -> None:
    """Rules see a spec built in code; with a folder they also see the files it names."""
    spec = evolve(sound, batch=evolve(sound.batch, micro_size=3))
    assert [item.code for item in check(spec)] == ["R811"]
    assert check(sound) == ()
    gone = evolve(sound, model=evolve(sound.model, path="none"))
    assert check(gone) == ()
    assert "M601" in [item.code for item in check(gone, base_dir=workspace)]


# --- compiling -------------------------------------------------------------------------------------------


def test_compile_writes_what_the_command_writes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files, byte for byte, whichever way they are made."""
    path = tiny.write_spec(workspace / "spec.toml", "")
    run_dir = compile_spec(from_toml(path), base_dir=workspace)
    assert run_dir == workspace / "runs" / "first"
    made = {file.name: file.read_bytes() for file in run_dir.iterdir()}
    for file in run_dir.iterdir():
        file.unlink()
    monkeypatch.chdir(workspace)
    with pytest.raises(SystemExit):
        cli.main(["compile", "spec.toml"])
    assert {file.name: file.read_bytes() for file in run_dir.iterdir()} == made


def test_compile_keeps_edits(workspace: Path) -> None:
    """A file changed by hand is not written over unless it is given up."""
    spec = from_toml(tiny.write_spec(workspace / "spec.toml", ""))
    program = compile_spec(spec, base_dir=workspace) / "train.py"
    program.write_text("mine\n")
    with pytest.raises(ApplyError, match="changed by hand"):
        compile_spec(spec, base_dir=workspace)
    compile_spec(spec, base_dir=workspace, force=True)
    assert program.read_text() != "mine\n"


def test_errors_compile_to_nothing(sound: Spec, workspace: Path) -> None:
    """A spec with errors raises, and writes no file."""
    spec = evolve(sound, batch=evolve(sound.batch, micro_size=3))
    with pytest.raises(SpecError, match="R811"):
        compile_spec(spec, base_dir=workspace)
    assert not (workspace / "runs").exists()


# --- the module ------------------------------------------------------------------------------------------


def test_importing_is_cheap() -> None:
    """`import tunec.compiler` loads none of its modules; every name of the interface is there when asked for."""
    script = (
        "import sys, tunec.compiler as c\n"
        "print([n for n in sys.modules if n.startswith(('tunec.compiler.', 'attr', 'cattr', 'jinja', 'tomli'))])\n"
        "print(all(getattr(c, name) for name in c.__all__), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "[]\nTrue False\n"


def test_a_name_that_is_not_there() -> None:
    """Any other name is an AttributeError as in every module."""
    with pytest.raises(
        AttributeError, match=r"module 'tunec\.compiler' has no attribute 'nothing'"
    ):
        _ = compiler.nothing


def test_the_text_of_data_is_lines() -> None:
    """The text in which findings about code are shown holds every value on its line."""
    spec = from_toml(SOUND)
    data = unstructure(spec)
    assert tomli.loads("\n".join(toml_lines(data))) == data
