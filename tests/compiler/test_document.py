"""Reading TOML: the places of all values, and every way in which a text can be refused."""

from __future__ import annotations

import os
import random
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler import document as document_module
from tunec.compiler import files, scanner, syntax_errors
from tunec.compiler.document import (
    CODES,
    Document,
    DocumentError,
    parse_document,
    read_document,
)
from tunec.compiler.files import MAX_BYTES
from tunec.compiler.scanner import MAX_DEPTH, MAX_FAULTS, MAX_KEY_PARTS, Span

# What a spec must keep beyond TOML itself.
LIMIT_CODES = {"P102", "P105", "P106", "P107", "P108", "P109", "P111", "P112"}


def faults(text: str | bytes) -> list[tuple[str, str]]:
    """Return code and underlined text of every fault."""
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "spec.toml")
    found = caught.value
    return [(d.code, found.text[slice(*(d.offsets or (0, 0)))]) for d in found.diagnostics]


def codes(text: str | bytes) -> list[str]:
    """Return the code of every fault."""
    return [code for code, _ in faults(text)]


def at(document: Document, *path: str | int, on_key: bool = False) -> str:
    """Return the text that `locate` points at."""
    span = document.locate(path, on_key)
    return document.text[span.start : span.end]


# --- places ----------------------------------------------------------------------------------------------

SAMPLE = """\
# a comment
title = "top"
[model] # header
path = 'C:\\\\x'
"quoted key" = 1
a.b . "c" = { d = [1, {e = 2}], f.g = true }

[[data.sources]]
format = "alpaca"
[[data.sources]]
format = '''
messages''' # after
names = [
  "x", # one
  2020-01-01 10:00:00,
]
[data.sources.extra]
z = -1_0e3
[data]
max_length = 0x10
"""


def test_values_and_keys_are_found() -> None:
    """Every value, key and header has its own span."""
    document = parse_document(SAMPLE, "spec.toml")
    assert at(document, "title") == '"top"'
    assert at(document, "model") == "[model]"
    assert at(document, "model", on_key=True) == "model"
    assert at(document, "model", "path", on_key=True) == "path"
    assert at(document, "model", "quoted key", on_key=True) == '"quoted key"'
    assert at(document, "model", "a", "b", "c", "d", 1, "e") == "2"
    assert at(document, "model", "a", "b", "c", "f", "g") == "true"
    assert at(document, "model", "a", "b", "c") == "{ d = [1, {e = 2}], f.g = true }"
    assert at(document, "data", "sources", 1, "format") == "'''\nmessages'''"
    assert at(document, "data", "sources", 1, "names", 1) == "2020-01-01 10:00:00"
    assert at(document, "data", "sources", 0) == "[[data.sources]]"
    assert at(document, "data", "sources", 1, "extra", "z") == "-1_0e3"
    assert at(document, "data") == "[data]"


def test_missing_values_are_placed_at_the_nearest_parent() -> None:
    """A value that is not there points to its table's header, or to the start of the file."""
    document = parse_document(SAMPLE, "spec.toml")
    assert at(document, "model", "revision") == "[model]"
    assert at(document, "model", "revision", on_key=True) == "[model]"
    assert document.locate(("data", "sources", 1, "path")).start == SAMPLE.rindex(
        "[[data.sources]]"
    )
    assert document.locate(("run", "output_dir")) == Span(0, 0)
    assert document.locate(()) == Span(0, 0)


def test_a_table_made_by_a_dotted_header_is_found_by_its_name() -> None:
    """`[a.b]` places `a` at its part of the header."""
    assert at(parse_document("[a.b]\n", "s"), "a") == "a"


def test_positions_count_code_points_from_one() -> None:
    """Wide characters are one column; CRLF is no column of its own."""
    document = parse_document("a = '😀'\r\nb = '語' # x\r\n", "s")
    assert document.position(document.locate(("b",)).start) == (2, 5)
    assert document.position(0) == (1, 1)


# --- generated documents ---------------------------------------------------------------------------------

