"""Rendering: any text arrives in programs, scripts and data files as exactly that text, and as nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunec.compiler.apply import apply
from tunec.compiler.facts import gather
from tunec.compiler.plan import Plan, make_plan
from tunec.compiler.render import render_fetch, render_files
from tunec.compiler.render.literals import (
    plain_words,
    python_literal,
    shell_word,
    toml_key,
    toml_literal,
)
from tunec.compiler.structure import structure

HOSTILE = [
    "plain",
    "two words",
    "it's",
    'say "x"',
    "both ' and \"",
    '"""',
    "'''",
    "\\",
    "ends with \\",
    "\\n",
    "$(touch pwned)",
    "`touch pwned`",
    "${HOME}",
    "; touch pwned #",
    "a && b || c | d > e",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# x #}",
    "{braces} %s %(x)s",
    "# comment",
    "--flag=1",
    "-rf",
    "~",
    "*",
    "!history",
    "früh",
    "名前",
    "👩‍👩‍👧",
    "a\u200bb",
    "\u00a0",
    "e\u0301",
    "FINGERPRINT",
    "[section]",
    "key = 1",
    "None",
]
INVISIBLE = [
    "line\nbreak",
    "\r\n",
    "tab\t",
    "bidi \u202e\u2066",
    "del \x7f",
    "c1 \x9b31m",
    "\u2028",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


# --- literals --------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
TABLES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(PLAIN)
def test_python_literals_come_back(value: Any) -> None:
    """A Python literal is one expression on one line of visible characters, equal to the value."""
    text = python_literal(value)
    assert ast.literal_eval(text) == value
    assert repr(ast.literal_eval(text)) == repr(value)
    assert text.isprintable()


@pytest.mark.parametrize("value", [*HOSTILE, *INVISIBLE, "\0", "\ud800", "x" * 2**20])
def test_hostile_text_in_python(value: str) -> None:
    """Quotes, escapes, control characters and a mebibyte are one string constant."""
    assert ast.literal_eval(python_literal(value)) == value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), b"x", {"a": b"x"}, {1}, 1j, object()]
)
def test_what_has_no_python_literal_is_refused(value: Any) -> None:
    """Nothing is written that would not read back: no `nan`, no `<object at ...>`."""
    with pytest.raises(TypeError, match="no Python literal"):
        python_literal(value)


@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_toml_literals_come_back(value: Any) -> None:
    """A TOML value on one line, read back equal, keys of any text included."""
    text = toml_literal(value)
    assert "\n" not in text
    assert tomli.loads(f"x = {text}") == {"x": value}


@given(TEXT)
def test_toml_keys_come_back(key: str) -> None:
    """Any text may be a key."""
    assert tomli.loads(f"{toml_key(key)} = 1") == {key: 1}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=20
    )
)
@example([*HOSTILE, *INVISIBLE])
def test_shell_words_come_back(words: list[str]) -> None:
    """bash hands each word on as one argument, byte for byte, and runs nothing inside it."""
    script = "printf '%s\\0' " + " ".join(map(shell_word, words))
    output = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert output.decode().split("\0")[:-1] == (words or [""])


def test_a_shell_word_holds_no_nul() -> None:
    """What no argument can hold is refused, not cut off."""
    with pytest.raises(ValueError, match="NUL"):
        shell_word("a\0b")


@settings(max_examples=200, deadline=None)
@given(st.text())
@example('"""')
@example("\\")
@example("\n")
def test_words_cannot_leave_a_comment(text: str) -> None:
    """Text in comments and docstrings keeps its letters and loses every mark that could end them."""
    words = plain_words(text)
    assert len(words) == len(text)
    assert words.isprintable() or not text.isprintable() or " " in words
    assert not set(words) & set('"\\\n\r\0`$#{}')
    assert len(words.splitlines()) <= 1


# --- a whole run -----------------------------------------------------------------------------------------


