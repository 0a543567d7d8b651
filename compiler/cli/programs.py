"""`tunec preview`, `tunec chat` and `tunec export`: compiled programs that look at the data and use the model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from .shared import needs_runtime, new_verb, plan_or_fail, replace_process, spec_argument, write


def add(verbs: Any) -> None:
    """Define the verbs."""
    _add(
        verbs,
        "preview",
        "show the data as the loss sees them: statistics, and samples token by token",
        "The data are prepared first, as training would. Further options go to the compiled preview.py:\n"
        "  --sample N                    this many samples, drawn (default: 3)\n"
        "  --row K, --source NAME        the sample of line K; one source alone\n"
        "  --problems                    the rows behind each gate, with file and line\n"
        "  --html FILE                   write one page instead, to be opened in a browser\n"
        "  --full, --seed N, --no-color",
    )
    _add(
        verbs,
        "chat",
        "talk to the model: before training, trained, or merged",
        "Further options go to the compiled chat.py, see `tunec chat SPEC --help`:\n"
        "  --model base|adapter|merged   which model (default: the trained one)\n"
        "  --prompt TEXT                 answer this and end; may be given several times\n"
        "  --checkpoint STEP             the adapter of a checkpoint\n"
        "  --system TEXT, --temperature NUMBER",
    )
    _add(
        verbs,
        "export",
        "merge the adapter and write one folder of safetensors",
        "The result is read back and compared with the trained model.\n"
        "  --output DIR   folder to write (default: export.output_dir)\n"
        "  --overwrite    replace an earlier export",
    )


def _add(verbs: Any, name: str, help: str, more: str) -> None:
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
