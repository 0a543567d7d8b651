"""The supervisor's command line: the options it takes, and how it speaks to people."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .extensions import EXTENSIONS, Device


@dataclass(frozen=True)
class Options:
    """One call of the supervisor."""

    run_dir: Path
    processes: int
    device: Device
    command: tuple[str, ...]
    port: int | None = None
    grace_s: float = 120.0
    on_existing: Literal["refuse", "resume", "overwrite"] = "refuse"
    need_gib: float = 0.0
    extensions: tuple[str, ...] = ()
    allow_edited: bool = False
    prepare: str | None = None
    """Program in the run folder that prepares the data."""
    feed: str | None = None
    """Program in the run folder that reads the data of a stream while the ranks train."""


def parse(argv: Sequence[str]) -> Options:
    """Parse the words of the command line; ends with argparse's code 2 when they make no sense."""
    parser = _parser()
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    known = parser.parse_args(words[:cut])
    command = tuple(words[cut + 1 :])
    if not command:
        parser.error("the command to start is missing after --")
    return Options(
        run_dir=Path(known.run_dir).absolute(),
        processes=known.processes,
        device=known.device,
        command=command,
        port=known.port,
        grace_s=known.grace_s,
        on_existing=known.on_existing,
        need_gib=known.need_gib,
        extensions=tuple(dict.fromkeys(known.extension)),
        allow_edited=known.allow_edited,
        prepare=known.prepare,
        feed=known.feed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launch", allow_abbrev=False)
    add = parser.add_argument
    add("--run-dir", required=True, help="the compiled run folder")
    add("--processes", required=True, type=_count, help="the number of ranks")
    add("--device", required=True, choices=["cpu", "gpu"])
    add("--port", type=_port, help="port of rank 0 (default: a free one)")
    add("--grace-s", type=_amount, default=120.0, help="seconds to save in when stopped")
    add("--need-gib", type=_amount, default=0.0, help="free disk space to ask for")
    add("--extension", action="append", default=[], choices=sorted(EXTENSIONS))
    add("--prepare", metavar="FILE", help="run this program of the run folder first")
    add("--feed", metavar="FILE", help="run this program of the run folder beside the ranks")
    add("--allow-edited", action="store_true", help="run files that were edited by hand")
    choices = ["refuse", "resume", "overwrite"]
    # What the spec says stands in the script; what a person adds by hand comes after it and wins.
    add("--on-existing", choices=choices, default="refuse")
    existing = parser.add_mutually_exclusive_group()
    for choice, text in (
        ("resume", "continue from the newest checkpoint"),
        ("overwrite", "delete what an earlier run wrote and start again"),
    ):
        existing.add_argument(
            f"--{choice}", dest="on_existing", action="store_const", const=choice, help=text
        )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError("must lie between 1 and 65535")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be a number of 0 or more")
    return value


def say(text: str) -> None:
    """Print to the terminal what people have to know."""
    # The terminal may be gone (SIGHUP): the run matters more than its messages.
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
