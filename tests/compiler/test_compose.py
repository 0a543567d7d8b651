"""Specs of several files and flags: what wins, where findings point, and what cannot be put together."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specs import specs
from tunec.compiler import merge as merge_module
from tunec.compiler.compose import compose
from tunec.compiler.composition import Composition, CompositionError, plant
from tunec.compiler.document import parse_document, read_document
from tunec.compiler.pipeline import analyse
from tunec.compiler.render.toml import toml_lines
from tunec.compiler.report import render_json, render_text
from tunec.compiler.spec import Spec
from tunec.compiler.structure import written_values

RUN = """\
[run]
output_dir = "runs/x"
[model]
path = "m"
[data]
sources = [{ format = "messages", path = "x.jsonl" }]
[method]
type = "lora"
rank = 4
[batch]
micro_size = 4
global_size = 8
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**files: str) -> None:
    """Write files by their names without `.toml`; `__` stands for a folder."""
    for name, text in files.items():
        path = Path(f"{name.replace('__', '/')}.toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


def composed(name: str = "run.toml", flags: Iterable[str] = ()) -> Composition:
    """Put a spec together."""
    return compose(read_document(Path(name)), tuple(flags))


def refused(name: str = "run.toml", flags: Iterable[str] = ()) -> str:
    """Return what is said about a spec that cannot be put together."""
    with pytest.raises(CompositionError) as caught:
        composed(name, flags)
    fault = caught.value
    assert all(item.message in str(fault) for item in fault.diagnostics)
    return render_text(fault.diagnostics, fault.source, color=False, width=100)


def report(name: str = "run.toml", flags: Iterable[str] = ()) -> str:
    """Return the findings about a spec, its files not looked at."""
    found = analyse(Path(name), {}, with_facts=False, settings=tuple(flags))
    return render_text(found.diagnostics, found.source, color=False, width=100)


# --- what wins -------------------------------------------------------------------------------------------


def test_later_files_win_over_earlier_ones_and_the_file_over_all() -> None:
    """Tables merge deeply; the file itself wins over its bases, a later base over an earlier one."""
    write(
        one="[run]\nname = 'one'\noutput_dir = 'one'\non_existing = 'resume'\n",
        two="[run]\nname = 'two'\noutput_dir = 'two'\n[training]\nseed = 2\n",
        run="extends = ['one.toml', 'two.toml']\n[run]\nname = 'run'\n",
    )
    assert composed().data == {
        "run": {"name": "run", "output_dir": "two", "on_existing": "resume"},
        "training": {"seed": 2},
    }


def test_lists_replace() -> None:
    """A list is one value: its elements are not mixed with those of the base."""
    write(
        base="[data]\nsources = [{ path = 'a' }, { path = 'b' }]\nmax_length = 5\n",
        run="extends = ['base.toml']\n[[data.sources]]\npath = 'c'\n",
    )
    assert composed().data == {"data": {"sources": [{"path": "c"}], "max_length": 5}}


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ('type = "lora"\nrank = 4', 'type = "full"', {"type": "full"}),
        ('type = "lora"\nrank = 4', "rank = 5", {"type": "lora", "rank": 5}),
        ('type = "lora"\nrank = 4', 'type = "lora"\nalpha = 1.0', {"type": "lora", "rank": 4, "alpha": 1.0}),
        ("rank = 4", 'type = "lora"', {"rank": 4, "type": "lora"}),
        ('type = "lora"\nrank = 4', 'type = "lroa"', {"type": "lroa"}),
    ],
)  # fmt: skip
def test_another_kind_replaces_the_table(base: str, over: str, merged: dict[str, Any]) -> None:
    """Keys of another kind make no sense, so the base's table goes as a whole; the same kind is merged."""
    write(base=f"[method]\n{base}\n", run=f"extends = ['base.toml']\n[method]\n{over}\n")
    assert composed().data == {"method": merged}


def test_a_kind_that_is_the_default_needs_no_word() -> None:
    """A table that does not say its kind is of the default one, also when the other says it."""
    write(
        base="[optimizer]\nbeta1 = 0.5\n[template]\ntype = 'file'\npath = 'x'\n",
        run="extends = ['base.toml']\n[optimizer]\ntype = 'adamw'\n[template]\ntype = 'tokenizer'\n",
    )
    data = composed().data
    assert data == {"optimizer": {"beta1": 0.5, "type": "adamw"}, "template": {"type": "tokenizer"}}
    write(base="[template]\n", run="extends = ['base.toml']\n[template]\ntype = 'file'\n")
    assert composed().data == {"template": {"type": "file"}}


