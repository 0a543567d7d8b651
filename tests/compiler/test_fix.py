"""`tunec check --fix`: what can only mean one thing is mended, and nothing else is touched."""

from __future__ import annotations

import os
import re
import stat
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunec.compiler import cli
from tunec.compiler.diagnostics import Add, Diagnostic, Fix, Level, Move, Remove, Rename, Replace
from tunec.compiler.document import Document, DocumentError, parse_document
from tunec.compiler.edits import edited, edits_of
from tunec.compiler.fix import StaleError, diff, fix_text, write_text
from tunec.compiler.pipeline import analyse_document

BASE = """\
# a run
[run]
output_dir = "runs/none" # here

[model]
path = "model"

[data]
sources = [{ format = "messages", path = "data.jsonl" }]

[method]
type = "lora"

[batch]
global_size = 8
micro_size = 4
"""


def find(document: Document) -> tuple[Diagnostic, ...]:
    """Return what the text alone says."""
    return analyse_document(document, Path("spec.toml"), {}, with_facts=False).diagnostics


def fixed(text: str) -> str:
    """Return the text after `--fix`."""
    return fix_text(parse_document(text, "spec.toml"), find)


def with_kind(text: str) -> str:
    """Return the text with the kind of its `[method]`, without which no key of it is looked at."""
    return text if "type" in text else text.replace("[method]\n", '[method]\ntype = "lora"\n')


def num_errors(text: str) -> int:
    """Return the number of errors that the text alone gives."""
    return sum(item.level is Level.ERROR for item in find(parse_document(text, "spec.toml")))


# --- what is fixed ---------------------------------------------------------------------------------------