def hostile_plan(text: str, base: Path, *, method: str = "lora", format: str = "messages") -> Plan:
    """Return a plan with `text` in every field that takes any text. Rules are not asked: they refuse some of it."""
    columns = (
        {"messages": text, "role": f"{text}.", "content": f"{text}:"}
        if format == "messages"
        else dict.fromkeys(("instruction", "input", "output", "system", "history"), text)
    )
    data: dict[str, Any] = {
        "run": {"output_dir": f"runs/{text}", "name": text},
        "model": {"path": f"m/o/{text}", "revision": text, "cache_dir": text, "token_env": "HF_TOKEN"},
        "tokenizer": {"path": f"t/o/{text}"},
        "template": {"type": "file", "path": f"chat/{text}.jinja"},
        "data": {
            "sources": [{"format": format, "path": f"d/{text}.jsonl", "name": text, **columns}],
            "eval_sources": [{"format": format, "path": f"/abs/{text}.jsonl"}],
        },
        "method": {"type": "lora", "targets": [text, f"{text}."]} if method == "lora" else {"type": method},
        "batch": {"global_size": 4, "micro_size": 2},
        "launch": {"device": "cpu", "processes": 2},
        "generation": {"system": text},
        "export": {"output_dir": f"out/{text}"},
    }  # fmt: skip
    result = structure(data)
    assert result.diagnostics == ()
    spec = result.spec
    return make_plan(spec, gather(spec, base / "spec.toml", {}), spec_name=f"{text}.toml")


