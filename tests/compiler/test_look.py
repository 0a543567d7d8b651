"""Looking at data of every kind: rows are counted, the first bad one is placed, and what is read is bounded."""

from __future__ import annotations

import builtins
import bz2
import gzip
import hashlib
import json
import lzma
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunec.compiler.facts import data as data_facts
from tunec.compiler.facts import heads
from tunec.compiler.facts.data import DataFacts, read_data
from tunec.compiler.facts.sample_kinds import FileSource
from tunec.compiler.spec import AlpacaSource, MessagesSource, PreferenceSource, TextSource
from tunec.runtime import data as runtime
from tunec.runtime.errors import UserError

PAIR = {"instruction": "q", "output": "a"}
CSV = 'instruction,output\nq,a\n"q,\nq",a\n\nq,a\n'


def lines(*rows: Any) -> bytes:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def alpaca(path: str, **options: Any) -> AlpacaSource:
    """Return a source of instructions."""
    return AlpacaSource(format="alpaca", path=path, **options)


def text(path: str, **options: Any) -> TextSource:
    """Return a source of texts."""
    return TextSource(format="text", path=path, **options)


def seen(folder: Path, name: str, content: bytes, source: FileSource | None = None) -> DataFacts:
    """Write a file and return its facts."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return read_data(folder, source or alpaca(name))


def said_there(folder: Path, path: str) -> str:
    """Return what the runtime says about the rows, without the folder."""
    with pytest.raises(UserError) as caught:
        runtime.read([runtime.Alpaca(path=folder / path, name="x")])
    return caught.value.message.replace(f"{folder}/", "")


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files(suffix: str, tmp_path: Path) -> None:
    """They are looked into like others, also those of several parts; a damaged one is said to be that."""
    pack, name = PACKERS[suffix], f"rows.jsonl{suffix}"
    facts = seen(tmp_path, name, pack(lines(PAIR, PAIR)) + pack(lines(PAIR)))
    assert (facts.state, facts.num_rows, facts.unchecked) == ("ok", 3, False)
    assert facts.text_bytes == 3 * len(lines(PAIR))
    assert facts.columns is not None
    assert facts.columns.names == ("instruction", "output")
    bad = seen(tmp_path, name, pack(lines(PAIR, {**PAIR, "output": ""}))).bad_row
    assert bad is not None
    assert f"{name}:{bad.line}: {bad.message}" == said_there(tmp_path, name)
    whole = pack(lines(*[{**PAIR, "n": hashlib.sha256(bytes([n])).hexdigest()} for n in range(99)]))
    damaged = seen(tmp_path, name, whole[: len(whole) // 2])
    assert damaged.state == "unreadable"
    assert damaged.problem.startswith("the file is damaged: ")
    assert seen(tmp_path, name, b"no such file format").state == "unreadable"


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_small_file_that_grows_is_not_unpacked(suffix: str, tmp_path: Path) -> None:
    """A gigabyte in a megabyte costs no more memory than what is looked at."""
    row = json.dumps({**PAIR, "pad": "x" * 10_000}).encode() + b"\n"
    packed = PACKERS[suffix](row * 6_000)
    tracemalloc.start()
    facts = seen(tmp_path, f"rows.jsonl{suffix}", packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (facts.num_rows, facts.unchecked) == (None, True)
    assert 500 < facts.num_checked < 1000
    assert peak < 64 * 2**20


def test_zstandard_that_is_not_there(tmp_path: Path, without: Callable[[str], None]) -> None:
    """Nothing is known then, and it is said why."""
    without("zstandard")
    facts = seen(tmp_path, "rows.jsonl.zst", b"x")
    assert (facts.state, facts.num_rows, facts.columns) == ("ok", None, None)
    assert facts.unread == "reading .zst files needs zstandard, which is not installed here"


def test_zstandard(tmp_path: Path) -> None:
    """It is looked into where the package is there."""
    zstandard = pytest.importorskip("zstandard")
    pack = zstandard.ZstdCompressor().compress
    facts = seen(tmp_path, "rows.jsonl.zst", pack(lines(PAIR)) + pack(lines(PAIR)))
    assert facts.num_rows == 2
    assert seen(tmp_path, "rows.jsonl.zst", b"x").state == "unreadable"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package as good as not installed."""

    def hide(package: str) -> None:
        real = builtins.__import__

        def fail(name: str, *rest: Any) -> Any:
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *rest)

        for name in [*sys.modules]:
            if name.split(".")[0] == package:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(builtins, "__import__", fail)

    return hide