def test_a_key_named_like_a_tag_is_none() -> None:
    """Only the key that the classes tell kinds apart by replaces a table: an unknown section just merges."""
    write(
        base="[export]\nformat = 'x'\ndtype = 'fp32'\n[other]\ntype = 'a'\nkey = 1\n",
        run="extends = ['base.toml']\n[export]\nformat = 'y'\n[other]\ntype = 'b'\n",
    )
    assert composed().data == {
        "export": {"format": "y", "dtype": "fp32"},
        "other": {"type": "b", "key": 1},
    }


def test_names_count_from_the_file_that_says_them() -> None:
    """A base in another folder names its own base from there; values are taken as they are."""
    write(
        conf__deep__run="extends = ['../base.toml']\n",
        conf__base="extends = ['shared/model.toml']\n",
        conf__shared__model="[model]\npath = 'models/m'\n",
    )
    found = composed("conf/deep/run.toml")
    assert found.data == {"model": {"path": "models/m"}}
    assert [item.name for item in found.documents] == [
        "conf/deep/run.toml",
        "conf/base.toml",
        "conf/shared/model.toml",
    ]


def test_a_shared_base_is_read_once() -> None:
    """Two bases may have one base in common; what it says counts where each of them stands."""
    write(
        root="[run]\nname = 'root'\noutput_dir = 'root'\n",
        a="extends = ['root.toml']\n[run]\nname = 'a'\n",
        b="extends = ['root.toml']\n[run]\noutput_dir = 'b'\n",
        run="extends = ['a.toml', 'b.toml']\n",
    )
    found = composed()
    assert found.data == {"run": {"name": "root", "output_dir": "b"}}
    assert [item.name for item in found.documents] == ["run.toml", "a.toml", "root.toml", "b.toml"]


def test_many_paths_to_one_base_cost_nothing() -> None:
    """32 levels that each name the next one twice are 33 files, not four billion."""
    for level in range(32):
        name = f"{level + 1}.toml"
        Path(f"{level}.toml").write_text(f"extends = ['{name}', './{name}']\n")
    Path("32.toml").write_text("[run]\nname = 'x'\n")
    found = composed("0.toml")
    assert (len(found.documents), found.data) == (33, {"run": {"name": "x"}})


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(specs(), specs())
def test_a_whole_spec_over_another(below: Spec, above: Spec) -> None:
    """Merging is idempotent, changes neither side, and what the upper one says is in the result."""

    def planted(spec: Spec) -> Any:
        text = "\n".join(toml_lines(written_values(spec)))
        document = parse_document(text, "x")
        return plant(document.data, document)

    base, over = planted(below), planted(above)
    before = (base.data(), over.data())
    merged = merge_module.merge(base, over, Spec)
    assert (base.data(), over.data()) == before
    assert merge_module.merge(merged, over, Spec).data() == merged.data()
    assert merge_module.merge(base, base, Spec).data() == base.data()
    assert contains(merged.data(), over.data())


def contains(outer: Any, inner: Any) -> bool:
    """Tell whether all values of `inner` stand in `outer`."""
    if isinstance(inner, dict):
        return all(key in outer and contains(outer[key], inner[key]) for key in inner)
    return bool(outer == inner)


# --- places ----------------------------------------------------------------------------------------------


def test_findings_point_into_the_file_that_says_it() -> None:
    """A wrong value is shown in the base that says it, a wrong key in the flag, in text and as JSON."""
    write(
        base="# shared\n[method]\ntype = 'lora'\nrank = '8'\n",
        run="extends = ['base.toml']\n" + RUN.replace('[method]\ntype = "lora"\nrank = 4\n', ""),
    )
    flags = ["run.nmae=x", "data.sources[0].limt=1"]
    found = analyse(Path("run.toml"), {}, with_facts=False, settings=flags)
    listed = json.loads(render_json(found.diagnostics, found.source))["diagnostics"]
    keys = ("code", "file", "line", "column", "end_column", "path")
    assert [tuple(item[key] for key in keys) for item in listed] == [
        ("T203", "base.toml", 4, 8, 11, "/method/rank"),
        ("T201", "--set run.nmae=x", 1, 11, 15, "/run/nmae"),
        ("T201", "--set data.sources[0].limt=1", 1, 23, 27, "/data/sources/0/limt"),
    ]
    assert report(flags=flags).split("\n\n")[1] == dedent("""\
        error[T201]: unknown key `nmae` in `[run]`
         --> --set run.nmae=x
          |
          | --set run.nmae=x
          |           ^^^^ unknown key
          |
          = help: a similar name is `name`""")


