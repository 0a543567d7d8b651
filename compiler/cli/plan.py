"""`tunec plan` and `tunec compile`: say what a spec comes to, and write it."""

from __future__ import annotations

import argparse
from typing import Any

from .shared import Failure, new_verb, plan_or_fail, shown, spec_argument, spec_words, write


def add(verbs: Any) -> None:
    """Define the verbs."""
    verb = new_verb(
        verbs,
        "plan",
        _plan,
        "say what would happen: files, batch arithmetic, steps, parameters, memory",
        "Writes nothing. Files: + new, ~ rewritten, = as it is, ! changed by hand.",
    )
    spec_argument(verb)
    verb.add_argument(
        "--show", metavar="FILE", help="print this generated file instead, such as train.py"
    )
    verb = new_verb(
        verbs,
        "compile",
        _compile,
        "write the run: launch script, programs, deepspeed.json, resolved spec",
        "Files changed by hand are not written over, and the programs of an existing run are not changed.",
    )
    spec_argument(verb)
    verb.add_argument("--force", action="store_true", help="give up changes made by hand")


def _plan(options: argparse.Namespace) -> int:
    from ..apply import compare
    from ..forecast import describe
    from ..render import render_files

    plan = plan_or_fail(options)
    files = render_files(plan)
    if options.show is None:
        print(describe(plan, compare(files, plan.facts.output)), end="")
    elif options.show in files:
        print(files[options.show], end="")
    else:
        raise Failure(
            f"there is no generated file `{options.show}`", help=f"there are {', '.join(files)}"
        )
    return 0


def _compile(options: argparse.Namespace) -> int:
    from ..apply import compare
    from ..render import render_files

    plan = plan_or_fail(options)
    changes = compare(render_files(plan), plan.facts.output)
    run_dir = write(plan, force=options.force, replace_run=False)
    for item in changes:
        print(f"{item.change.value} {shown(run_dir / item.name)}")
    print(f"next: {shown(run_dir / 'launch.sh')}, or `tunec train {spec_words(options)}`")
    return 0
