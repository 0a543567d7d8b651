"""`[allow]`: warnings that are fine in a spec, and what must not stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from tunec.compiler import cli
from tunec.compiler.allow import CODES, Allowed, allow
from tunec.compiler.codes import NAMES, all_codes
from tunec.compiler.diagnostics import error, warning
from tunec.compiler.document import CODES as PARSER_CODES
from tunec.compiler.pipeline import analyse
from tunec.compiler.structure import CODES as STRUCTURE_CODES

LARGE = '[method]\ntype = "lora"\nrank = 512\n'
"""Gives the warning A802."""


def messages(result: Allowed) -> list[tuple[str, str, str]]:
    """Return level, code and message of what is left."""
    return [(item.level.value, item.code, item.message) for item in result.diagnostics]


def test_an_allowed_warning_is_gone() -> None:
    """It is neither shown nor counted among the warnings; others stay."""
    found = [warning("R806", "a"), warning("R806", "b"), warning("R805", "c")]
    result = allow(found, {"R806": "known"})
    assert messages(result) == [("warning", "R805", "c")]
    assert result.count == 2


def test_without_the_section_nothing_changes() -> None:
    """Most specs allow nothing."""
    found = (warning("R806", "a"), error("R804", "b"))
    assert allow(found, {}) == Allowed(found)


@pytest.mark.parametrize(
    ("code", "reason", "finding"),
    [
        ("R804", "why", ("error", "T214", "`R804` is an error, only warnings can be allowed")),
        ("T201", "why", ("error", "T214", "`T201` is an error, only warnings can be allowed")),
        ("P104", "why", ("error", "T214", "`P104` is an error, only warnings can be allowed")),
        ("R999", "why", ("error", "T214", "there is no warning `R999` to allow")),
        ("r806", "why", ("error", "T214", "there is no warning `r806` to allow")),
        ("R806", " ", ("error", "T213", "`allow.R806` is empty")),
        ("R806", "", ("error", "T213", "`allow.R806` is empty")),
        ("R805", "why", ("warning", "T215", "`R805` is allowed, but this spec does not give it")),
        ("P110", "why", ("warning", "T215", "`P110` is allowed, but this spec does not give it")),
    ],
)
def test_what_cannot_be_allowed(code: str, reason: str, finding: tuple[str, str, str]) -> None:
    """Errors, codes that do not exist, no reason, and what is not found; findings stay."""
    found = [error("R804", "e"), warning("R806", "w")]
    result = allow(found, {code: reason})
    assert result.count == 0
    assert messages(result) == [("error", "R804", "e"), ("warning", "R806", "w"), finding]
    assert result.diagnostics[-1].path == ("allow", code)


def test_a_near_code_is_proposed() -> None:
    """As for any other name."""
    assert allow([], {"r806": "x"}).diagnostics[0].helps == ("did you mean `R806`?",)
    assert allow([], {"nonsense": "x"}).diagnostics[0].helps == ("codes are like `R806`",)


def test_nothing_is_unused_where_not_everything_was_looked_at() -> None:
    """Without facts, or with broken values, a warning may be missing for that reason alone."""
    assert allow([], {"R805": "x"}, is_complete=False) == Allowed(())


def test_the_spec_allows(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--strict` passes, and the report says how many were allowed."""
    spec = tiny.write_spec(workspace / "spec.toml", LARGE)
    (found,) = analyse(spec, {}).diagnostics
    assert (found.level.value, found.code) == ("warning", "A802")
    spec.write_text(spec.read_text() + '[allow]\nA802 = "a test"\n')
    assert analyse(spec, {}).diagnostics == ()
    with pytest.raises(SystemExit) as end:
        cli.main(["check", "--strict", str(spec)])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{spec}: no mistakes found (1 allowed)\n"


def test_the_summary_counts_what_was_allowed(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what is left."""
    spec = tiny.write_spec(workspace / "spec.toml", LARGE)
    spec.write_text(spec.read_text() + '[allow]\nA802 = "a test"\nR806 = ""\n')
    with pytest.raises(SystemExit):
        cli.main(["check", str(spec)])
    assert capsys.readouterr().out.endswith("\n1 error, 1 allowed\n")


def test_every_code_has_a_name() -> None:
    """Names are short, lower case but for abbreviations, and each is used once."""
    plain = {*PARSER_CODES, *STRUCTURE_CODES, *CODES}
    assert plain == {code for code, item in all_codes().items() if not item.is_rule}
    assert plain - set(NAMES) == set()
    assert set(NAMES) - plain == set()
    names = [item.name for item in all_codes().values()]
    assert len(set(names)) == len(names)
    assert all(name and len(name) <= 40 and not name.endswith(".") for name in names)
