"""Any text in any field is data everywhere: in programs, scripts, files and reports, or it is refused."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from hostile import HOSTILE, INVISIBLE, KEY, Place, filled, groups, path_of, text_places
from tunec.compiler.cli import main
from tunec.compiler.document import DocumentError, parse_document
from tunec.compiler.facts import gather
from tunec.compiler.pipeline import Analysis, analyse
from tunec.compiler.plan import Plan, make_plan
from tunec.compiler.render import render_files
from tunec.compiler.render.toml import toml_lines
from tunec.compiler.report import render_json, render_text
from tunec.compiler.rules import check as check_rules
from tunec.compiler.rules.available import check_available
from tunec.compiler.schema import schema_text
from tunec.compiler.show import resolve_broken
from tunec.compiler.spec import Local
from tunec.compiler.structure import structure, unstructure, written_values

ALL = (*HOSTILE, *INVISIBLE, "")
LONG = "x'\"$(touch pwned)" * 400
CONTROLS = frozenset(map(chr, (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066)))
MARK = "harmless"


def shown(value: str) -> str:
    """Return a text as the name of a test."""
    return ascii(value)[:24]


def to_toml(data: dict[str, Any]) -> str:
    """Return data as TOML."""
    return "\n".join(toml_lines(data)) + "\n"


# --- every field -----------------------------------------------------------------------------------------


def test_the_places_are_all_there() -> None:
    """Texts, elements of lists, keys and values of mappings, in every kind of every section."""
    names = {place.name for place in text_places()}
    assert {
        "run.output_dir",
        "method[lora].targets.*",
        "allow<key>",
        "allow<value>",
        "data.sources.*[alpaca].instruction",
        "generation.system",
    } <= names
    assert len(names) > 200
    assert sum(len(places) for places in groups()) == len(text_places())


TEXTS = (*ALL, LONG)


def some_groups(value: str) -> tuple[tuple[Place, ...], ...]:
    """Return an eighth of the groups, another one for the next text: what is slow is not asked of every pair."""
    return groups()[TEXTS.index(value) % 8 :: 8]


@pytest.mark.parametrize("value", TEXTS, ids=shown)
def test_any_text_survives_structure(value: str) -> None:
    """In every field that takes a text, it comes out of TOML and structure as exactly that text."""
    for places in groups():
        result = structure(tomli.loads(to_toml(filled(places, value))))
        assert result.diagnostics == ()
        plain = unstructure(result.spec)
        assert [place.read(plain) for place in places] == [value] * len(places)


@pytest.mark.parametrize("value", TEXTS, ids=shown)
def test_any_text_survives_files(value: str) -> None:
    """Written as TOML and JSON, whole or without defaults, and by `show`, it reads back as exactly that text."""
    for places in some_groups(value):
        document = parse_document(to_toml(filled(places, value)), "spec.toml")
        result = structure(document.data)
        plain, resolved = (
            unstructure(result.spec),
            resolve_broken(result.spec, document, result.broken),
        )
        for form in (
            tomli.loads(to_toml(plain)),
            json.loads(json.dumps(plain)),
            tomli.loads(resolved.toml()),
            json.loads(resolved.json())["spec"],
        ):
            assert [place.read(form) for place in places] == [value] * len(places)
        assert structure(written_values(result.spec)).spec == result.spec


@pytest.mark.parametrize("value", TEXTS, ids=shown)
def test_any_text_can_be_judged(value: str) -> None:
    """No rule raises for any text, and every finding has a place and fits into every report."""
    for places in some_groups(value):
        document = parse_document(to_toml(filled(places, value)), "spec.toml")
        result = structure(document.data)
        findings = [*document.warnings, *check_rules(result.spec, None)]
        report = render_text(findings, document, color=False, width=100)
        assert not CONTROLS - {"\n"} & set(report)
        assert len(json.loads(render_json(findings, document))["diagnostics"]) <= len(findings)


def test_characters_that_no_text_can_hold_are_refused() -> None:
    """NUL and halves of surrogate pairs do not get past TOML, however they are written."""
    for written in (
        '"\\u0000"',
        '"\\U00000000"',
        '"\\ud800"',
        '"\\udfff"',
        '"\\U0011FFFF"',
        '"a\0"',
        "'\0'",
    ):
        with pytest.raises(DocumentError):
            parse_document(f"[run]\nname = {written}\n", "spec.toml")
    with pytest.raises(DocumentError):
        parse_document("[run]\nname = '\ud800'\n", "spec.toml")


def test_a_text_of_a_mebibyte_is_shown_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longest text a spec can hold is judged, and cut where it is shown."""
    path = tmp_path / "spec.toml"
    for key in ("path", "hub", "attention", "token_env", "x" * 400_000):
        path.write_text(SPEC.format(text='"x"', key="k", extra="").replace("token_env", key))
        text = path.read_text().replace(f'{key} = "x"', f'{key} = "{"y" * 600_000}"', 1)
        path.write_text(text)
        with pytest.raises(SystemExit):
            main(["check", str(path)])
        output = capsys.readouterr().out
        assert "error[" in output
        assert len(output) < 20_000


