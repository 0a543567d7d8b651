"""`tunec explain`: what a finding or a setting means."""

from __future__ import annotations

import argparse
from typing import Any

from .shared import Failure, new_verb


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs, "explain", _explain, "explain the code of a finding, a section or a setting"
    )
    verb.add_argument(
        "topic", nargs="?", default="", metavar="TOPIC", help="such as R811, method or method.rank"
    )


def _explain(options: argparse.Namespace) -> int:
    from ..explain import explain, similar

    text = explain(options.topic)
    if text is None:
        near = similar(options.topic)
        hint = f"did you mean {', '.join(f'`{name}`' for name in near)}?" if near else ""
        raise Failure(f"there is no code or setting `{options.topic}`", help=hint)
    print(text, end="")
    return 0