_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.sampled_from(
    ["a", "b", "steps", "lora-rank", "1", "a.b", "ключ", "😀", '"', "'", "\\", "#", "\t"]
)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_SCALARS = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.dates()
    | st.datetimes().map(lambda moment: moment.replace(microsecond=0))
    | st.times().map(lambda moment: moment.replace(microsecond=0))
    | _TEXTS
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=12,
)
_TABLES = st.dictionaries(_NAMES, _VALUES, max_size=6)


class Writer:
    """Writes data as TOML in one of its many spellings."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.newline = rng.choice(["\n", "\r\n"])

    def blank(self) -> str:
        return self.rng.choice(["", " ", "\t", "  "])

    def gap(self) -> str:
        comment = f" # [x] = '\"{self.newline}"
        return self.rng.choice(["", " ", "\t", self.newline, comment])

    def basic(self, text: str, keep: str = "") -> str:
        out = []
        for char in text:
            if char in keep:
                out.append(char)
            elif char in '"\\':
                out.append("\\" + char)
            elif ord(char) < 32 or ord(char) == 127 or self.rng.random() < 0.05:
                out.append(f"\\U{ord(char):08X}")
            else:
                out.append(char)
        return "".join(out)

    def text(self, text: str) -> str:
        is_plain = all(char == "\t" or (ord(char) >= 32 and ord(char) != 127) for char in text)
        style = self.rng.randrange(4)
        if style == 1 and is_plain and "'" not in text:
            return f"'{text}'"
        if style == 2 and is_plain and "'''" not in text and not text.endswith("'"):
            return f"'''{self.rng.choice(['', self.newline])}{text}'''"
        if style == 3:
            return f'"""{self.newline}{self.basic(text)}\\{self.newline}  """'
        return f'"{self.basic(text)}"'

    def key(self, name: str) -> str:
        is_bare = name != "" and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if is_bare and self.rng.random() < 0.7:
            return name
        return f'"{self.basic(name)}"'

    def scalar(self, value: Any) -> str:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return self.rng.choice(
                [str, lambda v: f"+{v}" if v >= 0 else str(v), f"{value:_}".format]
            )(value)
        if isinstance(value, float):
            return repr(value)
        return str(value.isoformat()).replace("T", self.rng.choice(["T", " ", "t"]))

    def value(self, value: Any) -> str:
        if isinstance(value, list):
            inner = "".join(f"{self.gap()}{self.value(v)}{self.gap()}," for v in value)
            keep_comma = bool(value) and self.rng.random() < 0.5
            return f"[{inner if keep_comma else inner[:-1]}{self.gap()}]"
        if isinstance(value, dict):
            inner = ",".join(
                f"{self.blank()}{self.key(k)}{self.blank()}={self.blank()}{self.value(v)}{self.blank()}"
                for k, v in value.items()
            )
            return f"{{{inner or self.blank()}}}"
        return self.scalar(value)

    def line(self, text: str) -> str:
        return f"{self.blank()}{text}{self.blank()}{self.rng.choice(['', '# [y]'])}{self.newline}"

    def pair(self, key: str, value: Any) -> str:
        if isinstance(value, dict) and len(value) == 1 and self.rng.random() < 0.5:
            (inner,) = value
            return self.pair(f"{key}{self.blank()}.{self.blank()}{self.key(inner)}", value[inner])
        return self.line(f"{key}{self.blank()}={self.blank()}{self.value(value)}")

    def table(self, data: dict[str, Any], prefix: str = "") -> str:
        later, out = [], []
        for name, value in data.items():
            key = self.key(name)
            if isinstance(value, dict) and self.rng.random() < 0.6:
                header = self.line(f"[{prefix}{key}{self.blank()}]")
                later.append(header + self.table(value, f"{prefix}{key}."))
            elif self._is_table_list(value) and self.rng.random() < 0.6:
                header = self.line(f"[[{self.blank()}{prefix}{key}]]")
                later += [header + self.table(row, f"{prefix}{key}.") for row in value]
            else:
                out.append(self.pair(key, value))
        return "".join([*out, self.newline * self.rng.randrange(2), *later])

    @staticmethod
    def _is_table_list(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """Return every value that is no table, with its path."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    found = (
        [leaf for i, inner in enumerate(value) for leaf in leaves(inner, (*path, i))]
        if isinstance(value, list)
        else []
    )
    is_table_list = Writer._is_table_list(value)
    return found if is_table_list else [*found, (path, value)]