CASES = {
    "similar name": ("[method]\nrnk = 4\n", "[method]\nrank = 4\n"),
    "dashes": ("[method]\nfull-modules = []\n", "[method]\nfull_modules = []\n"),
    "camel case": ("[batch]\nglobalSize = 8 # all\n", "[batch]\nglobal_size = 8 # all\n"),
    "section": ("[trainig] # one\nsteps = 2\n", "[training] # one\nsteps = 2\n"),
    "another trainer's word": ("[method]\nlora_r = 4\n", "[method]\nrank = 4\n"),
    "number in quotes": ('[method]\nrank = "16" # of 4096\n', "[method]\nrank = 16 # of 4096\n"),
    "number with a fraction": ("[method]\nrank = 16.0\n", "[method]\nrank = 16\n"),
    "number in quotes with a fraction": (
        "[training]\nlearning_rate = '2e-4'\n",
        "[training]\nlearning_rate = 0.0002\n",
    ),
    "true in quotes": ('[data]\nshuffle = "True"\n', "[data]\nshuffle = true\n"),
    "case of a choice": ('[training]\nprecision = "BF16"\n', '[training]\nprecision = "bf16"\n'),
    "underscore in a choice": (
        '[data]\nmix = "interleave_under"\n',
        '[data]\nmix = "interleave-under"\n',
    ),
    "case of a kind": ('[method]\ntype = "LoRA"\n', '[method]\ntype = "lora"\n'),
    "one element": ("[method]\ntargets = 'q_proj'\n", "[method]\ntargets = ['q_proj']\n"),
    "a list without brackets": (
        '[method]\nfull_modules = "lm_head"\n',
        '[method]\nfull_modules = ["lm_head"]\n',
    ),
    "in an inline table": (
        "data = { sources = [{ format = 'messages', pth = 'x' }] }\n",
        "data = { sources = [{ format = 'messages', path = 'x' }] }\n",
    ),
    "two steps": ('[method]\nlora_r = "8" # two\n', "[method]\nrank = 8 # two\n"),
    "another section": (
        "[training]\nsteps = 2\n\n# about the batch\n[batch]\nlearning_rate = 1e-4 # high\nmicro_size = 4\n",
        "[training]\nsteps = 2\nlearning_rate = 1e-4 # high\n\n# about the batch\n[batch]\nmicro_size = 4\n",
    ),
    "another section that is absent": (
        "[batch]\nmicro_size = 4\nnum_train_epochs = 3\n",
        "[batch]\nmicro_size = 4\n\n[training]\nepochs = 3\n",
    ),
    "two keys of an absent section": (
        "num_train_epochs = 3\nlearning_rate = 1e-4\n[batch]\nmicro_size = 4\n",
        "[batch]\nmicro_size = 4\n\n[training]\nepochs = 3\nlearning_rate = 1e-4\n",
    ),
    "line breaks of Windows": (
        "[batch]\r\nseed = 3\r\n[training]\r\nsteps = 2",
        "[batch]\r\n[training]\r\nsteps = 2\r\nseed = 3",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=[name.replace(" ", "-") for name in CASES])
def test_what_is_fixed(case: str) -> None:
    """Each fix changes its own characters and nothing else."""
    before, after = map(with_kind, CASES[case])
    assert fixed(before) == after
    assert fixed(after) == after


UNFIXED = {
    "two near names": "[method]\nlr_x = 4\n",
    "the name is taken": "[method]\nrank = 4\nrnk = 8\n",
    "two keys for one name": "[method]\nrnk = 4\nrankk = 8\n",
    "a value of another kind": '[training]\ncutoff_len = "many"\n',
    "several elements in one text": '[method]\nfull_modules = "a,b"\n',
    "several elements for another trainer": '[method]\nlora_target = "q_proj,v_proj"\n',
    "a word of another trainer": '[method]\nlora_target = "all"\n',
    "a key of another kind": '[method]\ntype = "full"\nlora_r = 8\n',
    "files for tables": '[data]\ntrain_file = ["a"]\n',
    "a secret": '[model]\nhf_hub_token = "hf_x"\n',
    "a meaning of its own": '[template]\ntemplate = "qwen"\n',
    "a setting, no name": "[training]\nbf16 = true\n",
    "several sections": '[run]\ntype = "x"\n',
    "far names": '[training]\nprecision = "bfloat"\n',
    "no whole number": "[method]\nrank = 3.5\n",
    "dotted keys": "training.steps = 2\nbatch.seed = 3\n",
    "inside an inline table": "batch = { micro_size = 4, learning_rate = 1e-4 }\n",
    "no TOML number": '[method]\nrank = "1e999"\n',
}


@pytest.mark.parametrize("case", UNFIXED, ids=[name.replace(" ", "-") for name in UNFIXED])
def test_what_is_left_alone(case: str) -> None:
    """Where more than one thing could be meant, or the text is written in an unusual way, a person decides."""
    text = with_kind(UNFIXED[case])
    assert fixed(text) == text


def test_a_fix_that_makes_it_worse_is_taken_back() -> None:
    """The findings decide, not the fix."""

    def find_two(document: Document) -> list[Diagnostic]:
        count = 1 if "a = 1" in document.text else 2
        fix = Replace(("a",), 2)
        return [Diagnostic(f"E{i}", Level.ERROR, "m", ("a",), fix=fix) for i in range(count)]

    document = parse_document("a = 1\n", "s")
    assert fix_text(document, find_two) == "a = 1\n"


# --- edits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fix", "result"),
    [
        ("a = 1 # why\nb = 2\n", Remove(("a",)), "# why\nb = 2\n"),
        ("[t]\n  a = 1\nb = 2\n", Remove(("t", "a")), "[t]\nb = 2\n"),
        ("[t]\na = [\n 1, # one\n]\nb = 2\n", Remove(("t", "a")), "[t]\nb = 2\n"),
        ("[batch]\n[run]\n", Add(("batch", "micro_size"), 4), "[batch]\nmicro_size = 4\n[run]\n"),
        ("", Add(("batch", "micro_size"), 4), "[batch]\nmicro_size = 4\n"),
        ("[batch]", Add(("batch", "micro_size"), 4), "[batch]\nmicro_size = 4"),
        ("'a b' = 1\n", Rename(("a b",), "c d"), '"c d" = 1\n'),
        ('x = """\n1"""\n', Replace(("x",), 1), "x = 1\n"),
        (
            "[run]\nname = 'x'\n[run.sub]\n[batch]\nseed = 1\n[training]\na = 1\n[training.b]\nc = 1\n",
            Move(("batch", "seed"), ("training", "seed")),
            "[run]\nname = 'x'\n[run.sub]\n[batch]\n[training]\na = 1\nseed = 1\n[training.b]\nc = 1\n",
        ),
    ],
)
def test_edits(text: str, fix: Fix, result: str) -> None:
    """Every kind of fix as text."""
    assert edited(text, edits_of(fix, parse_document(text, "s"))) == result


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("[a.b]\n[a.c]\n", Rename(("a",), "d")),
        ("[[a]]\n[[a]]\n", Rename(("a",), "b")),
        ("a = 1\nb = 2\n", Rename(("a",), "b")),
        ("[a]\n", Replace(("a",), 1)),
        ("[a]\n", Remove(("a",))),
        ("x = { a = 1 }\n", Remove(("x", "a"))),
        ("a.b = 1\n", Remove(("a", "b"))),
        ("a = 1\n", Remove(("b",))),
        ("training.a = 1\nseed = 1\n", Move(("seed",), ("training", "seed"))),
        ("training = 1\nseed = 1\n", Move(("seed",), ("training", "seed"))),
        ("seed = 'x'\n", Move(("seed",), ("training", "seed"))),
        ("[x]\ntargets = []\n", Move(("x", "targets"), ("method", "targets"))),
    ],
)
def test_edits_that_cannot_be_made(text: str, fix: Fix) -> None:
    """Where the text would say something else than the fix, there is no edit."""
    assert edits_of(fix, parse_document(text, "s")) == ()