def test_one_finding_in_three_places() -> None:
    """The labels of one finding stand in as many texts as its values do."""
    write(
        base="[batch]\nmicro_size = 4\n",
        run="extends = ['base.toml']\n" + RUN.replace("micro_size = 4\nglobal_size = 8", "global_size = 10"),
    )  # fmt: skip
    assert report(flags=["launch.processes=3"]) == dedent("""\
        error[R811]: 10 samples do not divide: 10 / (4 x 3) = 0.8333, which is no whole `accumulation_steps`
          --> run.toml:12:15
           |
        12 | global_size = 10
           |               ^^ 10 samples a step
          ::: base.toml:2:14
           |
         2 | micro_size = 4
           |              - 4 each
          ::: --set launch.processes=3
           |
           | --set launch.processes=3
           |                        - 3 processes
           |
           = help: use a `global_size` of 12

        1 error
        """)


@pytest.mark.parametrize(
    ("base", "run", "place"),
    [
        ("[method]\nrank = 4\n", "[run]\n[method]\nalpha = 1.0\n", "run.toml:3:1"),
        ("[method]\nrank = 4\n", "[run]\n", "base.toml:1:1"),
        ("", "[run]\n", "run.toml:1:1"),
    ],
)
def test_what_is_missing_is_missed_in_the_main_file(base: str, run: str, place: str) -> None:
    """An absent key is shown at its section in the main file, else where the section is, else at the top."""
    write(base=base, run=f"extends = ['base.toml']\n{run}")
    found = analyse(Path("run.toml"), {}, with_facts=False)
    listed = json.loads(render_json(found.diagnostics, found.source))["diagnostics"]
    (missing,) = [item for item in listed if item["path"] in ("/method", "/method/type")]
    assert f"{missing['file']}:{missing['line']}:{missing['column']}" == place


def test_warnings_about_a_base_point_into_it() -> None:
    """A byte order mark in a base is the base's."""
    write(run="extends = ['base.toml']\n" + RUN)
    Path("base.toml").write_bytes("\ufeff[logging]\nplot = false\n".encode())
    text = report()
    assert text.startswith(
        "warning[P101]: the file starts with a byte order mark\n --> base.toml:1:1\n"
    )
    assert text.endswith("\n1 warning\n")


# --- what cannot be put together -------------------------------------------------------------------------


def test_extends_of_another_type() -> None:
    """One name without brackets is no list; so are numbers."""
    write(run='extends = "base.toml"\n')
    assert refused() == dedent("""\
        error[P130]: `extends` is no list of file names
         --> run.toml:1:11
          |
        1 | extends = "base.toml"
          |           ^^^^^^^^^^^
          |
          = help: write `extends = ["base.toml"]`

        1 error
        """)
    for value in ("3", "[1]", "['a', 2]", "{ a = 1 }", "true"):
        write(run=f"extends = {value}\n")
        assert "error[P130]: `extends` is no list of file names\n --> run.toml:1:11\n" in refused()
    write(run="[extends]\nfile = 'base.toml'\n")
    assert "error[P130]: `extends` is no list of file names\n --> run.toml:1:1\n" in refused()


def test_a_base_that_is_not_there() -> None:
    """The finding stands at the entry; all entries are looked at."""
    write(
        run="extends = [\n  'none.toml',\n  'base.toml',\n]\n", base="extends = ['../gone.toml']\n"
    )
    assert refused() == dedent("""\
        error[P131]: the base `none.toml` cannot be used: the file does not exist
         --> run.toml:2:3
          |
        2 |   'none.toml',
          |   ^^^^^^^^^^^

        error[P131]: the base `../gone.toml` cannot be used: the file does not exist
         --> base.toml:1:12
          |
        1 | extends = ['../gone.toml']
          |            ^^^^^^^^^^^^^^

        2 errors
        """)