@settings(max_examples=150, deadline=None)
@given(_TABLES, st.randoms(use_true_random=False))
def test_every_leaf_of_a_document_can_be_read_from_its_span(
    data: dict[str, Any], rng: random.Random
) -> None:
    """The text in the span of a value is that value; the text in the span of a key is that key."""
    text = Writer(rng).table(data)
    document = parse_document(text, "s")
    assert document.data == data == tomli.loads(text)
    for path, value in leaves(data):
        span = document.values[path]
        assert tomli.loads("x = " + text[span.start : span.end])["x"] == value
        if isinstance(path[-1], str):
            key = document.keys[path]
            assert tomli.loads(text[key.start : key.end] + " = 1") == {path[-1]: 1}


_PIECES = [
    "a",
    "b",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ",",
    ".",
    '"',
    "'",
    '"""',
    "'''",
    "\\",
    "\\n",
    "\\u0000",
    "\\e",
    "#",
    "1",
    "0x",
    "_",
    "-",
    "e9",
    "nan",
    "true",
    "é",
    "10:00",
    "a.b=",
    "a={",
    "99999999999999999999",
    "1e999",
    "1979-05-27",
]
_BREAKS = [" ", "\n", "\r\n", "\r", "\0", "\ufeff", "a=1\n", "[a]\n", "[[a]]\n"]
_NOISE = st.lists(st.sampled_from([*_PIECES, *_BREAKS]), max_size=40).map("".join)


def check_against_tomli(content: bytes) -> None:
    """Assert that tomli and `parse_document` agree, apart from the documented limits."""
    try:
        expected: Any = tomli.loads(content.decode().removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        expected = None
    try:
        read: Document | DocumentError = parse_document(content, "s")
    except DocumentError as refusal:
        read = refusal
    if isinstance(read, Document):
        assert expected == read.data
        return
    found = {diagnostic.code for diagnostic in read.diagnostics}
    assert found
    assert found <= CODES.keys()
    assert expected is None or found & LIMIT_CODES
    for diagnostic in read.diagnostics:
        start, end = diagnostic.offsets or (0, 0)
        assert 0 <= start <= end <= len(read.text) + 2


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | _NOISE.map(str.encode))
def test_any_bytes_are_read_or_refused_as_tomli_does(content: bytes) -> None:
    """Nothing but `DocumentError` comes out, and tomli's verdict counts."""
    check_against_tomli(content)


@settings(max_examples=150, deadline=None)
@given(_TABLES, st.randoms(use_true_random=False))
def test_damaged_documents_are_refused_as_tomli_does(
    data: dict[str, Any], rng: random.Random
) -> None:
    """A valid document with a few characters changed gives `DocumentError` or tomli's data."""
    text = list(Writer(rng).table(data))
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(text) + 1)
        text[place : place + rng.randrange(2)] = rng.choice(list("=[]{},.\"'\\#\n \r_a1"))
    check_against_tomli("".join(text).encode())


