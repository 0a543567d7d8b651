"""`tunec chat` and `tunec export`: the compiled programs that use a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from .shared import needs_runtime, new_verb, plan_or_fail, replace_process, spec_argument, write


def add(verbs: Any) -> None:
    """Define the verbs."""
    add_program(
        verbs,
        "chat",
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
        "merge the adapter and write one folder of safetensors",
        "The result is read back and compared with the trained model.\n"
        "  --output DIR   folder to write (default: export.output_dir)\n"
        "  --overwrite    replace an earlier export",
    )


def add_program(verbs: Any, name: str, help: str, more: str) -> None:
    """Define a verb that compiles, and becomes the program of its name."""
    verb = new_verb(verbs, name, _runner(f"{name}.py"), help, more)
    spec_argument(verb)
    verb.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _runner(program: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        rest = _take_settings(options)
        plan = plan_or_fail(options)
        needs_runtime()
        run_dir = write(plan, force=False, replace_run=False)
        return replace_process([sys.executable, str(run_dir / program), *rest])

    return run


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
