"""`tunec chat` and `tunec export`: the compiled programs that use a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..spec import RewardModel
from .shared import (
    Failure,
    needs_runtime,
    new_verb,
    plan_or_fail,
    replace_process,
    spec_argument,
    write,
)


def add(verbs: Any) -> None:
    """Define the verbs."""
    add_program(
        verbs,
        "chat",
        partial(run_program, program="chat.py", written=_writer),
        "talk to the model: before training, trained, or merged",
        "Further options go to the compiled chat.py, see `tunec chat SPEC --help`:\n"
        "  --model base|adapter|merged   which model (default: the trained one)\n"
        "  --prompt TEXT                 answer this and end; may be given several times\n"
        "  --checkpoint STEP             the adapter of a checkpoint\n"
        "  --system TEXT, --temperature NUMBER",
    )
    add_program(
        verbs,
        "export",
        partial(run_program, program="export.py", written=_written),
        "merge the adapter and write one folder of safetensors",
        "The result is read back and compared with the trained model.\n"
        "  --output DIR   folder to write (default: export.output_dir)\n"
        "  --overwrite    replace an earlier export",
    )


def add_program(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, more: str
) -> None:
    """Define a verb that compiles, and becomes the program of its name."""
    verb = new_verb(verbs, name, run, help, more)
    spec_argument(verb)
    verb.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _written(options: argparse.Namespace) -> Path:
    return write(plan_or_fail(options), force=False, replace_run=False)


def _writer(options: argparse.Namespace) -> Path:
    plan = plan_or_fail(options)
    if isinstance(plan.spec.objective, RewardModel):
        raise Failure(
            "a reward model scores texts and writes none, so there is nobody to talk to",
            help="`tunec export` writes it as one folder, which transformers loads with "
            "`AutoModelForSequenceClassification`",
        )
    return write(plan, force=False, replace_run=False)


def run_program(
    options: argparse.Namespace, program: str, written: Callable[[argparse.Namespace], Path]
) -> int:
    """Write a run with `written`, and become one of its programs."""
    rest = _take_settings(options)
    needs_runtime()
    return replace_process([sys.executable, str(written(options) / program), *rest])


def _take_settings(options: argparse.Namespace) -> list[str]:
    """Move each `--set KEY=VALUE` that stands after SPEC to the settings; return what the program gets."""
    rest: list[str] = []
    words = iter(options.rest)
    for word in words:
        if word == "--set" and "--" not in rest:
            options.settings.append(next(words, ""))
        elif word.startswith("--set=") and "--" not in rest:
            options.settings.append(word.removeprefix("--set="))
        else:
            rest.append(word)
    return rest