def test_csv(tmp_path: Path) -> None:
    """Quoted line breaks and blank lines are no rows of their own; the header names the columns."""
    facts = seen(tmp_path, "rows.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    assert (facts.state, facts.num_rows, facts.bad_row) == ("ok", 3, None)
    assert facts.columns is not None
    assert facts.columns.names == ("instruction", "output")
    assert seen(tmp_path, "rows.csv", CSV.encode(), alpaca("rows.csv", limit=2)).num_rows == 2
    assert seen(tmp_path, "rows.csv", b"instruction,output\n").num_rows == 0
    packed = seen(tmp_path, "rows.csv.gz", gzip.compress(CSV.encode()))
    assert (packed.num_rows, packed.text_bytes) == (3, len(CSV))


@pytest.mark.parametrize(
    "content",
    [
        b"instruction,output\nq,a\nq\n",
        b"instruction,output\nq,a,b\n",
        b'instruction,output\nq,a\n"q\n\n',
        b"instruction,output, output\nq,a,b\n",
        b"instruction,output\nq,caf\xe9\n",
        b"instruction,output\nq,\n",
        b'instruction,output\nq,"a"b\n',
    ],
    ids=["short", "long", "open", "twice", "latin", "empty", "quote"],
)
def test_bad_csv(content: bytes, tmp_path: Path) -> None:
    """A fault of a table of text is told with its line, as the run would tell it."""
    bad = seen(tmp_path, "rows.csv", content).bad_row
    assert bad is not None
    assert f"rows.csv:{bad.line}: {bad.message}" == said_there(tmp_path, "rows.csv")


def test_plain_text(tmp_path: Path) -> None:
    """Each line that is not blank is a text."""
    facts = seen(tmp_path, "rows.txt", b"a\r\n\r\nb\rc", text("rows.txt"))
    assert (facts.state, facts.num_rows, facts.bad_row) == ("ok", 3, None)
    bad = seen(tmp_path, "rows.txt", b"a\n\xff\n", text("rows.txt")).bad_row
    assert bad is not None
    assert (bad.line, bad.message) == (2, "not UTF-8 text")
    other = seen(tmp_path, "rows.txt", b"a\n", text("rows.txt", text="body")).bad_row
    assert other is not None
    assert other.message == "the row has no column `body`"


# --- tables ----------------------------------------------------------------------------------------------


def write_table(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    """Write Parquet, an Arrow file, or a stream as `datasets` saves it."""
    import pyarrow
    from pyarrow import feather, parquet

    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, **options)
    elif path.suffix == ".feather":
        feather.write_feather(table, path)
    else:
        with (
            pyarrow.OSFile(str(path), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=options.get("row_group_size"))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.feather"])
def test_tables(name: str, tmp_path: Path) -> None:
    """Columns and rows of a table are known, the first bad row has its number."""
    rows = [{**PAIR, "extra": {"x": [1]}} for _ in range(2500)]
    write_table(tmp_path / name, rows)
    facts = read_data(tmp_path, alpaca(name))
    assert (facts.state, facts.num_rows, facts.bad_row) == ("ok", 2500, None)
    assert (facts.num_checked, facts.unchecked) == (1024, True)
    assert facts.columns is not None
    assert facts.columns.names == ("instruction", "output", "extra")
    assert read_data(tmp_path, alpaca(name, limit=10)).num_rows == 10
    write_table(tmp_path / name, [*rows[:70], {**PAIR, "output": None}, *rows[:9]])
    bad = read_data(tmp_path, alpaca(name)).bad_row
    assert bad is not None
    assert f"{name}:{bad.line}: {bad.message}" == said_there(tmp_path, name)
    assert bad.line == 71
    (tmp_path / name).write_bytes(b"x" * 100)
    damaged = read_data(tmp_path, alpaca(name))
    assert damaged.state == "unreadable"
    suffix = Path(name).suffix
    assert damaged.problem.startswith(f"no {suffix} file that can be read: ")


def test_lists_in_tables(tmp_path: Path) -> None:
    """Messages in a table are messages."""
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    write_table(tmp_path / "rows.parquet", [{"messages": talk}] * 3)
    source = MessagesSource(format="messages", path="rows.parquet")
    facts = read_data(tmp_path, source)
    assert (facts.num_rows, facts.bad_row, facts.unchecked) == (3, None, False)


def test_tables_without_pyarrow(tmp_path: Path, without: Callable[[str], None]) -> None:
    """Nothing is known then, and it is said why; a missing file is still missing."""
    write_table(tmp_path / "rows.parquet", [PAIR])
    without("pyarrow")
    facts = read_data(tmp_path, alpaca("rows.parquet"))
    assert (facts.state, facts.num_rows, facts.columns) == ("ok", None, None)
    assert facts.unread == "reading .parquet files needs pyarrow, which is not installed here"
    assert read_data(tmp_path, alpaca("none.parquet")).state == "missing"


def test_a_table_of_large_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large rows fewer are looked at, and columns that no setting names are left alone."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 2**20)
    rows = [{**PAIR, "output": "a" * 10_000, "image": "x" * 10_000} for _ in range(500)]
    write_table(tmp_path / "rows.parquet", rows, row_group_size=50)
    facts = read_data(tmp_path, alpaca("rows.parquet"))
    assert facts.num_rows == 500
    assert 32 <= facts.num_checked <= 128


# --- several files ---------------------------------------------------------------------------------------


def test_folders_and_patterns(tmp_path: Path) -> None:
    """The rows of several files are one data set, in the order of their names."""
    for name, count in (("b", 2), ("a", 3), ("c", 1)):
        seen(tmp_path, f"many/{name}.jsonl", lines(*[PAIR] * count))
    (tmp_path / "many" / "notes.md").write_text("no data")
    for path, state in (("many", "folder"), ("many/*.jsonl", "glob"), ("ma*/?.jsonl", "glob")):
        facts = read_data(tmp_path, alpaca(path))
        assert (facts.state, facts.num_rows, facts.unchecked) == (state, 6, False)
        assert facts.files == ("a.jsonl", "b.jsonl", "c.jsonl")
    assert read_data(tmp_path, alpaca(f"{tmp_path}/many/[ab].jsonl")).num_rows == 5
    assert read_data(tmp_path, alpaca("many", limit=4)).num_rows == 4
    (tmp_path / "many" / "b.jsonl").write_bytes(lines(PAIR, {**PAIR, "output": ""}))
    facts = read_data(tmp_path, alpaca("many"))
    bad = facts.bad_row
    assert bad is not None
    assert bad.file is not None
    assert f"many/{bad.file.name}:{bad.line}: {bad.message}" == said_there(tmp_path, "many")
    assert read_data(tmp_path, alpaca("many", limit=4)).bad_row is None


def test_many_files_share_what_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When enough was read, the rows of the other files are only counted."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 2 * len(lines(PAIR)))
    for number in range(5):
        seen(tmp_path, f"many/{number}.jsonl", lines(PAIR))
    facts = read_data(tmp_path, alpaca("many"))
    assert (facts.num_rows, facts.num_checked, facts.unchecked) == (5, 2, True)
    write_table(tmp_path / "0.parquet", [PAIR] * 40)
    write_table(tmp_path / "1.parquet", [PAIR] * 40)
    facts = read_data(tmp_path, alpaca("*.parquet"))
    assert (facts.num_rows, facts.num_checked) == (80, 32)


def test_files_of_several_kinds_are_not_read(tmp_path: Path) -> None:
    """Which of them would count is not known."""
    seen(tmp_path, "many/a.jsonl", b"{")
    seen(tmp_path, "many/b.csv", b"x")
    facts = read_data(tmp_path, alpaca("many"))
    assert (facts.bad_row, facts.num_rows, len(facts.files)) == (None, None, 2)


def test_a_saved_data_set(tmp_path: Path) -> None:
    """A folder that `datasets` saved says itself which files and splits it has."""
    for split, count in (("train", 3), ("test", 1)):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        write_table(folder / "data-00000-of-00001.arrow", [PAIR] * count)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text("{}")
    splits = {"splits": ["train", "test"]}
    (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps(splits))
    assert read_data(tmp_path, alpaca("saved")).num_rows == 3
    assert read_data(tmp_path, alpaca("saved", split="test")).num_rows == 1
    assert read_data(tmp_path, alpaca("saved/test")).num_rows == 1
    other = read_data(tmp_path, alpaca("saved", split="dev"))
    assert (other.state, other.problem) == (
        "unreadable",
        "there is no split `dev`, it has train, test",
    )


# --- bounds ----------------------------------------------------------------------------------------------


def test_a_row_of_a_hundred_megabytes(tmp_path: Path) -> None:
    """It is counted, not held: memory stays that of what is looked at."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + lines({"text": "a"}))
    tracemalloc.start()
    facts = read_data(tmp_path, text("rows.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (facts.state, facts.num_rows, facts.num_checked, facts.unchecked) == ("ok", 2, 0, True)
    assert peak < 64 * 2**20


@pytest.mark.parametrize("content", ["[", '[{"text": "a"},', '[{"text": "a'])
def test_arrays_beyond_what_is_looked_at(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beginning of a large array is checked: where the head ends is no fault, anything before it is."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 400)
    rows = [{"text": f"a{n}"} for n in range(99)]
    for letter in ("a", "é", "字", "🎈"):
        row = json.dumps([{"text": letter * 9}] * 99, ensure_ascii=False)
        facts = seen(tmp_path, "rows.json", row.encode(), text("rows.json"))
        assert (facts.num_rows, facts.bad_row, facts.unchecked) == (None, None, True)
        assert facts.num_checked > 5
    facts = seen(tmp_path, "rows.json", json.dumps(rows, indent=1).encode(), text("rows.json"))
    assert (facts.num_rows, facts.bad_row, facts.unchecked) == (None, None, True)
    assert 5 < facts.num_checked < 30
    broken = json.dumps(rows, indent=1).replace('"a3"', "a3").encode()
    bad = seen(tmp_path, "rows.json", broken, text("rows.json")).bad_row
    assert bad is not None
    assert bad.line == 12
    short = seen(tmp_path, "rows.json", content.encode(), text("rows.json")).bad_row
    assert short is not None


def test_csv_beyond_what_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is open where the head ends is no fault; the rows are not counted."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 200)
    content = "instruction,output\n" + 'q,"a\na\na"\n' * 99
    for size in range(100, 140):
        monkeypatch.setattr(data_facts, "WHOLE_BYTES", size)
        facts = seen(tmp_path, "rows.csv", content.encode())
        assert (facts.num_rows, facts.bad_row, facts.unchecked) == (None, None, True)
        assert facts.num_checked > 4


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.txt"])
@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", b"a\n\n b\n \n\tc", b"\n\na\n"])
def test_lines_are_counted_in_pieces(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a file is cut, a line that is not blank is a row."""
    (tmp_path / name).write_bytes(content)
    expected = sum(bool(line.strip()) for line in content.split(b"\n"))
    for size in (1, 2, 3, 100):
        monkeypatch.setattr(heads, "CHUNK", size)
        assert heads.count_rest(tmp_path / name, 1000) == expected
    assert heads.count_rest(tmp_path / name, -1) is None


# --- media -----------------------------------------------------------------------------------------------


def test_media_are_looked_for(tmp_path: Path) -> None:
    """They stand beside the rows or in the folder of media; what is elsewhere is not looked for."""
    row = {"instruction": "<image>", "output": "a", "images": "a.png"}
    source = alpaca("rows/x.jsonl", images="images")
    bad = seen(tmp_path, "rows/x.jsonl", lines(row), source).bad_row
    assert bad is not None
    assert (bad.message, bad.line) == ("there is no image `a.png`", 1)
    assert "media.dir" in bad.help
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    assert read_data(tmp_path, source, None, tmp_path / "pictures").bad_row is None
    (tmp_path / "rows" / "a.png").touch()
    assert read_data(tmp_path, source).bad_row is None
    for path in ("https://example.org/a.png", "\0", "\udcff", "x" * 5000):
        content = lines({**row, "images": [path]})
        bad = seen(tmp_path, "rows/x.jsonl", content, source).bad_row
        assert (bad is None) is ("://" in path)


# --- anything at all -------------------------------------------------------------------------------------

NAMES = ["a.json", "a.jsonl", "a.csv", "a.txt", "a.jsonl.gz", "a.csv.xz", "a.bz2", "a.json.bz2"]
TABLE_NAMES = ["a.parquet", "a.arrow", "a.feather", "a.jsonl.zst", "a.parquet.gz"]
PIECES = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b'"', b"\n", b"\r", b":", b"\\u", b"\xff", b"1e999", b"\xef\xbb\xbf"),
        *(b'{"text": "x"}', b"text\n", b"null", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"PAR1", b"ARROW1\0\0"),
    ]
)  # fmt: skip


