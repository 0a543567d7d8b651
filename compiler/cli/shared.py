"""What the verbs have in common: arguments, failures, and the way from a spec to a written run."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ..pipeline import Analysis
    from ..plan import Plan


class Failure(Exception):  # noqa: N818 - a message and an exit code, not a fault of the program
    """Something the user must know, and the exit code it ends with."""

    def __init__(self, message: str, *, help: str = "", code: int = 2) -> None:
        """Store the texts."""
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code


def new_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, more: str = ""
) -> Any:
    """Add a verb to the command line and return its parser."""
    verb = verbs.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.\n\n{more}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def spec_argument(verb: Any) -> None:
    """Let a verb take a spec."""
    verb.add_argument("spec", type=Path, metavar="SPEC", help="the TOML file")
    set_argument(verb)


def set_argument(verb: Any) -> None:
    """Let a verb take changes to its spec."""
    verb.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value, such as method.rank=16; may be given several times",
    )


def report(analysis: Analysis, stream: Any) -> None:
    """Print the findings about a spec, if there are any."""
    if not analysis.diagnostics:
        return
    from ..report import render_text

    color, width = style(stream)
    text = render_text(
        analysis.diagnostics,
        analysis.source,
        color=color,
        width=width,
        allowed=analysis.allowed,
    )
    print(text, end="", file=stream)


def plan_or_fail(options: argparse.Namespace) -> Plan:
    """Return the plan; findings go to standard error, and errors end the program with 1."""
    from ..pipeline import analyse, plan_of

    analysis = analyse(options.spec, os.environ, settings=options.settings)
    report(analysis, sys.stderr)
    if not analysis.ok:
        sys.exit(1)
    return plan_of(analysis)


def write(plan: Plan, *, force: bool, replace_run: bool) -> Path:
    """Write the run of a plan and return its folder."""
    from ..apply import ApplyError, apply, check
    from ..render import render_files

    files = render_files(plan)
    try:
        check(files, plan.facts.output, force=force, replace_run=replace_run)
        apply(files, plan.facts.output.path)
    except ApplyError as fault:
        raise Failure(fault.message, help=fault.help, code=fault.code) from None
    return plan.facts.output.path


def needs_runtime() -> None:
    """Fail where the programs could not run."""
    from importlib.util import find_spec

    missing = [
        name for name in ("torch", "transformers", "peft", "deepspeed") if find_spec(name) is None
    ]
    if missing:
        raise Failure(
            f"this Python has no {', '.join(missing)}, which running programs needs",
            help="pip install 'tunec[train]' -c constraints.txt",
            code=3,
        )


def replace_process(command: Sequence[str]) -> NoReturn:
    """Become the program: its output, its signals and its exit code are ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ["TUNEC_PYTHON"] = sys.executable
    try:
        os.execv(command[0], list(command))
    except OSError as fault:
        raise Failure(f"cannot start {command[0]}: {fault.strerror}", code=3) from None


def shown(path: Path) -> str:
    """Return a path the short way."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def word(path: Path) -> str:
    """Return a path as one word of a command to type."""
    import shlex

    return shlex.quote(str(path))


def spec_words(options: argparse.Namespace) -> str:
    """Return the spec and its changes as words of a command to type."""
    import shlex

    return shlex.join([str(options.spec), *(f"--set={change}" for change in options.settings)])


def style(stream: Any) -> tuple[bool, int]:
    """Return (colour, width) for a stream; NO_COLOR and FORCE_COLOR decide over the terminal."""
    color = bool(os.environ.get("FORCE_COLOR")) or (
        stream.isatty() and not os.environ.get("NO_COLOR")
    )
    return color, shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100


def complain(message: str, help: str) -> None:
    """Print an error that has no place in a spec."""
    print(f"error: {message}", file=sys.stderr)
    if help:
        print(f"  help: {help}", file=sys.stderr)