# --- what compiles today ----------------------------------------------------------------------------------


CLOSED = frozenset({"template[named].name"})
"""Texts that rules (M630) take only from a list: there is nothing to render for another one."""


def is_available(place: Place) -> bool:
    """Tell whether a spec with that field, and nothing else of its kind, compiles today."""
    if place.name in CLOSED or "[catalog]" in place.name:
        # What a catalog's name and entry lead to stands in the programs, not they.
        return False
    spec = structure(place.make("text")).spec
    return not list(check_available(spec)) and isinstance(spec.launch, Local)


def plan_of(data: dict[str, Any], base: Path, name: str = "spec.toml") -> Plan:
    """Return the plan of a spec. Rules are not asked: they refuse some of the texts."""
    result = structure(data)
    assert result.diagnostics == ()
    return make_plan(result.spec, gather(result.spec, base / "spec.toml", {}), spec_name=name)


def constants(program: str) -> list[Any]:
    """Return every constant of a program in the order of its text."""
    return [node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)]


def shape(program: str) -> list[str]:
    """Return the kinds of the nodes of a program: what it does, whatever its constants are."""
    return [type(node).__name__ for node in ast.walk(ast.parse(program))]


def test_texts_that_compile_today() -> None:
    """The fields below are honoured; a new one is found by itself."""
    names = {place.name for places in groups(is_available) for place in places}
    assert {"run.name", "model.path", "generation.system", "data.sources.*[alpaca].path"} <= names
    assert len(names) >= 25


@pytest.mark.parametrize("value", [*HOSTILE, *INVISIBLE], ids=shown)
def test_any_text_is_data_in_every_file(value: str, tmp_path: Path) -> None:
    """Programs keep their shape and hold the text as one constant; JSON and TOML read back equal; scripts parse."""
    scripts = []
    for number, places in enumerate(groups(is_available)):
        name = f"{value.replace('/', '')}.toml"
        harmless = render_files(plan_of(filled(places, MARK), tmp_path))
        files = render_files(plan_of(filled(places, value), tmp_path, name))
        assert files.keys() == harmless.keys()
        for file in files:
            if file.endswith(".py"):
                assert shape(files[file]) == shape(harmless[file])
                compare(constants(files[file]), constants(harmless[file]), value)
            elif file.endswith(".sh"):
                scripts.append(tmp_path / f"{number}-{file}")
                scripts[-1].write_bytes(files[file].encode())
                assert files[file].count("\n") == harmless[file].count("\n")
        assert json.loads(files["deepspeed.json"]) == json.loads(harmless["deepspeed.json"])
        manifest = json.loads(files["manifest.json"])
        assert manifest["spec"]["name"] == name
        resolved = tomli.loads(files["spec.toml"])
        assert structure(resolved).diagnostics == ()
        for place in places:
            assert place.read(resolved) == value, place.name
    loop = 'for script; do bash -n "$script" || exit 1; done'
    assert subprocess.run(["bash", "-c", loop, "bash", *scripts], check=False).returncode == 0
    assert not list(tmp_path.rglob("pwned"))


def compare(mine: list[Any], theirs: list[Any], value: str) -> None:
    """Compare constants: where one has the harmless text, the other has the hostile one, and nothing else differs."""
    for found, expected in zip(mine, theirs, strict=True):
        if not isinstance(expected, str) or MARK not in expected:
            if not (isinstance(expected, str) and is_free(expected)):
                assert found == expected
        elif not is_free(expected):
            wanted = expected.replace(MARK, value)
            assert found == wanted or os.path.normpath(found) == os.path.normpath(wanted)


def is_free(constant: str) -> bool:
    """Tell whether a constant is a docstring, a fingerprint, or a name made of a part of the text."""
    is_digest = len(constant) == 64 and set(constant) <= set("0123456789abcdef")
    return "\n" in constant or is_digest


# --- launch.sh -------------------------------------------------------------------------------------------

STUB = """#!/bin/bash
printf '%s\\0' "$PWD" "$@" > "$DUMP"
"""


# bash drops line feeds at the end of a folder's name; rule T212 refuses such a folder.
FOLDERS = [v for v in (*HOSTILE, *INVISIBLE) if "/" not in v and not v.endswith("\n")]


