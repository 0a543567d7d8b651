"""`tunec train`: compile and launch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .shared import (
    Failure,
    needs_runtime,
    new_verb,
    plan_or_fail,
    replace_process,
    spec_argument,
    spec_words,
    write,
)

if TYPE_CHECKING:
    from ..plan import Plan


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "train",
        _train,
        "compile and launch",
        "Ctrl-C finishes the step, saves a checkpoint and ends with exit code 75; --resume goes on from there.",
    )
    spec_argument(verb)
    verb.add_argument(
        "--force", action="store_true", help="give up changes made by hand to the generated files"
    )
    existing = verb.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="go on from the newest complete checkpoint"
    )
    existing.add_argument(
        "--overwrite", action="store_true", help="delete what an earlier run wrote, then start"
    )


def _train(options: argparse.Namespace) -> int:
    from ..targets import target_of

    plan = plan_or_fail(options)
    flags = ("resume", "overwrite")
    existing = next((name for name in flags if getattr(options, name)), plan.spec.run.on_existing)
    if existing == "refuse":
        _refuse_existing(plan, f"tunec train {spec_words(options)}")
    needs_runtime()
    run_dir = write(plan, force=options.force, replace_run=existing == "overwrite")
    words = [f"--{existing}"] if existing != "refuse" else []
    return replace_process(target_of(plan.spec.launch).command(run_dir, words))


def _refuse_existing(plan: Plan, train: str) -> None:
    """Say what is there and what each way on would do, before anything is written."""
    folder = plan.facts.output
    if not folder.started:
        return
    total = plan.duration.num_steps
    at = (
        "finished"
        if folder.finished
        else f"reached step {folder.step or 0}" + (f" of {total}" if total else "")
    )
    onward = (
        "`--resume` has nothing left to do"
        if folder.finished
        else f"`{train} --resume` goes on from step {folder.step}"
        if folder.step is not None
        else "`--resume` starts again, there is no checkpoint yet"
    )
    raise Failure(
        f"{folder.path} holds a run that {at}",
        help=f"{onward}; `{train} --overwrite` deletes its checkpoints, logs and weights and starts again",
        code=4,
    )
