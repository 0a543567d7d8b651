"""The command line: the only package that prints or exits. Everything slow is imported where it is used."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from ..version import VERSION
from .shared import Failure, complain

__all__ = ["EXIT_CODES", "VERBS", "Failure", "main", "make_parser"]

DESCRIPTION = """\
The compiler for LLM fine-tuning: one typed TOML spec in, a run you can read, diff, commit and launch out.

  tunec new run.toml         write a starter spec
  tunec check run.toml       find every mistake, in milliseconds
  tunec plan run.toml        say what would happen
  tunec preview run.toml     show the data as the loss sees them
  tunec train run.toml       compile and launch
  tunec chat run.toml        talk to the result
  tunec export run.toml      merge it into one folder of safetensors
"""
EXIT_CODES = """\
exit codes: 0 done; 1 mistakes in the spec; 2 wrong usage; 3 the machine is not fit; 4 the run folder is in the way;
10 training failed; 11 bad data; 12 bad checkpoint; 14 a process died; 70 a fault of tunec; 75 stopped, resume it
"""

VERBS = {
    "new": "new",
    "import": "import_",
    "check": "check",
    "show": "show",
    "plan": "plan",
    "compile": "plan",
    "preview": "preview",
    "train": "train",
    "chat": "programs",
    "export": "programs",
    "fetch": "fetch",
    "expand": "expand",
    "data": "data",
    "cache": "cache",
    "explain": "explain",
    "schema": "schema",
    "completion": "completion",
}
"""Each verb, in the order of `--help`, with the module here whose `add(verbs)` defines it."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its number instead of a fault.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except Failure as failure:
        complain(failure.message, failure.help)
        code = failure.code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["__complete"]:
        # Its words are those of another command, so that no parser must take them for its own.
        from .complete import complete

        return complete(arguments[1:], make_parser())
    try:
        options = make_parser(arguments[0] if arguments else None).parse_args(arguments)
        code: int = options.run(options)
    except SystemExit as end:
        # How argparse ends after `--help` and wrong usage.
        code = int(end.code or 0)
    return code


def make_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; for a verb that exists, of that verb's family alone."""
    parser = argparse.ArgumentParser(
        prog="tunec",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tunec {VERSION}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in [VERBS[verb]] if verb in VERBS else dict.fromkeys(VERBS.values()):
        import_module(f".{module}", __name__).add(verbs)
    return parser
