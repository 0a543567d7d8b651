"""Preview: what is shown is what the loss sees, and no text of the data is obeyed by a terminal or a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from tunec.runtime import preview
from tunec.runtime.data import Messages, Options, Tokenizer, prepare
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.errors import UserError
from tunec.runtime.preview.pieces import Gap, Piece, pieces_of
from tunec.runtime.preview.statistics import histogram, percentiles
from tunec.runtime.preview.terminal import has_color
from tunec.runtime.visible import visible, with_breaks

HOSTILE = "\x1b[31mred\x1b]0;title\x07 </pre><script>alert(1)</script><img src=x onerror=a> \u202egnp é日👍\tend"
ALLOWED = re.compile(r"\x1b\[(?:0|1|2|35|30;42|1;30;46)m")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a tokenizer and six rows: hostile, too long, bad, and three plain ones."""
    (tmp_path / "model").symlink_to(tiny_model)
    rows = [
        chat("What?", "Yes."),
        chat("Say it", HOSTILE),
        chat("Long", "word " * 400),
        {"messages": [], "\x1b[31mcolumn": 1},
        chat("Who?", "Marta.\nQuill."),
        chat("And?", "No."),
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def chat(question: str, answer: str) -> dict[str, Any]:
    """Return a row."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def show(
    folder: Path,
    *words: str,
    max_length: int = 256,
    too_long: str = "drop",
    path: Path | None = None,
) -> None:
    """Prepare and show."""
    tokenizer = Tokenizer(path=folder / "model")
    prepare(
        [Messages(path=path or folder / "rows.jsonl", name="rows")],
        tokenizer=tokenizer,
        options=Options(loss_on="assistant", max_length=max_length, too_long=too_long),  # type: ignore[arg-type]
        bad_rows="skip",
        max_bad_share=0.5,
        seed=1,
        output=folder,
        cache_dir=folder / "cache",
        tell=False,
    )
    options = preview.options(words)
    preview.show(
        folder, name="<b>Wren</b>", tokenizer=tokenizer, max_length=max_length, options=options
    )


def test_a_sample_as_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without colours, brackets hold what carries loss and special tokens; the place is file and line."""
    monkeypatch.chdir(folder)
    show(folder, "--row", "5")
    assert capsys.readouterr().out == (
        "rows  rows.jsonl\n"
        "  rows     6 read, 4 kept, 0 truncated, 1 dropped, 1 bad, 0 without loss\n"
        "  tokens   160, 100 carry loss (62 %)\n"
        "  length   5 %: 18  25 %: 18  50 %: 20  75 %: 22  95 %: 100  100 %: 100\n"
        "           0    ▄█               ▄ 105  (max_length 256 is far beyond)\n"
        "\n"
        "⟦carries loss⟧  masked  ‹special›  ⟦‹special with loss›⟧\n"
        "\n"
        "rows.jsonl:5  22 tokens, 8 carry loss, training\n"
        "‹<|im_start|>›user↵\n"
        "Who?‹<|im_end|>›↵\n"
        "‹<|im_start|>›assistant↵\n"
        "⟦Marta.↵\n"
        "Quill.⟧⟦‹<|im_end|>›⟧↵\n"
    )


def test_a_line_for_each_token(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --tokens each token stands on a line with its place and id; line breaks are written out."""
    show(folder, "--row", "5", "--tokens")
    lines = capsys.readouterr().out.split("training\n")[1].splitlines()
    assert lines[0] == "      0             1  ‹<|im_start|>›"
    assert [int(line.split()[0]) for line in lines] == list(range(22))
    assert any(line.endswith(r"  ⟦\n⟧") for line in lines)


@pytest.mark.parametrize("colour", [False, True])
def test_a_terminal_obeys_nothing_of_the_data(
    colour: bool,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Escapes, bells and direction marks of the data are written out; the only escapes are our colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    more = () if colour else ("--no-color",)
    show(folder, "--sample", "9", *more)
    show(folder, "--problems", *more)
    out = capsys.readouterr().out
    assert ("\x1b" in out) == colour
    plain = ALLOWED.sub("", out)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", plain)
    assert r"\x1b[31mred\x1b]0;title\x07" in plain
    assert r"\u202egnp é日👍→" in plain


def test_no_color_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are for terminals that take them; NO_COLOR switches them off, FORCE_COLOR on."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert has_color(sys.stdout)
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not has_color(sys.stdout)


def test_problems_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each gate lists its rows with file and line, what is wrong with them, and no samples."""
    show(folder, "--problems")
    out = capsys.readouterr().out
    assert f"rows: 1 dropped\n  {folder}/rows.jsonl:3\n" in out
    assert f"rows: 1 bad\n  {folder}/rows.jsonl:4: `messages` is an empty list" in out
    assert "carries loss⟧" not in out


def test_rows_without_a_sample(folder: Path) -> None:
    """A row that was dropped, bad, or is not there says so."""
    for row, text in (
        (3, "rows.jsonl:3: this row was dropped"),
        (4, "`messages` is an empty list"),
    ):
        with pytest.raises(UserError, match=re.escape(text)):
            show(folder, "--row", str(row))
    with pytest.raises(UserError, match="no sample comes from row 77"):
        show(folder, "--row", "77")
    with pytest.raises(UserError, match="there is no source `nix`"):
        show(folder, "--source", "nix")


def test_truncated_samples_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cut sample is marked."""
    show(folder, "--row", "3", max_length=40, too_long="truncate")
    out = capsys.readouterr().out
    assert re.search(r"40 tokens, \d+ carry loss, training, truncated\n", out)
    assert "0 truncated" not in out


def test_rows_of_several_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A source of several files shows each row in its own file."""
    (folder / "many").mkdir()
    for name in ("a", "b"):
        (folder / "many" / f"{name}.jsonl").write_text(json.dumps(chat(f"Is it {name}?", "Yes.")))
    show(folder, "--row", "1", path=folder / "many")
    out = capsys.readouterr().out
    assert re.findall(r"many/(\w)\.jsonl:1  ", out) == ["a", "b"]
    assert out.index("a.jsonl") < out.index("Is it a?") < out.index("b.jsonl")


def test_samples_are_drawn_by_the_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed draws the same samples."""
    seen = []
    for seed in ("0", "0", "1", "2", "3"):
        show(folder, "--sample", "2", "--seed", seed)
        seen.append(tuple(re.findall(r"rows\.jsonl:(\d)", capsys.readouterr().out)))
    assert seen[0] == seen[1]
    assert len(set(seen)) > 1
    assert all(len(rows) == 2 for rows in seen)


# --- pieces ----------------------------------------------------------------------------------------------


def test_pieces_join_to_the_text(tiny_model: Path) -> None:
    """Pieces hold every token once, in order; parts of one character stay together."""
    tokenizer = Tokenizer(path=tiny_model).load()
    text = "<|im_start|>user\nhéllo 日本語 👨‍👩‍👧 the lamp<|im_end|>"
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    pieces = [p for p in pieces_of(Sample(ids, ids), tokenizer, full=True) if isinstance(p, Piece)]
    assert "".join(piece.text for piece in pieces) == text
    assert [number for piece in pieces for number in piece.ids] == ids
    assert [piece.text for piece in pieces if piece.special] == ["<|im_start|>", "<|im_end|>"]
    assert not any("\ufffd" in piece.text for piece in pieces)
    # Nothing predicts the first token.
    assert [piece.loss for piece in pieces] == [False] + [True] * (len(pieces) - 1)


def test_torn_characters_are_shown(tiny_model: Path) -> None:
    """A sample cut inside a character ends in the replacement character, and no token is lost."""
    tokenizer = Tokenizer(path=tiny_model).load()
    ids = tokenizer.backend_tokenizer.encode("ok 日", add_special_tokens=False).ids[:-1]
    pieces = [p for p in pieces_of(Sample(ids, ids), tokenizer, full=True) if isinstance(p, Piece)]
    assert [number for piece in pieces for number in piece.ids] == ids
    assert pieces[-1].text == "\ufffd"


def test_long_samples_are_shortened(tiny_model: Path) -> None:
    """The middle is left out and counted; `full` leaves nothing out."""
    tokenizer = Tokenizer(path=tiny_model).load()
    ids = [5] * 1000
    labels = [IGNORED] * 500 + [5] * 500
    short = pieces_of(Sample(ids, labels), tokenizer, full=False)
    (gap,) = [piece for piece in short if isinstance(piece, Gap)]
    assert gap == Gap(520, 340)
    assert sum(len(piece.ids) for piece in short if isinstance(piece, Piece)) == 480
    assert len(pieces_of(Sample(ids, labels), tokenizer, full=True)) == 1000


# --- numbers ---------------------------------------------------------------------------------------------


def test_percentiles_are_lengths_of_samples() -> None:
    """No percentile lies between two samples."""
    assert percentiles(np.arange(1, 101)) == (5, 25, 50, 75, 95, 100)
    assert percentiles(np.array([7])) == (7,) * 6
    assert percentiles(np.array([], np.int64)) == ()


def test_histograms_have_round_bins() -> None:
    """Bins are 1, 2 or 5 times a power of ten wide, and hold every sample."""
    found = histogram(np.array([0, 9, 10, 199]))
    assert (found.width, len(found.counts), found.counts[:2], found.counts[-1]) == (
        10,
        20,
        (2, 1),
        1,
    )
    assert histogram(np.array([3])).counts == (0, 0, 0, 1)
    assert histogram(np.array([100_000])).width == 5000


# --- text ------------------------------------------------------------------------------------------------


def test_visible_text() -> None:
    """Controls, direction marks, halves of characters and line breaks are written out; words stay words."""
    assert visible("a\x1b\x9b\u2028\u200e\ud800\x7f") == r"a\x1b\x9b\u2028\u200e\ud800\x7f"
    assert visible("é日👨\u200d👩 \\n") == "é日👨\u200d👩 \\n"
    assert with_breaks("a\tb\\t\nc") == "a→\tb\\t↵\nc"


# --- the page --------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, attributes and text; every element must be closed."""

    VOID = frozenset({"meta", "line", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def html(folder: Path) -> str:
    """The page of the hostile rows."""
    show(folder, "--html", str(folder / "page.html"))
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_alone(html: str) -> None:
    """Every element is closed, and nothing refers to anything outside the page."""
    page = Page(html)
    assert page.open == []
    names = {name for _, attributes in page.tags for name in attributes}
    assert not names & {"src", "href", "action", "style", "xlink:href", "srcset"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)


def test_data_are_never_markup(html: str) -> None:
    """The one script and the tags are ours; names and rows appear as text."""
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert "img" not in tags
    # The bold ones are the place of each sample, and the names of the source.
    assert "<b>Wren</b>: data preview" in page.text
    assert "</pre><script>alert(1)</script><img src=x onerror=a>" in page.text
    assert r"\x1b[31mred\x1b]0;title\x07" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", html)


def test_the_policy_fits_the_page(html: str) -> None:
    """Only this style and this script may act, by their digests."""
    import base64
    import hashlib

    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_the_page_can_be_filtered(html: str) -> None:
    """Samples and lists of rows carry their source and gates, for the script to choose by."""
    page = Page(html)
    gates = [a.get("data-gates") for tag, a in page.tags if tag == "article"]
    assert gates == ["dropped", "bad", "", "", "", ""]
    titles = [a["title"] for tag, a in page.tags if tag in {"i", "u", "q"} and "title" in a]
    assert titles[0] == "1"
    assert any("," in (title or "") for title in titles), (
        "parts of a character list all their tokens"
    )


def test_a_page_that_cannot_be_written(folder: Path) -> None:
    """A folder that is missing is one line."""
    with pytest.raises(UserError, match="No such file"):
        show(folder, "--html", str(folder / "missing" / "page.html"))


# --- the program -----------------------------------------------------------------------------------------


def test_the_program(workspace: Path) -> None:
    """`tunec preview` compiles, prepares and shows; errors are a line and an exit code."""
    spec = tiny.write_spec(workspace / "spec.toml", "")
    command = [sys.executable, "-c", "from tunec.compiler.cli import main; main()", "preview"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(spec), *words],
            cwd=workspace,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--row", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("chat  data/chat.jsonl\n  rows     24 read, 24 kept, ")
    assert "\ndata/chat.jsonl:2  " in done.stdout
    assert "\x1b" not in done.stdout
    missing = run("--row", "99")
    assert missing.returncode == 11
    assert missing.stderr.startswith("error: no sample comes from row 99 of data/chat.jsonl\n")
    usage = run("--sample", "-1")
    assert usage.returncode == 2
    assert "must not be negative" in usage.stderr