def make_socket(path: Path) -> None:
    """Make a socket."""
    import socket

    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: path.mkdir(), "this is a folder, not a regular file"),
    "pipe": (lambda path: os.mkfifo(path), "this is a pipe, not a regular file"),
    "socket": (make_socket, "the file cannot be read: no such device or address"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "this is a device, not a regular file"),
    "dead link": (lambda path: path.symlink_to("nowhere"), "the file does not exist"),
    "loop": (
        lambda path: path.symlink_to(path.name),
        "the file cannot be read: too many levels of symbolic links",
    ),
    "large": (lambda path: path.write_bytes(b"#" * (1 << 21)), "the file is larger than 1 MiB"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_base_that_is_no_file(name: str) -> None:
    """Whatever the name leads to: a finding at the entry, at once."""
    make, words = ODD[name]
    make(Path("odd.toml"))
    write(run="extends = ['odd.toml']\n" + RUN)
    text = refused()
    assert text.startswith(
        f"error[P131]: the base `odd.toml` cannot be used: {words}\n --> run.toml:1:12\n"
    )
    assert text.endswith("\n1 error\n")


def test_a_base_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base written to meanwhile is refused like the spec itself."""
    write(run="extends = ['base.toml']\n" + RUN, base="[logging]\n")
    document = read_document(Path("run.toml"))
    read = os.read

    def read_late(descriptor: int, size: int) -> bytes:
        with Path("base.toml").open("a") as file:
            file.write("plot = true\n")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", read_late)
    with pytest.raises(CompositionError, match="the file changed while it was being read"):
        compose(document, ())


def test_circles() -> None:
    """A file that leads back to itself is refused where the circle closes, however it is named."""
    write(run="extends = ['./run.toml']\n")
    assert refused().startswith("error[P132]: `./run.toml` extends itself\n --> run.toml:1:12\n")
    write(run="extends = ['a.toml']\n", a="extends = ['b.toml']\n", b="extends = ['link.toml']\n")
    Path("link.toml").symlink_to("a.toml")
    assert refused() == dedent("""\
        error[P132]: `link.toml` extends itself
         --> b.toml:1:12
          |
        1 | extends = ['link.toml']
          |            ^^^^^^^^^^^

        1 error
        """)


def test_32_levels_are_enough() -> None:
    """A chain of 32 bases is followed, one of 33 is not."""
    for level in range(34):
        Path(f"{level}.toml").write_text(f"extends = ['{level + 1}.toml']\n")
    Path("33.toml").write_text("[run]\nname = 'x'\n")
    assert composed("1.toml").data == {"run": {"name": "x"}}
    assert refused("0.toml").startswith(
        "error[P133]: `extends` leads through more than 32 levels\n --> 32.toml:1:12\n"
    )
    Path("wide.toml").write_text(f"extends = {['33.toml'] * 33}\n")
    assert refused("wide.toml").startswith(
        "error[P133]: `extends` names more than 32 files\n --> wide.toml:1:11\n"
    )


def test_all_files_together_have_a_limit() -> None:
    """Many files of nearly 1 MiB each are refused before they fill the memory."""
    for name in "ab":
        Path(f"{name}.toml").write_text("#" * 600_000)
    write(run="extends = ['a.toml', 'b.toml']\n")
    assert refused().startswith(
        "error[P134]: the files of the spec are larger than 1 MiB together\n --> run.toml:1:22\n"
    )


def test_a_huge_base_costs_no_memory() -> None:
    """50 MB are refused without being read."""
    with Path("huge.toml").open("wb") as file:
        file.truncate(50_000_000)
    write(run="extends = ['huge.toml']\n" + RUN)
    script = "import sys\nfrom tunec.compiler.cli import main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "run.toml"],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "the file is larger than 1 MiB" in done.stdout


def test_a_base_that_is_no_toml() -> None:
    """Syntax errors of all files are shown, each in its own text."""
    write(run="extends = ['a.toml', 'b.toml']\n[run]\n", a="[method\n", b="x = yes\n")
    assert refused() == dedent("""\
        error[P127]: the table header is not closed
         --> a.toml:1:8
          |
        1 | [method
          |        ^ expected `]`

        error[P123]: `yes` is no TOML value
         --> b.toml:1:5
          |
        1 | x = yes
          |     ^^^
          |
          = help: write `true`

        2 errors
        """)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_files(data: st.DataObject) -> None:
    """Whatever the files say of one another: a spec or findings, never anything else."""
    names = ["run", "a", "b"]
    entries = st.lists(st.sampled_from(["run.toml", "a.toml", "b.toml", "none.toml", "", "."]), max_size=3)  # fmt: skip
    bodies = st.sampled_from(["", "[run]\nname = 'x'\n", "run = 1\n", "[method]\ntype = 'lora'\n", "[method]\ntype = 3\n", "method = []\n", "x = [\n"])  # fmt: skip
    for name in names:
        text = f"extends = {data.draw(entries)}\n{data.draw(bodies)}"
        Path(f"{name}.toml").write_text(text)
    assert report() != "" or composed().data
