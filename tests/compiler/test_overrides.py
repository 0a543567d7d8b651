"""`--set key=value`: what it takes, what wins, and how findings point at the flag."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler.compose import compose
from tunec.compiler.composition import CompositionError
from tunec.compiler.document import Document, DocumentError, parse_document
from tunec.compiler.overrides import parse_setting
from tunec.compiler.pipeline import analyse_document
from tunec.compiler.report import render_text

SPEC = """\
[run]
output_dir = "runs/x"
[model]
path = "m"
[data]
[[data.sources]]
format = "messages"
path = "a.jsonl"
[[data.sources]]
format = "messages"
path = "b.jsonl"
[method]
type = "lora"
rank = 4
[batch]
micro_size = 4
global_size = 8
"""


def document(text: str = SPEC) -> Document:
    """Return a spec."""
    return parse_document(text, "run.toml")


def with_flags(*flags: str, text: str = SPEC) -> dict[str, Any]:
    """Return the data of a spec with flags."""
    return compose(document(text), flags).data


def report(*flags: str, text: str = SPEC) -> str:
    """Return the findings about a spec with flags."""
    found = analyse_document(document(text), Path("run.toml"), {}, with_facts=False, settings=flags)
    return render_text(found.diagnostics, found.source, color=False, width=100)


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("method.rank=16", "method rank", 16),
        ("method.rank = 16 ", "method rank", 16),
        (" method . rank=0x10", "method rank", 16),
        ('"method"."rank"=1_6', "method rank", 16),
        ("'method'.rank=16", "method rank", 16),
        ("training.learning_rate=1e-4", "training learning_rate", 1e-4),
        ("training.gradient_checkpointing=false", "training gradient_checkpointing", False),
        ('run.name="foo"', "run name", "foo"),
        ("run.name='a # b'", "run name", "a # b"),
        ('method.targets=["q_proj", "v_proj"]', "method targets", ["q_proj", "v_proj"]),
        ('method={ type = "full" }', "method", {"type": "full"}),
        ("method.rank_pattern.v_proj=2", "method rank_pattern", {"q_proj": 8, "v_proj": 2}),
        ('method.rank_pattern."a.b"=2', "method rank_pattern", {"q_proj": 8, "a.b": 2}),
        ("method.rank_pattern.0=2", "method rank_pattern", {"q_proj": 8, "0": 2}),
        ('data.sources=[{format="text", path="t"}]', "data sources", [{"format": "text", "path": "t"}]),
    ],
)  # fmt: skip
def test_values_are_toml(flag: str, path: str, value: Any) -> None:
    """The value of a flag is TOML, the key a dotted key of TOML."""
    text = SPEC.replace("rank = 4", "rank = 4\nrank_pattern = { q_proj = 8 }")
    data: Any = with_flags(flag, text=text)
    for key in path.split():
        data = data[key]
    assert (data, type(data)) == (value, type(value))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("run.name=foo", "foo"),
        ("run.name=", ""),
        ("run.name=foo bar", "foo bar"),
        ("run.name=a=b", "a=b"),
        ("run.name=3b", "3b"),
        ("run.name=3 # a comment?", "3 # a comment?"),
        ("run.name=True", "True"),
        ("run.name=x\ny = 3", "x\ny = 3"),
        ("run.name=3\n[model]", "3\n[model]"),
        ("run.name=früh 名前", "früh 名前"),
        ("run.name=~/x", "~/x"),
        ("run.on_existing=resume", "resume"),
    ],
)
def test_words_are_text_where_the_field_is(flag: str, value: str) -> None:
    """What is no TOML value is text, if the field is; nothing can break out of the value."""
    data = with_flags(flag)
    assert data["run"][flag.split("=")[0].split(".")[1]] == value
    assert data["model"] == {"path": "m"}


@pytest.mark.parametrize(
    ("flag", "message", "underlined"),
    [
        ("training.epochs=.5", "error[P123]: `.5` is no TOML value", ".5"),
        ("training.epochs=", "error[P123]: there is no value here", "="),
        ("method.rank=16 17", "error[P126]: expected the end of the line", "17"),
        ("method.rank=16 # 17", "error[P126]: expected the end of the value", " "),
        ("method.rank=99999999999999999999", "error[P108]: ", "99999999999999999999"),
        ("training.learning_rate=inf", "error[P109]: `inf` is no finite number", "inf"),
        ("training.gradient_checkpointing=True", "error[P123]: `True` is no TOML value", "True"),
        ('run.name="foo', "error[P121]: the text is not closed", '"foo'),
        ("method.targets=[q_proj]", "error[P123]: `q_proj` is no TOML value", "q_proj"),
    ],
)
def test_values_that_are_none(flag: str, message: str, underlined: str) -> None:
    """What is neither TOML nor text for a field of text is shown in the flag."""
    lines = report(flag).splitlines()
    assert lines[0].startswith(message)
    assert lines[1:4] == [f" --> --set {flag}", "  |", f"  | --set {flag}"]
    start, size = lines[4].index("^") - 4, lines[4].count("^")
    assert f"--set {flag} "[start : start + size].rstrip("\n") in (
        underlined,
        " ",
        underlined + " ",
    )


@pytest.mark.parametrize(
    ("flag", "column", "label"),
    [
        ("", 6, "expected a key"),
        ("=3", 6, "expected a key"),
        ("method.rank", 17, "expected `=`"),
        ("method rank=3", 13, "expected `=`"),
        ("method..rank=3", 12, "expected `=`"),
        ("method.=3", 12, "expected `=`"),
        ("method.[0]=3", 12, "expected `=`"),
        ("[0]=3", 6, "expected a key"),
        ("data.sources[-1]=3", 18, "expected `=`"),
        ("data.sources[0=3", 18, "expected `=`"),
        ("data.sources[0]limit=3", 21, "expected `=`"),
        ('"\\q"=3', 6, "expected a key"),
    ],
)
def test_keys_that_are_none(flag: str, column: int, label: str) -> None:
    """What is no `key=value` is shown where it stops being one."""
    lines = report(flag).splitlines()
    assert lines[0] == "error[P140]: the flag is no `key=value`"
    assert lines[1] == f" --> --set {flag}"
    assert lines[4] == f"  | {' ' * column}^ {label}"


def test_bytes_that_are_no_text() -> None:
    """An argument that is no UTF-8 is a finding."""
    text = report("run.name=caf\udce9")
    assert text.startswith("error[P102]: the flag holds bytes that are not UTF-8\n")
    assert text.encode()


def test_a_key_that_is_too_long() -> None:
    """The limits of keys are those of a file."""
    flag = ".".join("abcdefghijklmnopq") + "=1"
    assert report(flag).startswith("error[P106]: the key has more than 16 parts\n")


def test_bases_are_named_in_files() -> None:
    """A flag cannot extend anything."""
    assert report("extends=['x.toml']").startswith(
        "error[P140]: `extends` cannot be set by a flag\n"
    )


# --- what wins -------------------------------------------------------------------------------------------


def test_a_later_flag_wins() -> None:
    """Flags win over the file, later ones over earlier ones."""
    assert with_flags("method.rank=1", "method.rank=2")["method"]["rank"] == 2


def test_elements_are_counted_from_0() -> None:
    """An element of a list is changed in its place, however its number is written."""
    data = with_flags("data.sources[0].limit=1", "data.sources.1.limit=2", "data.sources[1].name=b")
    assert data["data"]["sources"] == [
        {"format": "messages", "path": "a.jsonl", "limit": 1},
        {"format": "messages", "path": "b.jsonl", "limit": 2, "name": "b"},
    ]
    assert with_flags("method.targets=['a', 'b']", "method.targets[1]=c")["method"]["targets"] == [
        "a",
        "c",
    ]


def test_another_kind_drops_the_keys_of_this_one() -> None:
    """A new kind starts with the keys that flags give it, in whatever order."""
    assert with_flags("method.type=full")["method"] == {"type": "full"}
    for flags in (
        ["method.type=adalora", "method.alpha=1.0"],
        ["method.alpha=1.0", "method.type=adalora"],
    ):
        assert with_flags(*flags)["method"] == {"type": "adalora", "alpha": 1.0}
    assert with_flags("method.type=lora")["method"]["rank"] == 4
    sources = with_flags("data.sources[1].format=text", "data.sources[1].path=t")["data"]["sources"]
    assert sources == [
        {"format": "messages", "path": "a.jsonl"},
        {"format": "text", "path": "t"},
    ]


@pytest.mark.parametrize(
    ("flag", "message", "column", "mark", "help_"),
    [
        ("data.sources[2].limit=1", "`data.sources` has no element 2: it has 2, counted from 0", 18, "^^^", None),
        ("data.sources.2.limit=1", "`data.sources` has no element 2: it has 2, counted from 0", 19, "^", None),
        ("data.sorces[0].limit=1", "there is no list `data.sorces`", 17, "^^^", "write `data.sources`"),
        ("zzz[0]=1", "there is no list `zzz`", 9, "^^^", None),
        ("method.rank[0]=1", "`method.rank` is no list", 17, "^^^", None),
        ("data.eval_sources[0].path=x", "there is no list `data.eval_sources` whose elements could be changed", 23, "^^^", "set the list as a whole"),
    ],
)  # fmt: skip
def test_elements_that_are_not_there(
    flag: str, message: str, column: int, mark: str, help_: str | None
) -> None:
    """A flag changes elements, it adds none."""
    lines = report(flag).splitlines()
    assert lines[0] == f"error[P141]: {message}"
    assert lines[4] == f"  | {' ' * column}{mark}"
    assert lines[6] == ("  = help: " + help_ if help_ else "1 error")


# --- places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "code", "mark"),
    [
        ("method.rank='16'", "T203", "             ^^^^ this is text"),
        ("metod.rank=16", "T201", " ^^^^^ unknown section"),
        ("training.precision=bf61", "T204", "                    ^^^^ not one of the choices"),
        ("method.type=qlora", "T205", "             ^^^^^ unknown type"),
        ("method.rank=-1", "T210", "             ^^"),
        ("data={ sources = [{ format = 'messages', path = 3 }] }", "T203", "                                                 ^ this is a whole number"),
    ],
)  # fmt: skip
def test_each_finding_points_at_the_flag(flag: str, code: str, mark: str) -> None:
    """Wrong keys, values and kinds of a flag are shown in the flag as in a file."""
    lines = report(flag).splitlines()
    assert lines[0].startswith(f"error[{code}]: ")
    assert lines[1:4] == [f" --> --set {flag}", "  |", f"  | --set {flag}"]
    assert lines[4].startswith(f"  |      {mark}")


def test_a_misspelled_key_that_the_file_has() -> None:
    """A flag is mostly meant for a key that is given already."""
    assert report("method.rnak=16") == dedent("""\
        error[T201]: unknown key `rnak` in `[method]`
         --> --set method.rnak=16
          |
          | --set method.rnak=16
          |              ^^^^ unknown key
          |
          = help: a similar name is `rank`, which is given

        1 error
        """)


def test_long_flags_and_flags_of_several_lines() -> None:
    """The name of a flag stays on one line; the excerpt shows the line in question."""
    flag = "run.nmae='''\n" + "x" * 100 + "'''"
    assert report(flag) == dedent("""\
        error[T201]: unknown key `nmae` in `[run]`
         --> --set run.nmae='''...
          |
          | --set run.nmae='''
          |           ^^^^ unknown key
          |
          = help: a similar name is `name`

        1 error
        """)


def fault_of(flag: str) -> DocumentError | None:
    """Return how a flag is refused."""
    try:
        parse_setting(flag)
    except DocumentError as fault:
        return fault
    return None


@settings(deadline=None)
@given(
    st.text(max_size=30) | st.from_regex(r"[a-z.\[\]0-9\"' ]{0,20}=[a-z0-9\[\]{}\"'., =#\n]{0,20}")
)
def test_any_flag(flag: str) -> None:
    """Whatever stands in a flag: a value, or a finding inside its text."""
    fault = fault_of(flag)
    for found in fault.diagnostics if fault else ():
        assert fault is not None
        start, end = found.offsets or (-1, -1)
        assert 0 <= start <= end <= len(fault.text) + 1
    report(flag)


def test_all_flags_are_looked_at() -> None:
    """Each faulty flag has its finding, in the order given."""
    with pytest.raises(CompositionError) as caught:
        compose(document(), ["a", "b", "method.rank=3", "c"])
    names = [item.source for item in caught.value.diagnostics]
    assert names == ["--set a", "--set b", "--set c"]
