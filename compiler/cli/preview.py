"""`tunec preview`: the compiled program that looks at the data."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ..diagnostics import Diagnostic, Level
from .programs import add_program, run_program
from .shared import plan_or_fail, report, write

if TYPE_CHECKING:
    from ..plan import Plan


def add(verbs: Any) -> None:
    """Define the verb."""
    add_program(
        verbs,
        "preview",
        _run,
        "show the data as the loss sees them: statistics, and samples token by token",
        "The data are prepared first, as training would. Further options go to the compiled preview.py:\n"
        "  --sample N                    this many samples, drawn (default: 3)\n"
        "  --row K, --source NAME        the sample of line K; one source alone\n"
        "  --problems                    the rows behind each gate, with file and line\n"
        "  --html FILE                   write one page instead, to be opened in a browser\n"
        "  --tokens                      a line for each token, with its place and id\n"
        "  --full, --seed N, --no-color",
    )


def _run(options: argparse.Namespace) -> int:
    return run_program(options, "preview.py", _written)


def _written(options: argparse.Namespace) -> Path:
    """Write the run; of one whose training is not available yet, only the program that shows its data."""
    from ..pipeline import analyse, only_data_count, plan_of

    analysis = analyse(options.spec, os.environ, settings=options.settings)
    if analysis.ok or not only_data_count(analysis):
        return write(plan_or_fail(options), force=False, replace_run=False)
    report(evolve(analysis, diagnostics=tuple(map(_as_note, analysis.diagnostics))), sys.stderr)
    return _write_preview(plan_of(analysis, of_data=True))


def _as_note(found: Diagnostic) -> Diagnostic:
    """What keeps a spec from training does not keep its data from being shown."""
    if found.level is not Level.ERROR:
        return found
    return evolve(found, level=Level.NOTE, helps=("the data are shown all the same",))


def _write_preview(plan: Plan) -> Path:
    from ..apply import apply
    from ..facts.folder import PREVIEW
    from ..render.files import preview_files

    folder = plan.facts.output.path / PREVIEW
    output = evolve(plan.facts.output, path=folder, manifest=None)
    apply(preview_files(evolve(plan, facts=evolve(plan.facts, output=output))), folder)
    return folder