# --- anything --------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        "# a comment",
        "",
        "[method]",
        "[training]",
        "[batch] # sizes",
        "[trainig]",
        "[data]",
        "[[data.sources]]",
        "[data.extra]",
        'type = "LoRA" # kind',
        'rank = "16"',
        "rnk = 8.0  # eight",
        "\tlora_alpha = 3 # tab",
        "micro-size = 4",
        "globalSize = '8'",
        "cutoff_len = 12",
        "learning_rate = '1e-3'",
        "num_train_epochs = 2 # passes",
        "targets = 'q_proj' # one",
        "seed = 1",
        'shuffle = "true"',
        'format = "Messages"',
        "pth = 'x'",
        "training.steps = 3",
        "batch = { micro_size = '4' }",
        'precision = "FP32"',
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=14), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_fixed_file_is_never_worse(lines: list[str], newline: str, has_base: bool) -> None:
    """Errors do not become more, comments and lines without a fix stay, and a second time changes nothing."""
    text = newline.join([*(BASE.splitlines() if has_base else []), *lines, ""])
    try:
        document = parse_document(text, "spec.toml")
    except DocumentError:
        return
    meant: set[str] = set()

    def find_and_note(document: Document) -> tuple[Diagnostic, ...]:
        found = find(document)
        lines_of = document.text.split("\n")
        for fix in (item.fix for item in found):
            if fix is not None and fix.path in document.keys:
                meant.add(lines_of[document.position(document.keys[fix.path].start)[0] - 1])
        return found

    after = fix_text(document, find_and_note)
    assert num_errors(after) <= num_errors(text)
    assert fixed(after) == after
    assert comments(after) == comments(text)
    lost = Counter(text.split("\n")) - Counter(after.split("\n"))
    assert set(lost) <= meant | {""}


def comments(text: str) -> Counter[str]:
    """Return the comments of a text whose values hold no `#`."""
    return Counter(re.findall(r"#[^\r\n]*", text))


# --- files -----------------------------------------------------------------------------------------------

WRONG = BASE.replace("micro_size", "micro-size").replace("[run]", "[run] # é\U0001f600", 1)
RIGHT = WRONG.replace("micro-size", "micro_size")


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `tunec check --no-facts`."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["check", "--no-facts", *map(str, arguments)])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return run


Check = Callable[..., tuple[int, str, str]]


