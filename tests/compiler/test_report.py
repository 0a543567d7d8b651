"""Rendered findings, letter by letter."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler.cascades import suppress_cascades
from tunec.compiler.diagnostics import (
    Diagnostic,
    Label,
    Level,
    Place,
    Replace,
    SpecPath,
    error,
    warning,
)
from tunec.compiler.document import Document, DocumentError, parse_document
from tunec.compiler.report import render_json, render_text, sort_key
from tunec.compiler.structure import structure

SPEC = """\
[run]
output_dir = "out"

[model]
path = "model"

[data]
max_length = 2048
[[data.sources]]
format = "alpaca"
path = "rows.json"

[method]
type = "lora"
rank = 8

[batch]
global_size = 8
"""


def text_of(*found: Diagnostic, text: str = SPEC, width: int = 80, color: bool = False) -> str:
    """Render findings about a text."""
    return render_text(found, parse_document(text, "spec.toml"), color=color, width=width)


def structural(text: str) -> str:
    """Render the structural errors of a spec."""
    document = parse_document(text, "spec.toml")
    return render_text(structure(document.data).diagnostics, document, color=False, width=80)


def syntactic(text: str) -> str:
    """Render the syntax errors of a text."""
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "spec.toml")
    return render_text(caught.value.diagnostics, caught.value, color=False, width=80)


def expected(text: str) -> str:
    """Return a text of the test without its indentation."""
    return dedent(text).lstrip("\n")


# --- realistic mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "report"),
    [
        (
            "rank = 8",
            'rank = "8"',
            """
            error[T203]: `method.rank` is text, expected a whole number
              --> spec.toml:15:8
               |
            15 | rank = "8"
               |        ^^^ this is text
               |
               = help: write `8` without quotes

            1 error (fix available: tunec check --fix)
            """,
        ),
        (
            "rank = 8",
            "rnak = 8",
            """
            error[T201]: unknown key `rnak` in `[method]`
              --> spec.toml:15:1
               |
            15 | rnak = 8
               | ^^^^ unknown key
               |
               = help: a similar name is `rank`

            1 error
            """,
        ),
        (
            'type = "lora"',
            'type = "full"',
            """
            error[T206]: `rank` belongs to method type `lora`, `adalora`, `vera`, `loha`, `lokr`, `hra`, `randlora`, `miss`, `shira` or `vblora`, this is `full`
              --> spec.toml:15:1
               |
            14 | type = "full"
               |        ------ the kind is chosen here
            15 | rank = 8
               | ^^^^ not a key of `full`
               |
               = help: remove `rank`, or choose type `lora`, `adalora`, `vera`, `loha`, `lokr`, `hra`, `randlora`, `miss`, `shira` or `vblora`

            1 error
            """,
        ),
        (
            'type = "lora"',
            'type = "qlora"',
            """
            error[T205]: method type `qlora` does not exist, expected `lora`, `full`, `freeze`, `oft`, `boft`, `ia3`, `adalora`, `vera`, `loha`, `lokr`, `fourierft`, `hra`, `randlora`, `miss`, `shira`, `c3a`, `road`, `vblora`, `ln-tuning`, `prefix`, `prompt`, `p-tuning` or `lisa`
              --> spec.toml:14:8
               |
            14 | type = "qlora"
               |        ^^^^^^^ unknown type
               |
               = help: write `"lora"`

            1 error
            """,
        ),
        (
            "max_length = 2048",
            "cutoff_len = 2048",
            """
            error[T201]: unknown key `cutoff_len` in `[data]`
             --> spec.toml:8:1
              |
            8 | cutoff_len = 2048
              | ^^^^^^^^^^ unknown key
              |
              = help: here this is called `max_length`

            1 error (fix available: tunec check --fix)
            """,
        ),
        (
            'path = "model"\n',
            "",
            """
            error[T202]: `model.path` is missing: folder in the Hugging Face layout (relative to the spec), or a hub id such as `org/name`
             --> spec.toml:4:1
              |
            4 | [model]
              | ^^^^^^^ no `path` here
              |
              = help: add `path = "..."`

            1 error
            """,
        ),
        (
            "[batch]\nglobal_size = 8\n",
            "",
            """
            error[T202]: section `[batch]` is missing: batch arithmetic
             --> spec.toml:1:1
              |
              = help: add `[batch]`

            1 error
            """,
        ),
        (
            "[[data.sources]]",
            "[data.sources]",
            """
            error[T203]: `data.sources` is a table, expected a list of tables
             --> spec.toml:9:1
              |
            9 | [data.sources]
              | ^^^^^^^^^^^^^^ this is a table
              |
              = help: write `[[data.sources]]`, with two brackets

            1 error
            """,
        ),
        (
            "max_length = 2048",
            'too_long = "cut"\nmax_length = 2048.0',
            """
            error[T204]: `data.too_long` is `cut`, expected `truncate`, `drop`, `split` or `error`
             --> spec.toml:8:12
              |
            8 | too_long = "cut"
              |            ^^^^^ not one of the choices

            error[T203]: `data.max_length` is a number with a fraction, expected a whole number
             --> spec.toml:9:14
              |
            9 | max_length = 2048.0
              |              ^^^^^^ this is a number with a fraction
              |
              = help: write `2048` without a fraction

            2 errors (fix available: tunec check --fix)
            """,
        ),
    ],
)
def test_structural_mistakes_are_shown(old: str, new: str, report: str) -> None:
    """Message, place, excerpt, label and help stand where rustc puts them."""
    assert SPEC.count(old) == 1
    assert structural(SPEC.replace(old, new)) == expected(report)


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (
            "[run]\nname = 'a'\n\n\n[run]\n",
            """
            error[P104]: `run` is defined twice
             --> spec.toml:5:2
              |
            1 | [run]
              |  --- first defined here
            ...
            5 | [run]
              |  ^^^ defined again

            1 error
            """,
        ),
        (
            "a = True\nb = /data/x\n",
            """
            error[P123]: `True` is no TOML value
             --> spec.toml:1:5
              |
            1 | a = True
              |     ^^^^
              |
              = help: write `true`

            error[P123]: `/data/x` is no TOML value
             --> spec.toml:2:5
              |
            2 | b = /data/x
              |     ^^^^^^^
              |
              = help: put text in quotes: `"/data/x"`

            2 errors
            """,
        ),
        (
            'path = "C:\\data"\n',
            r"""
            error[P124]: `\d` is no escape of TOML
             --> spec.toml:1:11
              |
            1 | path = "C:\data"
              |           ^^
              |
              = help: for a plain backslash write `\\`, or put the text in `'single quotes'`

            1 error
            """,
        ),
        (
            'name = "x\n',
            """
            error[P121]: the text is not closed
             --> spec.toml:1:8
              |
            1 | name = "x
              |        ^^ expected a closing `"`

            1 error
            """,
        ),
        (
            "a = [\n  1\nb = 2",
            """
            error[P122]: the list is not closed
             --> spec.toml:3:1
              |
            1 | a = [
              |     - opened here
            ...
            3 | b = 2
              | ^ expected `,` or `]`

            1 error
            """,
        ),
    ],
)
def test_syntax_errors_are_shown(text: str, report: str) -> None:
    """A `DocumentError` is a source as well."""
    assert syntactic(text) == expected(report)


# --- excerpts --------------------------------------------------------------------------------------------


def test_labels_notes_and_helps_are_shown_in_order() -> None:
    """Secondary labels are dashes; a line break continues a remark below its text."""
    found = error(
        "R803",
        "the batch does not come out even",
        ("batch", "global_size"),
        label="8 samples",
        labels=(Label(("method", "rank"), "unrelated"), Label(("method",), "in this section")),
        notes=("8 / 3 is no whole number",),
        helps=("write\n[batch]\nglobal_size = 9",),
    )
    assert text_of(found) == expected(
        """
        error[R803]: the batch does not come out even
          --> spec.toml:18:15
           |
        13 | [method]
           | -------- in this section
        ...
        15 | rank = 8
           |        - unrelated
        ...
        18 | global_size = 8
           |               ^ 8 samples
           |
           = note: 8 / 3 is no whole number
           = help: write
                   [batch]
                   global_size = 9

        1 error
        """
    )


def test_a_span_of_several_lines_shows_the_first() -> None:
    """The underline ends with the line."""
    found = warning("W1", "many", ("a",), label="here")
    assert text_of(found, text="a = [ # list\n  1,\n]\n") == expected(
        """
        warning[W1]: many
         --> spec.toml:1:5
          |
        1 | a = [ # list
          |     ^^^^^^^^ here

        1 warning
        """
    )


def test_tabs_and_wide_characters_are_aligned() -> None:
    """A tab goes to the next stop, an ideograph takes two cells, a combining accent none."""
    found = error("E1", "x", ("語", "b"))
    lines = text_of(found, text="\t'語' = {'e\u0301' = '😀',\tb = 1}\n").splitlines()
    assert lines[1] == " --> spec.toml:1:25"
    assert lines[3] == "1 |     '語' = {'e\u0301' = '😀', b = 1}"
    assert lines[4] == "  | " + " " * 28 + "^"


def test_hidden_characters_are_shown_escaped() -> None:
    """What a terminal would obey is spelled out, in excerpt, message and file name."""
    document = parse_document("a = '\u202eabc' # \u200b", "s\x1b[0m.toml")
    found = error("E1", "bad \x07 \u2066 value\nx", ("a",), label="\x9b")
    assert render_text([found], document, color=False, width=80) == expected(
        """
        error[E1]: bad <U+0007> <U+2066> value<U+000A>x
         --> s<U+001B>[0m.toml:1:5
          |
        1 | a = '<U+202E>abc' # <U+200B>
          |     ^^^^^^^^^^^^^ <U+009B>

        1 error
        """
    )


def test_a_long_line_is_cut_around_the_span() -> None:
    """Each label of a cut line has an excerpt of its own."""
    text = f"x = {{ a = '{'l' * 100}', b = 1, c = '{'r' * 100}' }}\n"
    found = error("E1", "m", ("x", "b"), label="one", labels=(Label(("x", "c"), "two"),))
    assert text_of(found, text=text, width=44) == expected(
        """
        error[E1]: m
         --> spec.toml:1:119
          |
        1 | ...llll', b = 1, c = 'rrrrrrrrrrrrrrr...
          |               ^ one
        1 | ...'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr...
          |    ---------------------------------- two

        1 error
        """
    )


def test_color_changes_nothing_but_color() -> None:
    """Without the escape sequences the text is the same."""
    found = error("E1", "x", ("method", "rank"), label="l", helps=("h",))
    colored = text_of(found, color=True)
    assert "\x1b[1;31merror[E1]\x1b[0m" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == text_of(found)


def test_no_findings_give_no_text() -> None:
    """Nothing to say, nothing said."""
    assert text_of() == ""


# --- other files -----------------------------------------------------------------------------------------


def test_a_place_in_a_small_file_shows_its_line(tmp_path: Path) -> None:
    """Rows of data files are cut to the width."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "1" * 100 + "}\n")
    found = error("D1", "bad row", place=Place(path, 2, 7), label="here")
    report = render_text([found], parse_document("", "s"), color=False, width=44)
    assert report.splitlines() == [
        "error[D1]: bad row",
        f" --> {path}:2:7",
        "  |",
        '2 | {"a": 1111111111111111111111111111...',
        "  |       ^ here",
        "",
        "1 error",
    ]
    whole_line = render_text([error("D1", "x", place=Place(path, 1))], {}, color=False, width=80)
    assert whole_line.splitlines()[1:4] == [f" --> {path}:1", "  |", '1 | {"a": 1}']


def test_a_place_that_cannot_be_read_is_only_named(tmp_path: Path) -> None:
    """Missing files, folders and lines beyond the end have no excerpt."""
    (tmp_path / "short").write_text("x")
    for place in (
        Place(tmp_path / "none", 1, 1),
        Place(tmp_path, 1, 1),
        Place(tmp_path / "short", 9, 1),
    ):
        lines = render_text([error("D1", "x", place=place)], {}, color=False, width=80).splitlines()
        assert lines == ["error[D1]: x", f" --> {place.file}:{place.line}:1", "", "1 error"]
    whole_file = error("D1", "x", place=Place(tmp_path / "none"))
    assert (
        render_text([whole_file], {}, color=False, width=80).splitlines()[1]
        == f" --> {tmp_path / 'none'}"
    )


def test_a_path_is_looked_up_in_several_documents() -> None:
    """The first document that has the value shows it; a label in another one has a block of its own."""
    documents = {
        "spec.toml": parse_document("[a]\nx = 1\n", "spec.toml"),
        "base.toml": parse_document("[b]\ny = 2\n", "base.toml"),
    }
    found = error("E1", "m", ("b", "y"), label="p", labels=(Label(("a", "x"), "s"),))
    assert render_text([found], documents, color=False, width=80) == expected(
        """
        error[E1]: m
         --> base.toml:2:5
          |
        2 | y = 2
          |     ^ p
         ::: spec.toml:2:5
          |
        2 | x = 1
          |     - s

        1 error
        """
    )


# --- order and counts ------------------------------------------------------------------------------------


def test_findings_are_sorted_counted_and_not_repeated() -> None:
    """By place in the file, then code; the same finding twice is one."""
    document = parse_document(SPEC, "spec.toml")
    late = error("A1", "late", ("batch", "global_size"))
    early = warning("B2", "early", ("run",))
    beside = error("B1", "beside", ("run",))
    data = error("A0", "data", place=Place(Path("/none"), 1))
    note = Diagnostic("N1", Level.NOTE, "note", ("model",))
    report = render_text([late, data, early, beside, late, note], document, color=False, width=80)
    heads = [line for line in report.splitlines() if "]: " in line]
    assert [line.split("]: ")[1] for line in heads] == ["beside", "early", "note", "late", "data"]
    assert report.endswith("\n3 errors, 1 warning, 1 note\n")
    assert sort_key(early, document) < sort_key(late, document) < sort_key(data, document)


def test_json_says_what_fix_would_do() -> None:
    """Places in the file, each with the text that takes its place."""
    document = parse_document('[method]\nrank = "8"\n', "spec.toml")
    found = error("T203", "m", ("method", "rank"), fix=Replace(("method", "rank"), 8))
    (listed,) = json.loads(render_json([found], document))["diagnostics"]
    assert listed["fixes"] == [
        {
            "file": "spec.toml",
            "line": 2,
            "column": 8,
            "end_line": 2,
            "end_column": 11,
            "text": "8",
        }
    ]


def test_json_has_the_same_findings() -> None:
    """Positions count from 1 and end exclusively; paths are JSON pointers."""
    found = error(
        "R1",
        "m",
        ("method", "rank"),
        label="l",
        labels=(Label(("model",), "s"),),
        notes=("n",),
        helps=("h",),
    )
    place = warning("D1", "row", place=Place(Path("rows.json"), 3))
    document = json.loads(render_json([place, found], parse_document(SPEC, "spec.toml")))
    assert document["format_version"] == "1.0"
    assert (document["error_count"], document["warning_count"]) == (1, 1)
    first, second = document["diagnostics"]
    assert first == {
        "code": "R1",
        "level": "error",
        "message": "m",
        "path": "/method/rank",
        "file": "spec.toml",
        "line": 15,
        "column": 8,
        "end_line": 15,
        "end_column": 9,
        "label": "l",
        "notes": ["n"],
        "helps": ["h"],
        "labels": [
            {
                "text": "s",
                "path": "/model",
                "file": "spec.toml",
                "line": 4,
                "column": 1,
                "end_line": 4,
                "end_column": 8,
            }
        ],
        "fixes": [],
    }
    assert (second["file"], second["line"], second["column"]) == ("rows.json", 3, None)
    assert json.loads(render_json([], {}))["diagnostics"] == []


@pytest.mark.parametrize(
    ("path", "label", "is_kept"),
    [
        (("training", "steps"), None, False),
        (("training", "steps", 0), None, False),
        (("training",), None, False),
        (("training", "seed"), None, True),
        (("model",), ("training", "steps"), False),
        (("model",), ("batch",), True),
        ((), None, True),
        ((), ("training", "steps"), False),
    ],
)
def test_findings_about_broken_values_are_dropped(
    path: SpecPath, label: SpecPath | None, is_kept: bool
) -> None:
    """Equal, above and below a broken path; the empty path is about no value."""
    labels = () if label is None else (Label(label, "x"),)
    found = error("R1", "m", path, labels=labels)
    assert suppress_cascades([found], {("training", "steps"), ()}) == ((found,) if is_kept else ())


# --- anything --------------------------------------------------------------------------------------------

_LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=60)


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)


