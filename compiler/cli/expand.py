"""`tunec expand`: a model with new blocks that change nothing until they are trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .fetch import local_source, run_program
from .shared import Failure, needs_runtime, new_verb


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "expand",
        _expand,
        "add blocks to a model that change nothing until they are trained (LLaMA-Pro)",
        "SOURCE is a folder or a hub id such as org/name. The new blocks are evenly spread, so that their number divides\n"
        'that of the old ones. Train them with `[method] type = "freeze"`, `expanded = true`, `blocks = N`, or with\n'
        '`type = "lora"`, `expanded_blocks = N`. The program that did it is kept in the folder as expand.py.',
    )
    verb.add_argument("source", metavar="SOURCE", help="where the model is")
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="where to write the new one")
    verb.add_argument("--blocks", type=int, required=True, metavar="N", help="blocks to add")
    verb.add_argument("--revision", help="branch, tag or commit of a hub model")


def _expand(options: argparse.Namespace) -> int:
    from ..render import render_expand

    source, is_local = local_source(options.source)
    if is_local:
        _check_count(Path(source), options.blocks)
    needs_runtime()
    folder: Path = options.folder
    if folder.exists():
        raise Failure(f"{folder} exists already", help="remove it, or name another folder", code=4)
    program = render_expand(
        source, local=is_local, num_blocks=options.blocks, revision=options.revision
    )
    return run_program(program, folder, "expand.py")


def _check_count(source: Path, count: int) -> None:
    """End it at once when the new blocks cannot be evenly spread."""
    from ..facts.config import num_layers
    from ..facts.files import read_json

    config = read_json(source / "config.json")
    total = num_layers(config) if isinstance(config, dict) else None
    if total is not None and (count < 1 or total % count):
        divisors = ", ".join(str(n) for n in range(1, total + 1) if total % n == 0)
        raise Failure(
            f"{total} blocks do not divide into {count} groups, each with one new block",
            help=f"{total} divides by {divisors}",
        )
