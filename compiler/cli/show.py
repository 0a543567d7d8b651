"""`tunec show`: the spec with every value in force, and where each comes from."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from .shared import new_verb, report, spec_argument


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "show",
        _show,
        "print every value in force, and where it comes from",
        "Values come from a line of a file, a --set flag, their default, or are derived from others.\n"
        "What is printed is a spec itself. Exit code 1: the spec has errors (values are shown all the same).",
    )
    spec_argument(verb)
    verb.add_argument("--format", choices=["toml", "json"], default="toml", help="default: toml")


def _show(options: argparse.Namespace) -> int:
    from ..pipeline import analyse, plan_of
    from ..show import resolve, resolve_broken

    analysis = analyse(options.spec, os.environ, settings=options.settings)
    report(analysis, sys.stderr)
    if analysis.spec is None or analysis.written is None:
        return 1
    if analysis.ok:
        shown = resolve(plan_of(analysis), analysis.written)
    else:
        shown = resolve_broken(analysis.spec, analysis.written, analysis.broken)
    print(shown.toml() if options.format == "toml" else shown.json(), end="")
    return int(not analysis.ok)