def test_fix_shows_the_change_and_what_is_left(
    tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unified diff, then the findings about the file as it is now."""
    monkeypatch.chdir(tmp_path)
    spec = Path("spec.toml")
    spec.write_text(WRONG + "[method.x]\n")
    code, out, err = check("--fix", spec)
    assert (code, err) == (1, "")
    change = "--- spec.toml\n+++ spec.toml\n@@ -13,5 +13,5 @@\n \n [batch]\n global_size = 8\n"
    assert out.startswith(change)
    assert (
        out.removeprefix(change)
        == textwrap.dedent(
            """\
        -micro-size = 4
        +micro_size = 4
        .[method.x]
        error[T201]: unknown key `x` in `[method]`
          --> spec.toml:17:9
           |
        17 | [method.x]
           |         ^ unknown key
           |
        """
        ).replace("\n.", "\n ")
        + out[out.index("   = note") :]
    )
    assert out.endswith("\n1 error\n")
    assert spec.read_text() == RIGHT + "[method.x]\n"


def test_fix_of_a_sound_file_changes_nothing(tmp_path: Path, check: Check) -> None:
    """Not even the time of the file."""
    spec = tmp_path / "spec.toml"
    spec.write_text(RIGHT)
    os.utime(spec, ns=(1, 1))
    assert check("--fix", spec) == (0, f"{spec}: no mistakes found\n", "")
    assert spec.stat().st_mtime_ns == 1


def test_diff_changes_nothing(tmp_path: Path, check: Check) -> None:
    """`--diff` prints the change alone and ends with 1, for there are errors."""
    spec = tmp_path / "spec.toml"
    spec.write_text(WRONG)
    code, out, _ = check("--fix", "--diff", spec)
    assert code == 1
    assert out.startswith(f"--- {spec}\n+++ {spec}\n@@ ")
    assert out.endswith("-micro-size = 4\n+micro_size = 4\n")
    assert spec.read_text() == WRONG


def test_the_report_offers_fixes(tmp_path: Path, check: Check) -> None:
    """The last line says how many there are, and how to get them."""
    spec = tmp_path / "spec.toml"
    spec.write_text(WRONG)
    assert check(spec)[1].endswith("\n1 error (fix available: tunec check --fix)\n")
    spec.write_text(WRONG + "[trainig]\n[method.x]\n")
    assert check(spec)[1].endswith("\n3 errors (2 fixes available: tunec check --fix)\n")


def test_with_other_formats_the_change_goes_to_standard_error(tmp_path: Path, check: Check) -> None:
    """What a program reads stays one document."""
    spec = tmp_path / "spec.toml"
    spec.write_text(WRONG)
    code, out, err = check("--fix", "--format", "github", spec)
    assert (code, out) == (0, "")
    assert err.endswith("-micro-size = 4\n+micro_size = 4\n")


def test_mode_and_link_and_mark_are_kept(tmp_path: Path, check: Check) -> None:
    """A link is followed to the file; its mode and a byte order mark stay, and nothing else is left behind."""
    (tmp_path / "specs").mkdir()
    target = tmp_path / "specs" / "real.toml"
    target.write_bytes(b"\xef\xbb\xbf" + WRONG.encode())
    target.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(Path("specs") / "real.toml")
    assert check("--fix", link)[0] == 0
    assert link.is_symlink()
    assert target.read_bytes() == b"\xef\xbb\xbf" + RIGHT.encode()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(target.parent) == ["real.toml"]


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Somebody's newer text is not written over."""
    spec = tmp_path / "spec.toml"
    spec.write_text("a = 3\n")
    with pytest.raises(StaleError, match="the file changed meanwhile"):
        write_text(spec, "a = 1\n", "a = 2\n")
    assert spec.read_text() == "a = 3\n"


@pytest.mark.skipif(os.geteuid() == 0 or sys.platform == "win32", reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, check: Check) -> None:
    """The reason is said in one line; nothing is changed."""
    spec = tmp_path / "spec.toml"
    spec.write_text(WRONG)
    tmp_path.chmod(0o500)
    try:
        code, _, err = check("--fix", spec)
    finally:
        tmp_path.chmod(0o700)
    assert (code, err) == (3, f"error: cannot change {spec}: Permission denied\n")
    assert spec.read_text() == WRONG


def test_only_the_main_file_is_fixed(tmp_path: Path, check: Check) -> None:
    """A base may belong to other specs, and a flag is gone tomorrow."""
    base = tmp_path / "base.toml"
    base.write_text(WRONG)
    spec = tmp_path / "spec.toml"
    spec.write_text('extends = ["base.toml"]\n[method]\nrank = "4" # four\n')
    assert check(spec)[1].endswith("\n2 errors (fix available: tunec check --fix)\n")
    code, _, _ = check("--fix", spec)
    assert code == 1
    assert spec.read_text() == 'extends = ["base.toml"]\n[method]\nrank = 4 # four\n'
    assert base.read_text() == WRONG
    flagged = tmp_path / "flagged.toml"
    flagged.write_text(RIGHT)
    assert check("--fix", flagged, "--set", "batch.micro_size='2'")[0] == 1
    assert flagged.read_text() == RIGHT


def test_a_diff_is_a_diff() -> None:
    """Line breaks of Windows and a last line without one are kept, as `patch` wants them."""
    assert diff("a\r\nb", "a\r\nc", "s") == (
        "--- s\n+++ s\n@@ -1,2 +1,2 @@\n a\r\n-b\n\\ No newline at end of file\n"
        "+c\n\\ No newline at end of file\n"
    )
    assert diff("a\n", "a\n", "s") == ""
