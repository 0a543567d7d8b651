"""`tunec data inspect`: which source a data file needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .shared import Failure, new_verb


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "data",
        _data,
        "look into a data file: columns, rows that cannot be used, and the source to write",
        "Prints a table `[[data.sources]]` with the reasons as comments; >> adds it to a spec.\n"
        "Looks into .jsonl, .json and .csv. Exit code 11: no format fits.",
    )
    verb.add_argument("action", choices=["inspect"], help="what to do")
    verb.add_argument("file", type=Path, metavar="FILE", help="the data file")
    verb.add_argument(
        "--format", choices=["text", "json"], default="text", help="how to print what is found"
    )


def _data(options: argparse.Namespace) -> int:
    import json

    from ..inspection import NotLookedInto, as_json, as_toml, propose, read_rows
    from ..report.cells import visible

    path: Path = options.file
    try:
        found = read_rows(path)
    except OSError as fault:
        raise Failure(f"{visible(str(path))}: {fault.strerror}", code=2) from None
    except NotLookedInto as refusal:
        raise Failure(f"{visible(str(path))}: {refusal}", code=11) from None
    findings = propose(found)
    if options.format == "json":
        print(json.dumps(as_json(found, findings, str(path)), indent=2))
    else:
        print(as_toml(found, findings, str(path)), end="")
    return 0 if findings.proposals else 11