def test_the_largest_documents_do_not_exhaust_the_scanner() -> None:
    """Extreme but small enough documents are read or refused without a crash."""
    for content in (
        "a = [" + "1," * 200_000 + "]",
        'a = "' + "\\n" * 200_000 + '"',
        "#" * 900_000,
        "[" * 500_000,
        "a = " + "{a = " * 100_000,
        ".".join("a" * 300_000) + " = 1",
        'a = """' + '""x' * 100_000,
        "a = " + "9" * 900_000,
    ):
        check_against_tomli(content.encode())


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\rb = 2", [("P103", "\r")]),
        ("a = 1\nb = 2\na = 3\n", [("P104", "a")]),
        ("[a]\nx = 1\n[a]\ny = 1\n", [("P104", "a")]),
        ("a.b = 1\n[a]\n", [("P104", "a")]),
        ("[a.b]\n[[a]]\n", [("P104", "a")]),
        ("a = {x = 1, x = 2}", [("P104", "x")]),
        ("a = [1]\n[[a]]\n", [("P104", "a")]),
        ("a = " + "[" * 65 + "]" * 65, [("P105", "[")]),
        (".".join("a" * 17) + " = 1", [("P106", ".".join("a" * 17))]),
        ("a = 9223372036854775808", [("P108", "9223372036854775808")]),
        ("a = 0xffffffffffffffff", [("P108", "0xffffffffffffffff")]),
        ("a = " + "9" * 5000, [("P108", "9" * 5000)]),
        ("a = nan\nb = -inf\nc = 1e400", [("P109", "nan"), ("P109", "-inf"), ("P109", "1e400")]),
        ("a = 'x\0'", [("P111", "\0")]),
        ('a = "x\\u0000"', [("P111", "\\u0000")]),
        ("a = {x = 1,\ny = 2}", [("P112", "{")]),
        ("a = {x = 1,}", [("P112", ",")]),
        ('a = "\\e"', [("P112", "\\e")]),
        ("a = 10:00", [("P112", "10:00")]),
        ("learning rate = 1", [("P120", "rate")]),
        ("= 1", [("P120", "=")]),
        ("a. = 1", [("P120", "=")]),
        ("a = \"x\nb = 'y", [("P121", '"x'), ("P121", "'y")]),
        ('a = """x\n', [("P121", '"""x\n')]),
        ("a = [1, 2\nb = 3\n", [("P122", "b")]),
        ("a = {x = 1 y = 2}", [("P122", "y")]),
        ("a = True\nb = None\nc = .5\n", [("P123", "True"), ("P123", "None"), ("P123", ".5")]),
        ("a = \nb = 1\n", [("P123", "\n")]),
        ("a = 007", [("P123", "07")]),
        ('a = "C:\\data"', [("P124", "\\d")]),
        ('a = "\\u12"', [("P124", "\\u")]),
        ("a = 'x\x1b'", [("P125", "\x1b")]),
        ("a = 1 b = 2", [("P126", "b")]),
        ("[a\nb = 1\n[c]\nd = yes\n", [("P127", "\n"), ("P123", "yes")]),
        ("a = $HOME/x\r\nb = 1\r\nc = no\r\n", [("P123", "$HOME/x"), ("P123", "no")]),
    ],
)
def test_each_fault_has_its_code_and_place(text: str, expected: list[tuple[str, str]]) -> None:
    """Faults are found with their places, several in one pass where they are independent."""
    assert faults(text) == expected


def test_a_duplicate_shows_both_places() -> None:
    """The second definition is the primary place, the first one is labelled."""
    with pytest.raises(DocumentError) as caught:
        parse_document("[run]\nname = 'a'\nname = 'b'\n", "spec.toml")
    (found,) = caught.value.diagnostics
    assert found.message == "`run.name` is defined twice"
    assert found.offsets == (17, 21)
    assert [(label.text, label.offsets) for label in found.labels] == [
        ("first defined here", (6, 10))
    ]


def test_an_open_list_does_not_hide_the_table_after_it() -> None:
    """Reading goes on at the line on which the list was noticed to be open."""
    text = 'a = [\n  "x"\n[training]\nsteps = maybe\n'
    assert faults(text) == [("P122", "[training"), ("P123", "maybe")]


def test_the_limits_themselves_are_allowed() -> None:
    """A document at each limit is read."""
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    long_key = ".".join(f"k{i}" for i in range(MAX_KEY_PARTS))
    numbers = "low = -9223372036854775808\nhigh = 0x7fffffffffffffff\nbig = 1e308\nzero = -0.0\n"
    document = parse_document(f"a = {deep}\n{long_key} = 1\n{numbers}", "s")
    assert document.data["high"] == (1 << 63) - 1
    padding = b"#" * MAX_BYTES
    assert parse_document(padding, "s").data == {}
    assert codes(padding + b"#") == ["P107"]