def constants(program: str) -> set[Any]:
    """Return every text constant of a program."""
    return {
        node.value
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("text", [*HOSTILE, *INVISIBLE, "x" * 2**14], ids=lambda t: ascii(t)[:24])
def test_hostile_text_is_data_in_every_program(text: str, tmp_path: Path) -> None:
    """In every field, any text is one constant of the program, and the program stays the same program."""
    harmless = render_files(hostile_plan("harmless", tmp_path))
    files = render_files(hostile_plan(text, tmp_path))
    run_dir = tmp_path / "runs" / text

    def place(path: str) -> str:
        return os.path.relpath(tmp_path / path, run_dir)

    loaded = {place(f"m/o/{text}"), place(f"t/o/{text}"), place(f"chat/{text}.jinja")}
    read = {text, f"{text}.", f"{text}:", f"/abs/{text}.jsonl", place(f"d/{text}.jsonl")}
    expected = {
        "prepare.py": read | loaded - {place(f"m/o/{text}")},
        "train.py": {text} | loaded,
        "chat.py": {text, place(f"m/o/{text}"), place(f"out/{text}")},
        "export.py": {text, place(f"m/o/{text}"), place(f"out/{text}")},
        "preview.py": read | loaded - {place(f"m/o/{text}")},
    }
    for name, values in expected.items():
        assert values <= constants(files[name])
        assert shape(files[name]) == shape(harmless[name])
    assert tomli.loads(files["spec.toml"])["generation"]["system"] == text
    assert json.loads(files["manifest.json"])["name"] == text


def shape(program: str) -> list[str]:
    """Return the kinds of the nodes of a program: what it does, whatever its constants are."""
    return [type(node).__name__ for node in ast.walk(ast.parse(program))]


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
    )
)
def test_any_text_compiles(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every text a TOML file can hold gives programs that parse and data files that read back."""
    files = render_files(hostile_plan(text, Path("/nowhere"), format="alpaca", method="full"))
    for name in ("prepare.py", "train.py", "chat.py", "export.py"):
        assert text in constants(files[name])
    resolved = tomli.loads(files["spec.toml"])
    assert resolved["data"]["sources"][0]["instruction"] == text
    assert json.loads(files["manifest.json"])["spec"]["name"] == f"{text}.toml"
    assert json.loads(files["deepspeed.json"])["train_batch_size"] == 4


def test_the_manifest_digests_every_other_file(tmp_path: Path) -> None:
    """`manifest.json` comes last and holds the sha256 of each file as it is written."""
    files = render_files(hostile_plan("früh", tmp_path))
    assert list(files)[-1] == "manifest.json"
    recorded = json.loads(files["manifest.json"])["files"]
    assert set(recorded) == set(files) - {"manifest.json"}
    apply(files, tmp_path / "run")
    for name, digest in recorded.items():
        assert hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() == digest


def test_no_secret_gets_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files name the environment variable of the token; its value is nowhere."""
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    files = render_files(hostile_plan("x", tmp_path))
    assert '"HF_TOKEN"' in files["train.py"]
    assert not [name for name, text in files.items() if "hf_verysecret" in text]


def test_the_resolved_spec_says_why(tmp_path: Path) -> None:
    """Derived values stand in the resolved spec with their arithmetic as a comment."""
    text = render_files(hostile_plan("x", tmp_path))["spec.toml"]
    assert "accumulation_steps = 1  # 4 / (2 x 2)\n" in text
    assert "alpha = 16.0  # 2 x rank 8\n" in text


def test_the_resolved_spec_is_a_spec(tmp_path: Path) -> None:
    """The resolved spec has no structural errors: it can be compiled in its place."""
    for method in ("lora", "full"):
        plan = hostile_plan("x", tmp_path, method=method)
        assert structure(tomli.loads(render_files(plan)["spec.toml"])).diagnostics == ()


def test_paths_follow_links_as_the_system_does(tmp_path: Path) -> None:
    """`link/../rows.jsonl` is beside the folder the link leads to, for the check and for the program."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "rows.jsonl").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to("../far/deep")
    data = {
        "run": {"output_dir": "run"},
        "model": {"path": "org/name"},
        "data": {"sources": [{"format": "messages", "path": "link/../rows.jsonl"}]},
        "method": {"type": "full"},
        "batch": {"global_size": 1, "micro_size": 1},
    }
    spec = structure(data).spec
    plan = make_plan(spec, gather(spec, tmp_path / "here" / "s.toml", {}), spec_name="s.toml")
    assert plan.facts.data[0].state == "ok"
    assert 'RUN_DIR / "../../far/rows.jsonl"' in render_files(plan)["prepare.py"]


# --- launch.sh -------------------------------------------------------------------------------------------

STUB = """#!/bin/bash
printf '%s\\0' "$PWD" "$@" > "$DUMP"
exit 7
"""


@pytest.mark.parametrize("text", ["plain", 'it\'s a "dir" $(touch pwned)', "früh `x` #1", "-rf"])
def test_the_launch_script_hands_the_right_words_on(text: str, tmp_path: Path) -> None:
    """From any folder, launch.sh runs the supervisor in the run folder with its options, ours, and the command."""
    run_dir = tmp_path / text
    apply(render_files(hostile_plan(text, tmp_path)), run_dir)
    stub = tmp_path / "my python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    script = run_dir / "launch.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    done = subprocess.run(
        [str(script), "--resume", "two words"],
        cwd="/",
        env={
            **os.environ,
            "TUNEC_PYTHON": str(stub),
            "DUMP": str(tmp_path / "dump"),
            "CDPATH": "/",
        },
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    folder, *words = (tmp_path / "dump").read_text().split("\0")[:-1]
    assert folder == str(run_dir)
    assert words[:4] == ["-m", "tunec.runtime.supervisor", "--run-dir", "."]
    middle = words[4 : words.index("--")]
    assert (
        dict(zip(middle[:-2:2], middle[1:-2:2], strict=True)).items()
        >= {
            "--processes": "2",
            "--device": "cpu",
            "--grace-s": "120",
        }.items()
    )
    assert middle[-2:] == ["--resume", "two words"]
    command = words[words.index("--") + 1 :]
    assert command == ["deepspeed", "--no_local_rank", "--num_gpus", "2", "train.py"]
    assert not list(tmp_path.rglob("pwned"))


# --- fetch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*HOSTILE, *INVISIBLE], ids=ascii)
def test_a_fetch_program_holds_its_source_as_data(text: str) -> None:
    """Path or hub id, revision: each is one constant."""
    local = render_fetch(text, local=True, dtype="fp32", revision=None)
    hub = render_fetch(text, local=False, dtype="bf16", revision=f"{text}!")
    assert text in constants(local)
    assert {text, f"{text}!", "bf16"} <= constants(hub)
