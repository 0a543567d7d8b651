"""`tunec show`: every value in force, where it comes from, and that what is printed is the spec again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest
import tomli
from hypothesis import HealthCheck, given, settings

import tiny
from specs import documents
from tunec.compiler import cli
from tunec.compiler.document import parse_document
from tunec.compiler.show import resolve_broken
from tunec.compiler.structure import structure, unstructure


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Show = Callable[..., Done]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Show:  # fmt: skip
    """Run `tunec show` in a folder with a small sound spec `spec.toml`."""
    monkeypatch.chdir(workspace)
    tiny.write_spec(workspace / "spec.toml", "")

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as end:
            cli.main(["show", *arguments])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, captured.out, captured.err)

    return run


def line(text: str, start: str) -> str:
    """Return the one line that starts so."""
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found


def leaves(data: Any, path: str = "") -> Mapping[str, Any]:
    """Return all values by JSON pointer, a list of plain values as one."""
    if isinstance(data, dict):
        return {
            p: v for key, value in data.items() for p, v in leaves(value, f"{path}/{key}").items()
        }
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return {
            p: v for i, value in enumerate(data) for p, v in leaves(value, f"{path}/{i}").items()
        }
    return {path: data}  # fmt: skip


def test_every_value_says_where_it_comes_from(show: Show) -> None:
    """A line of a file, a base, a flag, the default, or the arithmetic."""
    Path("base.toml").write_text("\n[training]\nseed = 7\n[logging]\nplot = false\n")
    Path("run.toml").write_text('extends = ["base.toml"]\n' + Path("spec.toml").read_text())
    code, out, err = show("run.toml", "--set", "run.name=it", "--set", "data.sources[0].limit=20")
    assert (code, err) == (0, "")
    text = Path("run.toml").read_text().splitlines()
    rank = text.index("rank = 4") + 1
    expected = {
        "rank = ": f"rank = 4  # run.toml:{rank}",
        "seed = ": "seed = 7  # base.toml:3",
        "plot = ": "plot = false  # base.toml:5",
        "name = ": 'name = "it"  # --set',
        "limit = ": "limit = 20  # --set",
        "on_existing = ": 'on_existing = "refuse"  # default',
        "accumulation_steps = ": "accumulation_steps = 2  # derived: 4 / (2 x 1)",
        "alpha = ": "alpha = 8.0  # derived: 2 x rank 4",
    }
    for start, whole in expected.items():
        assert line(out, start) == whole
    assert out.startswith("# Resolved by tunec ")


def test_every_line_with_a_value_has_its_origin(show: Show) -> None:
    """No value is without one."""
    lines = show("spec.toml").out.splitlines()
    assert [line for line in lines if " = " in line and "  # " not in line] == []


def test_what_is_printed_resolves_to_itself(show: Show) -> None:
    """The TOML is a spec with the same values in force."""
    first = show("spec.toml")
    Path("again.toml").write_text(first.out)
    again = show("again.toml")
    assert again.code == 0, again.err
    assert tomli.loads(again.out) == tomli.loads(first.out)
    with pytest.raises(SystemExit) as end:
        cli.main(["check", "again.toml"])
    assert end.value.code == 0


def test_json_says_the_same(show: Show) -> None:
    """The same values, and the origin of each by JSON pointer."""
    shown = json.loads(show("spec.toml", "--format", "json", "--set", "run.name=x").out)
    assert shown["format_version"] == "1.0"
    assert shown["spec"] == tomli.loads(show("spec.toml", "--set", "run.name=x").out)
    assert set(shown["origins"]) == set(leaves(shown["spec"]))
    origins = shown["origins"]
    rank = Path("spec.toml").read_text().splitlines().index("rank = 4") + 1
    assert origins["/method/rank"] == {"kind": "file", "file": "spec.toml", "line": rank}
    assert origins["/run/name"] == {"kind": "--set"}
    assert origins["/run/on_existing"] == {"kind": "default"}
    assert origins["/batch/accumulation_steps"] == {"kind": "derived", "reason": "4 / (2 x 1)"}


def test_a_spec_with_errors_is_shown_as_it_is(show: Show) -> None:
    """What is written stays as it is written, what is missing is left out; exit code 1, findings on stderr."""
    Path("bad.toml").write_text(
        dedent("""\
            [run]
            nmae = "x"
            name = 2020-01-01
            [model]
            path = ["m"]
            [method]
            type = "lora"
            rank = "16"
            [batch]
            micro_size = 3
            """)
    )
    code, out, err = show("bad.toml")
    assert code == 1
    assert err.count("error[T20") == 6
    assert line(out, "rank = ") == 'rank = "16"  # bad.toml:8'
    assert line(out, "micro_size = ") == "micro_size = 3  # bad.toml:10"
    assert line(out, "name = ") == 'name = "2020-01-01"  # bad.toml:3'
    data = tomli.loads(out)
    assert "nmae" not in data["run"]
    assert "output_dir" not in data["run"]
    assert "path" not in data["model"]
    assert "data" not in data
    assert data["training"]["seed"] == 42


def test_a_spec_that_cannot_be_read(show: Show) -> None:
    """Without values there is nothing to show, only what is wrong."""
    Path("bad.toml").write_text("[run\n")
    Path("lost.toml").write_text("extends = ['none.toml']\n")
    for name, code in (("bad.toml", "P127"), ("none.toml", "P113"), ("lost.toml", "P131")):
        done = show(name)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error[{code}]: ")


def test_values_stay_values(show: Show) -> None:
    """Text that looks like TOML, a comment or a line of its own stays text, in values and in names of files."""
    name = 'x"\n[model]\npath = "evil" # "'
    tiny.write_spec(Path("spec.toml"), f"[generation]\nsystem = {json.dumps(name)}\n")
    odd = Path("a\n[run]\nname = 1 #.toml")
    odd.write_text(Path("spec.toml").read_text())
    for file in ("spec.toml", str(odd)):
        done = show(file)
        assert done.code == 0
        data = tomli.loads(done.out)
        assert (data["generation"]["system"], data["model"]["path"]) == (name, "model")


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_any_spec_is_shown_as_toml(text: str) -> None:
    """The values of any spec are TOML again, with one origin each."""
    document = parse_document(text, "run.toml")
    structured = structure(document.data)
    shown = resolve_broken(structured.spec, document, structured.broken)
    assert tomli.loads(shown.toml()) == unstructure(structured.spec)
    origins = json.loads(shown.json())["origins"]
    assert {item["kind"] for item in origins.values()} <= {"file", "default"}