def test_a_byte_order_mark_is_skipped_with_a_warning() -> None:
    """The mark is no part of the text, so that places stay right."""
    document = parse_document("\ufeffa = 1\n".encode(), "s")
    assert document.text == "a = 1\n"
    assert [d.code for d in document.warnings] == ["P101"]
    assert at(document, "a") == "1"


def test_invisible_characters_are_warned_of() -> None:
    """A direction override changes what a reader sees."""
    (found,) = parse_document("a = 'x\u202ey'\n", "s").warnings
    assert (found.code, found.offsets) == ("P110", (6, 7))
    assert found.message == "the text holds the invisible character U+202E"


@pytest.mark.parametrize(
    ("content", "message", "help_"),
    [
        (
            b"a = 1\nb = '\xe9'\n",
            "the file is not UTF-8: byte 11 is 0xE9",
            "Latin-1 or Windows-1252",
        ),
        ("a = 1\n".encode("utf-16"), "the file is not UTF-8: byte 0 is 0xFF", "UTF-16"),
    ],
)
def test_other_encodings_are_refused(content: bytes, message: str, help_: str) -> None:
    """The first bad byte is named, and the likely encoding."""
    with pytest.raises(DocumentError) as caught:
        parse_document(content, "s")
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("P102", message)
    assert help_ in found.helps[0]


def test_half_a_surrogate_pair_is_refused() -> None:
    """Text that cannot be written as UTF-8 is refused before anything prints it."""
    assert codes("a = '\ud800'") == ["P102"]


def test_many_faults_end_at_the_cap() -> None:
    """Nobody reads the twenty-first syntax error."""
    assert len(codes("a = yes\n" * 50)) == MAX_FAULTS


# --- files -----------------------------------------------------------------------------------------------


def refusal(path: Path) -> tuple[str, str]:
    """Return code and message for a file that cannot be read."""
    with pytest.raises(DocumentError) as caught:
        read_document(path)
    (found,) = caught.value.diagnostics
    return found.code, found.message


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    """The display name stands in for the path."""
    path = tmp_path / "spec.toml"
    path.write_text("a = 1\n")
    assert read_document(path).name == str(path)
    document = read_document(path, "spec.toml")
    assert (document.name, document.path, document.data) == ("spec.toml", path, {"a": 1})


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """Folders, pipes, sockets, devices and endless streams are never waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert refusal(tmp_path / "socket")[0] in ("P114", "P115")
    assert refusal(tmp_path) == ("P114", "this is a folder, not a regular file")
    assert refusal(pipe) == ("P114", "this is a pipe, not a regular file")
    assert refusal(Path("/dev/zero")) == ("P114", "this is a device, not a regular file")


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """Missing files, loops, impossible names and the system's refusals all become diagnostics."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refusal(tmp_path / "missing.toml") == ("P113", "the file does not exist")
    assert refusal(loop)[0] == "P115"
    assert refusal(tmp_path / "a\0b")[0] == "P115"
    assert refusal(tmp_path / ("x" * 5000))[0] == "P115"
    assert refusal(tmp_path / "missing" / "spec.toml")[0] == "P113"


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's words are passed on (root may read anything, so the refusal is simulated)."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(tmp_path / "x") == ("P115", "the file cannot be read: permission denied")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The size counts, not the content: a sparse file of 1 TiB is refused at once."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(path) == ("P107", "the file is larger than 1 MiB")


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one version and half of another make no spec."""
    path = tmp_path / "spec.toml"
    path.write_bytes(b"a = 1\n")
    read = os.read

    def read_and_grow(descriptor: int, size: int) -> bytes:
        path.write_bytes(b"a = 1\nb = 2\n")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", read_and_grow)
    assert refusal(path) == ("P116", "the file changed while it was being read")


def test_every_code_is_explained() -> None:
    """The table has a paragraph for each code that the source uses."""
    modules = (document_module, files, scanner, syntax_errors)
    source = "".join(Path(module.__file__).read_text() for module in modules)
    used = set(re.findall(r'"(P\d{3})"', source))
    assert used == CODES.keys()
    assert all(text.endswith(".") and len(text) > 40 for text in CODES.values())
