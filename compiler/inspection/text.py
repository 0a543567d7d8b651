"""What was found, as TOML to paste into a spec with the reasons as comments, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..facts.sample_kinds import SampleKind
from ..report.cells import visible
from ..toml_text import toml_literal
from .columns import Column, columns_of
from .proposals import LOOKED_AT, Findings, Proposal
from .reading import Rows

GIB, MIB, KIB = 2**30, 2**20, 2**10


OBJECTIVES: dict[SampleKind, str] = {
    "text": "pretraining",
    "pairs": "reward, dpo, orpo, simpo and cpo",
    "labels": "kto",
    "prompts": "ppo and grpo",
}
"""Objectives that learn from each kind, but for that of SFT, which needs no word."""


def as_toml(found: Rows, findings: Findings) -> str:
    """Return TOML whose every line but the source is a comment."""
    fitting = findings.proposals
    lines = [
        *_comments(_summary(found)),
        *_comments(_column_lines(_columns(found))),
        "",
        *(_source(fitting[0], found.path) if fitting else ["# no format of tunec fits these rows"]),
    ]
    if fitting[1:]:
        lines += ["", "# also possible:", *_comments(map(_other, fitting[1:]))]
    if findings.problems:
        lines += ["", *_comments(_problem_lines(findings, found))]
    return "\n".join(lines) + "\n"


def as_json(found: Rows, findings: Findings) -> dict[str, Any]:
    """Return the same as data."""
    return {
        "path": found.path,
        "kind": found.kind,
        "num_files": found.num_files,
        "num_bytes": found.num_bytes,
        "num_rows": found.num_rows,
        "num_rows_read": len(found.rows),
        "columns": [
            {"name": item.name, "kinds": dict(item.kinds), "example": item.example}
            for item in _columns(found)
        ],
        "proposals": [
            {
                "source": {**item.settings, "path": found.path},
                "learns": item.kind,
                "why": item.why,
                "fits": item.fits,
                "of": item.of,
            }
            for item in findings.proposals
        ],
        "num_bad": findings.num_bad,
        "problems": [
            {"file": str(item.row.file), "line": item.row.line, "message": item.message}
            for item in findings.problems
        ],
    }


def _columns(found: Rows) -> list[Column]:
    rows = [row.value for row in found.rows[:LOOKED_AT] if isinstance(row.value, dict)]
    return columns_of(rows)


def _comments(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    # No row can end its comment: what breaks lines is written out.
    return (f"# {visible(line)}".rstrip() for line in lines)


def _summary(found: Rows) -> Iterator[str]:
    size = found.num_bytes
    unit, name = (GIB, "GiB") if size >= GIB else (MIB, "MiB") if size >= MIB else (KIB, "KiB")
    count = _rows(found.num_rows) if found.num_rows is not None else "rows not counted"
    files = f"{found.num_files:,} files, " if found.num_files > 1 else ""
    yield f"{found.path}: {files}{found.kind}, {count}, {size / unit:.1f} {name}"
    if not found.whole:
        yield f"the first {_rows(len(found.rows))} were read"
    yield ""


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _column_lines(columns: Sequence[Column]) -> Iterator[str]:
    width = min(max((len(visible(item.name)) for item in columns), default=0), 24)
    for item in columns:
        kinds = ", ".join(f"{kind} in {count}" for kind, count in item.kinds)
        yield f"{visible(item.name)[:80]:{width}}  {kinds}, such as {item.example}"


def _source(best: Proposal, path: str) -> Iterator[str]:
    yield f"# {visible(best.why)}; {best.fits} of {best.of} fit"
    if best.kind in OBJECTIVES:
        yield f"# for {OBJECTIVES[best.kind]}"
    yield "[[data.sources]]"
    yield f"format = {toml_literal(best.settings['format'])}"
    yield f"path = {toml_literal(path)}  # as seen from the folder of the spec"
    for name, value in best.settings.items():
        if name != "format":
            yield f"{name} = {toml_literal(value)}"


def _other(item: Proposal) -> str:
    settings = ", ".join(f"{name} = {toml_literal(value)}" for name, value in item.settings.items())
    objectives = f", for {OBJECTIVES[item.kind]}" if item.kind in OBJECTIVES else ""
    return f"{settings}: {item.fits} of {item.of} fit{objectives}"


def _problem_lines(findings: Findings, found: Rows) -> Iterator[str]:
    problems, count = findings.problems, findings.num_bad
    more = f", the first {len(problems)}" if count > len(problems) else ""
    yield f"{count:,} of {len(found.rows):,} rows cannot be used{more}:"
    yield from (f"{item.row.file}:{item.row.line}: {item.message}" for item in problems)
