"""What the command line of a preview may ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 3
"""Samples on a terminal, unless asked for more."""
ON_PAGE = 100
"""Samples on a page, unless asked for more or fewer."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """One call of `preview.py`."""

    sample: int = SHOWN
    row: int | None = None
    source: str | None = None
    problems: bool = False
    full: bool = False
    tokens: bool = False
    seed: int = 0
    color: bool = True
    html: Path | None = None


def options(words: Sequence[str] | None = None) -> Options:
    """Parse the command line; ends with argparse's code 2 when it makes no sense."""
    known = _parser().parse_args(words)
    default = SHOWN if known.html is None else ON_PAGE
    return Options(
        sample=default if known.sample is None else known.sample,
        row=known.row,
        source=known.source,
        problems=known.problems,
        full=known.full,
        tokens=known.tokens,
        seed=known.seed,
        color=not known.no_color,
        html=known.html,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunec preview SPEC",
        description="Show the samples as the loss sees them; the data are prepared first.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--sample", type=_count, metavar="N", help=f"this many samples, drawn (default: {SHOWN})")
    add("--row", type=_count, metavar="K", help="the sample of this line of the file")
    add("--source", metavar="NAME", help="this source alone")
    add("--problems", action="store_true", help="the rows behind each gate, with file and line")
    add("--full", action="store_true", help="do not shorten long samples")
    add("--tokens", action="store_true", help="a line for each token, with its place and id")
    add("--seed", type=int, default=0, metavar="N", help="draw other samples (default: 0)")
    add("--no-color", action="store_true", help="plain text; NO_COLOR in the environment does too")
    add("--html", type=Path, metavar="FILE", help=f"write one page with {ON_PAGE} samples instead")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