@given(
    name=st.sampled_from([*NAMES, *TABLE_NAMES]),
    content=st.lists(PIECES | st.binary(max_size=6), max_size=25).map(b"".join),
    pack=st.booleans(),
)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_is_a_fact(name: str, content: bytes, pack: bool, tmp_path: Path) -> None:
    """Whatever a file holds and is called, nothing is raised."""
    if pack and Path(name).suffix in PACKERS:
        content = PACKERS[Path(name).suffix](content)
    for source in (text(name), alpaca(name, limit=2), PreferenceSource(format="preference", path=name)):  # fmt: skip
        facts = seen(tmp_path, name, content, source)
        assert facts.state in ("ok", "unreadable", "unknown-kind")
        assert facts.state != "unreadable" or facts.problem


@given(
    name=st.sampled_from(["a.parquet", "a.feather", "a.arrow"]),
    changes=st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=3)), max_size=4
    ),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damaged_table_is_a_fact(
    name: str, changes: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    """Whatever bytes of a table are damaged, nothing is raised, and nothing outside of it is read."""
    write_table(tmp_path / name, [{**PAIR, "list": [{"x": 1}]}] * 9)
    content = bytearray((tmp_path / name).read_bytes())
    for place, piece in changes:
        content[place % len(content) : place % len(content) + len(piece)] = piece
    facts = seen(tmp_path, name, bytes(content))
    assert facts.state in ("ok", "unreadable")
