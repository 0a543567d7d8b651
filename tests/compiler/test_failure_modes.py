"""The list of failure modes: each has its test, or a reason for none; here are the tests that fit nowhere else."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import tiny
from tunec.compiler.cli import main
from tunec.compiler.pipeline import analyse
from tunec.compiler.render import files as rendering
from tunec.compiler.render.environment import render

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
COUNTS = {"A": 17, "B": 12, "C": 13, "D": 16, "E": 6, "F": 7, "G": 19, "H": 35, "I": 22}
REASONS = ("runtime", "later: ", "not applicable: ")


def rows() -> list[dict[str, str]]:
    """Return the table."""
    with (Path(__file__).parent / "failure_modes.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_is_complete() -> None:
    """Each failure mode stands in the table once, with tests or with a reason."""
    expected = [f"{layer}{n}" for layer, count in COUNTS.items() for n in range(1, count + 1)]
    assert [row["id"] for row in rows()] == expected
    for row in rows():
        assert row["tests"] or row["note"].startswith(REASONS), row["id"]


def test_the_named_tests_exist() -> None:
    """A test that is renamed or removed is missed here."""
    for row in rows():
        for name in row["tests"].split():
            file, _, function = name.partition("::")
            path = TESTS / file if "/" in file else TESTS / "compiler" / file
            assert f"\ndef {function}(" in path.read_text(encoding="utf-8"), name


# --- paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 3000, "x" * 100_000], ids=len)
def test_paths_that_are_too_long(name: str, workspace: Path) -> None:
    """A name or path beyond the limits of the system is a finding at its place, for every path of a spec."""
    for section, key in (
        ("run", "output_dir"),
        ("model", "path"),
        ("tokenizer", "path"),
        ("export", "output_dir"),
        ("model", "cache_dir"),
    ):
        spec = tiny.write_spec(workspace / "spec.toml", f'[{section}]\n{key} = "{name}"\n')
        analysis = analyse(spec, {})
        paths = {found.path for found in analysis.diagnostics}
        assert (section, key) in paths or key in ("cache_dir",) or section == "export"
    source = f'[data]\nsources = [{{ format = "messages", path = "{name}.jsonl" }}]\n'
    analysis = analyse(tiny.write_spec(workspace / "spec.toml", source), {})
    assert ("data", "sources", 0, "path") in {found.path for found in analysis.diagnostics}


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_an_index_cannot_name_a_file_elsewhere(name: str, workspace: Path) -> None:
    """Shards lie in the folder of the model; an index that leads out of it is refused."""
    index = {"weight_map": {"a": name}}
    (workspace / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    found = analyse(tiny.write_spec(workspace / "spec.toml", ""), {}).diagnostics
    assert "M602" in {item.code for item in found}


# --- templates -------------------------------------------------------------------------------------------


def test_every_hole_of_a_script_is_quoted() -> None:
    """A hole in a shell script has the filter for words of the shell, or that for words of a comment."""
    for path in (ROOT / "templates").rglob("*.sh.jinja"):
        for line in path.read_text(encoding="utf-8").splitlines():
            for hole in re.findall(r"{{.*?}}", line):
                is_plain = hole in ("{{ version }}", "{{ name }}")
                wanted = "words" if line.startswith("#") else "sh"
                assert is_plain or hole.endswith(f"| {wanted} }}}}"), (path.name, line)


def test_an_undefined_name_is_an_error() -> None:
    """A value that a template asks for and nobody gives never becomes nothing."""
    with pytest.raises((UndefinedError, TypeError)):
        render("programs/export.py.jinja")


def test_json_has_no_infinities() -> None:
    """What JSON has no word for is refused where it is written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        rendering._json({"a": float("inf")})


def test_templates_of_a_model_are_never_run(workspace: Path) -> None:
    """A chat template is text to the compiler: loops without end and attacks in it cost nothing."""
    attack = (
        "{% for i in range(999999999) %}{% for j in range(999999999) %}x{% endfor %}{% endfor %}"
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch pwned') }}"
    )
    (workspace / "model" / "chat_template.jinja").write_text(attack)
    (workspace / "mine.jinja").write_text(attack)
    text = '[template]\ntype = "file"\npath = "mine.jinja"\n'
    for extra in ("", text):
        assert analyse(tiny.write_spec(workspace / "spec.toml", extra), {}).ok
    assert not list(workspace.rglob("pwned"))


# --- secrets ---------------------------------------------------------------------------------------------


def test_a_secret_of_the_environment_is_nowhere(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value of a token is in no output of any verb and in no generated file; its name is."""
    secret = "hf_" + "c4n4ry" * 6
    monkeypatch.setenv("HF_TOKEN", secret)
    spec = tiny.write_spec(workspace / "spec.toml", '[model]\ntoken_env = "HF_TOKEN"\n')
    outputs = []
    verbs = [["check"], *(["check", "--format", form] for form in ("json", "sarif", "github"))]
    for words in (*verbs, ["show"], ["show", "--format", "json"], ["plan"], ["compile"]):
        with pytest.raises(SystemExit) as end:
            main([*words, str(spec)])
        assert end.value.code == 0
        outputs += [*capsys.readouterr()]
    run_dir = workspace / "runs" / "first"
    files = [path.read_text() for path in run_dir.rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert not [text for text in (*outputs, *files) if secret in text]
    assert [text for text in files if '"HF_TOKEN"' in text]
    shutil.rmtree(run_dir)
