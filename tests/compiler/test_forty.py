"""The spec with forty mistakes: all of them in one run, each at its line."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from tunec.compiler.diagnostics import Diagnostic
from tunec.compiler.pipeline import analyse
from tunec.compiler.report import region_of

SPEC = Path(__file__).parents[2] / "benchmarks" / "specs" / "forty_mistakes.toml"
BAD_ROW = '{"messages": [{"role": "user", "content": "And?"}]}'


def test_forty_mistakes_in_one_run(workspace: Path) -> None:
    """One run names forty mistakes: syntax of values, types, choices, ranges, rules, model and data."""
    rows = (workspace / "data" / "chat.jsonl").read_text().splitlines()
    rows[5] = BAD_ROW
    (workspace / "data" / "bad.jsonl").write_text("\n".join(rows) + "\n")
    spec = Path(shutil.copy(SPEC, workspace / "spec.toml"))
    analysis = analyse(spec, {})
    assert len(analysis.diagnostics) == 40, [item.message for item in analysis.diagnostics]
    places = [region_of(finding, analysis.source) for finding in analysis.diagnostics]
    in_spec = Counter(place.line for place in places if Path(place.file).name == "spec.toml")
    assert sorted(in_spec) == marked_lines()
    assert kinds(analysis.diagnostics) == set("TFMSDARQ") - set("Q")


def marked_lines() -> list[int]:
    """The lines whose comment says what is wrong; what stands in the data file is told there."""
    lines = enumerate(SPEC.read_text().splitlines(), start=1)
    return [
        number
        for number, line in lines
        if re.search(r"\S.*  +#|^\w.* #", line) and "bad row" not in line
    ]


def kinds(findings: tuple[Diagnostic, ...]) -> set[str]:
    """The first letters of the codes."""
    return {finding.code[0] for finding in findings}