@settings(max_examples=200, deadline=None)
@given(st.lists(_LINES, min_size=1, max_size=4), st.data(), st.integers(1, 120))
def test_any_span_of_any_text_can_be_shown(lines: list[str], data: Any, width: int) -> None:
    """Rendering never fails, no line of source is wider than asked, and nothing hidden gets out."""
    text = "\n".join(lines)
    source = Document("s", None, text, {}, {}, {})
    offsets = st.integers(0, len(text) + 1)
    start = data.draw(offsets)
    end = max(start, data.draw(offsets))
    found = Diagnostic("E1", Level.ERROR, "m", offsets=(start, end))
    report = render_text([found], source, color=False, width=width)
    for line in report.splitlines():
        # A mark may stand behind the last character.
        assert _width(line) <= max(width, 24) + 1
    hidden = [
        c for c in report if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n"
    ]
    assert hidden == []
    assert "^" in report or not text or end == 0
    json.loads(render_json([found], source))


def test_many_findings_on_one_enormous_line_are_cheap() -> None:
    """Only the part that is shown is looked at (the test would hang otherwise)."""
    text = "a = [" + "1," * 200_000 + "]"
    document = parse_document(text, "s")
    found = [error("E1", str(i), ("a", i * 1000)) for i in range(200)]
    assert render_text(found, document, color=False, width=80).count("^") == 200
