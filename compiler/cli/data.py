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
        "look into data files: columns, rows that cannot be used, and the source to write",
        "Prints a table `[[data.sources]]` for each FILE with the reasons as comments; >> adds it to a spec.\n"
        "Looks into .jsonl, .json, .csv, .txt, also compressed, and with pyarrow into .parquet, .arrow and\n"
        ".feather. A FILE can be a folder or a pattern in quotes. Exit code 11: no format fits.",
    )
    verb.add_argument("action", choices=["inspect"], help="what to do")
    verb.add_argument(
        "file", nargs="+", type=Path, metavar="FILE", help="a data file, a folder or a pattern"
    )
    verb.add_argument(
        "--format", choices=["text", "json"], default="text", help="how to print what is found"
    )
    verb.add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="format",
        help="the same as --format json",
    )


def _data(options: argparse.Namespace) -> int:
    import json

    from ..inspection import as_json, as_toml

    found = [_looked_into(str(path)) for path in options.file]
    if options.format == "json":
        made = [as_json(*item) for item in found]
        print(json.dumps(made[0] if len(made) == 1 else made, indent=2))
    else:
        print("\n".join(as_toml(*item) for item in found), end="")
    return 0 if all(findings.proposals for _, findings in found) else 11


def _looked_into(path: str) -> Any:
    """Return the rows at a path and what they speak for."""
    from ..facts.heads import DamagedError, UnreadError
    from ..inspection import NotLookedInto, propose, read_rows
    from ..report.cells import visible

    try:
        rows = read_rows(path)
    except OSError as fault:
        raise Failure(f"{visible(path)}: {fault.strerror}", code=2) from None
    except (DamagedError, NotLookedInto) as refusal:
        raise Failure(f"{visible(path)}: {visible(str(refusal))}", code=11) from None
    except UnreadError as why:
        raise Failure(f"{visible(path)}: {why}", code=3) from None
    except ValueError:
        raise Failure(f"{visible(path)}: this cannot be a path", code=2) from None
    return rows, propose(rows)
