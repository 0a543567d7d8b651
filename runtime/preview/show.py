"""From prepared data to what the command line asks for."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .. import storage
from ..data.tokenizer import Tokenizer
from ..errors import ExitCode, UserError
from ..visible import visible
from .options import Options
from .page import page
from .terminal import Terminal, has_color
from .view import GATES, Shown, SourceView, View, near

MOST_PROBLEMS = 50
"""Samples behind gates on a page, beside those drawn."""


def show(
    run_dir: Path, *, name: str, tokenizer: Tokenizer, max_length: int, options: Options
) -> None:
    """Show the prepared data of a run as `options` say.

    Raises:
        UserError: (USAGE) there is no such source, or no such row; what is known about it is said.
    """
    view = View(run_dir, max_length=max_length, source=options.source)
    if not view.sources:
        raise UserError(
            f"there is no source `{options.source}`",
            help=f"there are {', '.join(f'`{known}`' for known in view.names)}",
            code=ExitCode.USAGE,
        )
    if options.html is not None:
        _write_page(view, options.html, name, tokenizer, options)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show is written as its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    terminal = Terminal(color=options.color and has_color(sys.stdout))
    for line in terminal.statistics(view):
        print(line)
    if options.problems:
        _print_all(line for source in view.sources for line in terminal.problems(source))
        return
    shown = _chosen(view, tokenizer, options)
    if shown:
        print(f"\n{terminal.legend()}")
    _print_all(line for sample in shown for line in terminal.sample(sample, tokens=options.tokens))


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _chosen(view: View, tokenizer: Tokenizer, options: Options) -> Sequence[Shown]:
    if options.row is None:
        indices = view.drawn(options.sample, options.seed)
    else:
        indices = view.at_row(options.row)
        if not indices:
            raise _no_sample(view.sources, options.row)
    if not indices:
        return []
    loaded = tokenizer.load()
    return [view.shown(index, loaded, full=options.full) for index in indices]


def _no_sample(sources: Sequence[SourceView], row: int) -> UserError:
    """Say what became of a row that gave no sample, where that is known."""
    for source in sources:
        found = source.problem_at(row)
        if found is not None:
            gate, problem = found
            text = near(source.names.told(problem))
            if gate != "bad":
                text = f"{text}: this row was {GATES[gate]}"
            return UserError(visible(text), code=ExitCode.DATA)
    files = ", ".join(visible(near(source.path)) for source in sources)
    return UserError(
        f"no sample comes from row {row} of {files}",
        help="rows are numbered by their line in the file",
        code=ExitCode.DATA,
    )


def _write_page(view: View, path: Path, name: str, tokenizer: Tokenizer, options: Options) -> None:
    if options.row is None:
        indices = view.drawn(options.sample, options.seed) + view.behind_gates(MOST_PROBLEMS)
    else:
        indices = view.at_row(options.row)
    loaded = tokenizer.load()
    shown = [view.shown(i, loaded, full=options.full) for i in sorted(set(indices))]
    try:
        storage.write_text(path, page(view, shown, name=name))
    except OSError as fault:
        raise UserError(f"{path}: {fault.strerror}", code=ExitCode.USAGE) from None
    print(f"{path}: {len(shown):,} samples of {len(view.candidates):,}")
