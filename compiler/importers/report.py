"""What an import says beside its TOML: a table a subject, the gravest first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from .draft import Kind, Remark
from .writer import one_line

TITLES = {
    Kind.LOST: "no counterpart",
    Kind.DIFFERS: "not what it seemed",
    Kind.DO: "to do by hand",
    Kind.LATER: "not available yet (written all the same; `tunec check` says so too)",
    Kind.IDLE: "left out, because it changed nothing",
}


def render_report(remarks: Iterable[Remark], width: int = 100) -> str:
    """Return the report as text; empty where there is nothing to say."""
    remarks = list(remarks)
    blocks = [_block(kind, [r for r in remarks if r.kind is kind], width) for kind in TITLES]
    return "\n".join(block for block in blocks if block)


def _block(kind: Kind, remarks: list[Remark], width: int) -> str:
    if not remarks:
        return ""
    size = min(max(len(one_line(remark.key, 60)) for remark in remarks), 36)
    lines = [line for remark in remarks for line in _lines(remark, size, width)]
    return "\n".join([f"{TITLES[kind]}:", *lines, ""])


def _lines(remark: Remark, size: int, width: int) -> list[str]:
    key = one_line(remark.key, 60)
    indent = " " * (size + 4)
    wide = max(width - len(indent), 30)
    text = textwrap.wrap(one_line(remark.text, 600), wide, break_on_hyphens=False) or [""]
    first = f"  {key:<{size}}  {text[0]}" if len(key) <= size else f"  {key}\n{indent}{text[0]}"
    return [first, *(f"{indent}{line}" for line in text[1:])]