@pytest.mark.parametrize("value", FOLDERS, ids=shown)
def test_the_launch_script_runs_in_any_folder(value: str, tmp_path: Path) -> None:
    """Folder, name of the spec and every text of the spec: the supervisor gets the same words, and nothing runs."""
    run_dir = tmp_path / f"{value}." / value
    run_dir.mkdir(parents=True)
    data = filled(groups(is_available)[0], value)
    script = run_dir / "launch.sh"
    script.write_text(render_files(plan_of(data, tmp_path, value))["launch.sh"], newline="")
    (tmp_path / "python").write_text(STUB)
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "TUNEC_PYTHON": str(tmp_path / "python"),
        "DUMP": str(tmp_path / "dump"),
    }
    command = ["bash", str(script), value, "--resume"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    folder, *words = (tmp_path / "dump").read_bytes().decode().split("\0")[:-1]
    assert folder == str(run_dir)
    assert words[:4] == ["-m", "tunec.runtime.supervisor", "--run-dir", "."]
    end = len(words) - 1 - words[::-1].index("--")
    assert words[end - 2 : end] == [value, "--resume"]
    assert words[end + 1 :] == [str(tmp_path / "python"), "train.py"]
    assert not list(tmp_path.rglob("pwned"))


# --- reports ---------------------------------------------------------------------------------------------

SPEC = """\
{extra}
[run]
output_dir = "runs/a"
on_existing = {text}
{key} = 1
[model]
path = {text}
token_env = {text}
[data]
sources = [{{ format = "messages", path = {text} }}, {{ format = {text}, path = "x" }}]
[method]
type = "lora"
targets = [{text}]
[batch]
global_size = 2
micro_size = 1
[allow]
{key} = {text}
[{key}]
{key} = {text}
"""


@pytest.fixture(scope="module")
def analyses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Analysis]:
    """Each text as an unknown choice, key, kind, section, path, pattern and name of the file."""
    found = {}
    for value in (*ALL, LONG):
        written = json.dumps(value, ensure_ascii=False)
        for c in CONTROLS:
            written = written.replace(c, f"\\u{ord(c):04x}")
        folder = tmp_path_factory.mktemp("spec")
        path = folder / f"{value.replace('/', '')[:200]}.toml"
        path.write_text(SPEC.format(text=written, key=written, extra=""), newline="")
        found[value] = analyse(path, {})
        assert isinstance(found[value], Analysis)
        assert not found[value].ok
        assert found[value].spec is not None, found[value].diagnostics
    return found


@pytest.mark.parametrize("value", [*ALL, LONG], ids=shown)
def test_reports_stay_well_formed(
    value: str,
    analyses: dict[str, Analysis],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """JSON and SARIF parse, an annotation is one line, and no control character reaches the terminal."""
    analysis = analyses[value]
    monkeypatch.chdir(Path(analysis.source.name).parent)
    outputs = {}
    for form in ("text", "json", "sarif", "github"):
        with pytest.raises(SystemExit) as end:
            main(["check", "--format", form, "--", Path(analysis.source.name).name])
        outputs[form], errors = capsys.readouterr()
        assert (end.value.code, errors) == (1, "")
        assert not CONTROLS - {"\n"} & set(outputs[form])
    count = len(analysis.diagnostics)
    assert len(json.loads(outputs["json"])["diagnostics"]) == count
    assert len(json.loads(outputs["sarif"])["runs"][0]["results"]) == count
    lines = outputs["github"].splitlines()
    assert len(lines) == count
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    heads = [
        line
        for line in outputs["text"].splitlines()
        if line.startswith(("error[", "warning[", "note["))
    ]
    assert len(heads) == count
    assert len(outputs["text"]) < 50_000


@pytest.mark.parametrize("form", ["toml", "json"])
@pytest.mark.parametrize("value", ALL, ids=shown)
def test_show_stays_well_formed(
    value: str, form: str, analyses: dict[str, Analysis], capsys: pytest.CaptureFixture[str]
) -> None:
    """What `show` prints reads back as the values of the spec, and never commands the terminal."""
    path = analyses[value].source.name
    with pytest.raises(SystemExit) as end:
        main(["show", "--format", form, "--", path])
    output, _ = capsys.readouterr()
    assert end.value.code == 1
    data = tomli.loads(output) if form == "toml" else json.loads(output)["spec"]
    assert data["data"]["sources"][0]["path"] == value
    assert data["method"]["targets"] == [value]
    assert not CONTROLS - {"\n", "\t"} & set(output)


def test_paths_of_findings_name_any_key(analyses: dict[str, Analysis]) -> None:
    """The JSON pointer of a finding leads to the key, whatever stands in it."""
    for value, analysis in analyses.items():
        found = json.loads(render_json(analysis.diagnostics, analysis.source))["diagnostics"]
        paths = [tuple(_steps(item["path"])) for item in found]
        assert ("run", value) in paths


def _steps(pointer: str) -> Iterator[str]:
    for part in pointer.split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")


def test_a_place_is_found_by_its_path() -> None:
    """Every text of every field has a span in the document that reads back as that text."""
    for value in ("two words", "a.b", 'q"', "früh\n"):
        for places in groups():
            document = parse_document(to_toml(filled(places, value)), "spec.toml")
            for place in places:
                span = document.locate(path_of(place, value), on_key=KEY in place.steps)
                raw = document.text[span.start : span.end]
                assert tomli.loads(f"x = {raw}")["x"] == value, place.name


def test_the_schema_is_json() -> None:
    """The texts of the documentation come out of the schema as they are."""
    assert json.loads(schema_text())["$schema"]
