"""`tunec check`: every mistake of a spec, at once and at its place."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shared import Failure, new_verb, report, set_argument

if TYPE_CHECKING:
    from ..diagnostics import Diagnostic
    from ..document import Document
    from ..facts import Seen
    from ..pipeline import Analysis
    from ..report import Documents

    Reports = Iterable[tuple[Iterable[Diagnostic], Documents]]


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "check",
        _check,
        "find every mistake of a spec, at once and at its place",
        "Reads the spec and the files it names (configuration, tensor headers, the first rows of data), never torch.\n"
        "--fix keeps comments and layout, and never leaves more errors than there were.\n"
        "Exit code 0: no errors; 1: errors, or warnings with --strict; 2: wrong usage.",
    )
    verb.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="TOML files")
    set_argument(verb)
    verb.add_argument(
        "--no-facts", action="store_true", help="look at the spec alone, not at the files it names"
    )
    verb.add_argument("--strict", action="store_true", help="warnings fail too")
    verb.add_argument(
        "--format",
        choices=["text", "json", "sarif", "github"],
        default="text",
        help="default: text; `github` makes annotations in GitHub Actions, SARIF is read by code hosts and editors",
    )
    verb.add_argument(
        "--fix",
        action="store_true",
        help="mend what can only mean one thing, print the change, and report what is left",
    )
    verb.add_argument(
        "--diff", action="store_true", help="print what --fix would change, and change nothing"
    )


def _check(options: argparse.Namespace) -> int:
    seen: Seen = {}
    analyses = [_look_at(path, options, seen) for path in options.specs]
    if options.format != "text" and not options.diff:
        reports = [(item.diagnostics, item.source) for item in analyses]
        print(_renderer(options.format)(reports), end="")
    return int(any(not item.ok or (options.strict and item.has_warnings) for item in analyses))


def _look_at(path: Path, options: argparse.Namespace, seen: Seen) -> Analysis:
    """Analyse a spec, mended or not, and print what is to be said about it alone."""
    from ..pipeline import analyse

    analysis = analyse(
        path, os.environ, with_facts=not options.no_facts, settings=options.settings, seen=seen
    )
    if options.fix or options.diff:
        analysis = _fixed(path, analysis, options)
    if options.format == "text" and not options.diff:
        report(analysis, sys.stdout)
        if not analysis.diagnostics:
            allowed = f" ({analysis.allowed} allowed)" if analysis.allowed else ""
            print(f"{path}: no mistakes found{allowed}")
    return analysis


def _fixed(path: Path, analysis: Analysis, options: argparse.Namespace) -> Analysis:
    """Print the change that the fixes make; unless only that is asked for, make it and look again."""
    from ..fix import StaleError, diff, fix_text, write_text
    from ..pipeline import analyse, analyse_document
    from ..report import fixable, main_document, visible_lines

    def find(document: Document) -> tuple[Diagnostic, ...]:
        # Flags are left aside: what they say is no reason to change the file.
        found = analyse_document(document, path, os.environ, with_facts=not options.no_facts)
        return found.diagnostics

    source = main_document(analysis.source)
    if source is None or not fixable(analysis.diagnostics, analysis.source):
        return analysis
    text = fix_text(source, find)
    is_report = options.format == "text" or options.diff
    stream = sys.stdout if is_report else sys.stderr
    change = diff(source.text, text, str(path))
    # For `patch` the change is as it is; a terminal must obey nothing in it.
    print("\n".join(visible_lines(change)) if stream.isatty() else change, end="", file=stream)
    if options.diff or text == source.text:
        return analysis
    try:
        write_text(path, source.text, text)
    except (StaleError, OSError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise Failure(f"cannot change {path}: {reason}", code=3) from None
    return analyse(path, os.environ, with_facts=not options.no_facts, settings=options.settings)


def _renderer(format_: str) -> Callable[[Reports], str]:
    if format_ == "json":
        from ..report import render_json_of

        return render_json_of
    if format_ == "sarif":
        from ..sarif import render_sarif

        return render_sarif
    from ..github import render_github

    return render_github
