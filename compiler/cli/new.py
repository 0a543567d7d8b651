"""`tunec new`: a starter spec."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .shared import Failure, new_verb, word

SCHEMA = "tunec.schema.json"


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(verbs, "new", _new, "write a starter spec with comments")
    verb.add_argument(
        "path",
        type=Path,
        nargs="?",
        default=Path("run.toml"),
        metavar="FILE",
        help="default: run.toml",
    )
    verb.add_argument(
        "--model", default="models/smollm2-135m", help="folder or hub id of the model"
    )
    verb.add_argument("--data", default="data/train.jsonl", help="data file, .json or .jsonl")
    verb.add_argument(
        "--format", choices=["messages", "alpaca"], default="messages", help="format of the data"
    )
    verb.add_argument(
        "--method", choices=["lora", "full"], default="lora", help="which parameters are trained"
    )
    verb.add_argument("--device", choices=["gpu", "cpu"], default="gpu", help="what computes")
    verb.add_argument(
        "--no-schema",
        dest="schema",
        action="store_false",
        help="do not write tunec.schema.json beside it, with which editors complete and check the spec",
    )


def _new(options: argparse.Namespace) -> int:
    path: Path = options.path
    text = _starter(options)
    if os.path.lexists(path):
        raise Failure(f"{path} exists already", help="name another file", code=4)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            # The name of a file may hold bytes that are no text.
            file.write(text.encode("utf-8", "replace"))
    except OSError as fault:
        raise Failure(f"cannot write {path}: {fault.strerror}", code=3) from None
    if options.schema:
        from .schema import write_schema

        write_schema(path.parent / SCHEMA)
        print(f"wrote {path.parent / SCHEMA}")
    print(f"wrote {path}\nnext: edit model and data, then `tunec check {word(path)}`")
    return 0


def _starter(options: argparse.Namespace) -> str:
    from ..render.environment import render

    on_cpu = options.device == "cpu"
    return render(
        "new.toml.jinja",
        name=options.path.stem,
        output_dir=f"runs/{options.path.stem}",
        model=options.model,
        data=options.data,
        format=options.format,
        method=options.method,
        device=options.device,
        schema=f"./{SCHEMA}" if options.schema else "",
        precision="fp32" if on_cpu else "bf16",
        checkpointing="false" if on_cpu else "true",
        max_length=512 if on_cpu else 2048,
        micro_size=8 if on_cpu else 4,
        learning_rate="2e-4" if options.method == "lora" else "1e-5",
    )
