"""`tunec schema`: the JSON Schema of a spec, for editors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .shared import Failure, new_verb, shown


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "schema",
        _schema,
        "print the JSON Schema of a spec, with which editors complete and check it",
        "Editors find it by the line `#:schema ./tunec.schema.json` at the top of a spec; see docs/editors.md.",
    )
    verb.add_argument(
        "--output", type=Path, metavar="FILE", help="write it to this file instead of printing it"
    )


def _schema(options: argparse.Namespace) -> int:
    from ..schema import schema_text

    if options.output is None:
        print(schema_text(), end="")
        return 0
    write_schema(options.output)
    print(f"wrote {shown(options.output)}")
    return 0


def write_schema(path: Path) -> None:
    """Write the schema; a file that holds an older one gives way."""
    from ..schema import schema_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema_text(), encoding="utf-8", newline="\n")
    except OSError as fault:
        raise Failure(f"cannot write {path}: {fault.strerror}", code=3) from None
