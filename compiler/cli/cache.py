"""`tunec cache`: prepared data that are kept, and removing them."""

from __future__ import annotations

import argparse
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shared import Failure, new_verb, shown

if TYPE_CHECKING:
    from ..cache import Entry

UNITS = {"h": 3600, "d": 86400, "w": 604800}
WHY = {
    "incomplete": "torn",
    "left behind": "left behind by a process that is gone",
    "complete": "",
    "preparing": "",
}


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "cache",
        _cache,
        "list the prepared data that are kept, or remove them",
        "`prune` removes what killed runs left behind and folders that are torn. Prepared data that are whole go only\n"
        "when they are chosen with --older-than, --keep-gib or --all and --yes is given; without it they are named.",
    )
    verb.add_argument("action", choices=["list", "prune"], help="what to do")
    verb.add_argument("--dir", type=Path, metavar="DIR", help="look there in place of the cache")
    verb.add_argument(
        "--format", choices=["text", "json"], default="text", help="how `list` prints what it finds"
    )
    verb.add_argument(
        "--older-than", type=_duration, metavar="AGE", help="not used for so long: 12h, 30d, 8w"
    )
    verb.add_argument(
        "--keep-gib", type=_gib, metavar="N", help="keep so much of what was used last"
    )
    verb.add_argument("--all", action="store_true", help="all prepared data")
    verb.add_argument(
        "--downloads", action="store_true", help="files fetched from addresses and hubs instead"
    )
    verb.add_argument("--yes", action="store_true", help="really remove what is named")


def _cache(options: argparse.Namespace) -> int:
    from ..cache import default_cache, downloads, entries

    folder = options.dir or default_cache(os.environ)
    try:
        if options.action == "prune" and options.downloads:
            return _prune_downloads(options, options.dir or downloads(os.environ))
        found = entries(folder)
        if options.action == "prune":
            return _prune(options, found)
    except OSError as fault:
        raise Failure(f"{fault.filename}: {fault.strerror}", code=3) from None
    if options.format == "json":
        _print_json(folder, found)
    else:
        print("\n".join(_listed(folder, found)))
        _tell_downloads(options.dir is None, downloads(os.environ))
    return 0


def _tell_downloads(is_default: bool, folder: Path) -> None:
    from ..cache import size_of
    from ..report.cells import visible

    size = size_of(folder) if is_default else 0
    if size:
        print(visible(f"{shown(folder)}: {_size(size)} fetched from addresses and hubs"))


def _prune_downloads(options: argparse.Namespace, folder: Path) -> int:
    from ..cache import fetched
    from ..report.cells import visible

    found = fetched(folder, time.time(), older_than_s=options.older_than or 0.0)
    size = sum(path.lstat().st_size for path in found)
    for path in found:
        print(visible(f"{'removed' if options.yes else 'would remove'} {shown(path)}"))
        if options.yes:
            path.unlink(missing_ok=True)
    if found:
        text = _size(size)
        print(f"{text} freed" if options.yes else f"{text} would be freed; --yes does it")
    return 0


def _prune(options: argparse.Namespace, found: Sequence[Entry]) -> int:
    from ..cache import chosen, remove

    for entry in found:
        if entry.state in ("incomplete", "left behind") and remove(entry):
            print(f"removed {_named(entry)}: {WHY[entry.state]}")
    doomed = chosen(
        found,
        time.time(),
        older_than_s=options.older_than,
        keep_bytes=options.keep_gib,
        everything=options.all,
    )
    for entry in doomed:
        if not options.yes:
            print(f"would remove {_named(entry)}")
        elif remove(entry):
            print(f"removed {_named(entry)}")
    size = _size(sum(entry.size for entry in doomed))
    if doomed:
        print(f"{size} freed" if options.yes else f"{size} would be freed; --yes does it")
    return 0


def _named(entry: Entry) -> str:
    from ..report.cells import visible

    parts = [_size(entry.size), f"used {_age(entry)}", *entry.sources]
    return visible(f"{entry.path.name} ({', '.join(parts)})")


def _listed(folder: Path, found: Sequence[Entry]) -> Iterator[str]:
    from ..report.cells import visible

    total = _size(sum(entry.size for entry in found))
    yield visible(f"{shown(folder)}: {len(found)} prepared, {total}")
    rows = [("key", "size", "used", "samples", "tokens", "sources", "runs"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows if found else ():
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield visible("  ".join([*cells, row[6]])).rstrip()


def _row(entry: Entry) -> tuple[str, ...]:
    if entry.state != "complete":
        return (entry.key, _size(entry.size), _age(entry), "", "", entry.state, "")
    return (
        entry.key,
        _size(entry.size),
        _age(entry),
        f"{entry.samples:,}",
        f"{entry.tokens:,}",
        ", ".join(entry.sources),
        ", ".join(shown(Path(run)) for run in entry.runs),
    )


def _print_json(folder: Path, found: Sequence[Entry]) -> None:
    import json

    import attrs

    listed = [{**attrs.asdict(entry), "path": str(entry.path)} for entry in found]
    print(json.dumps({"folder": str(folder), "prepared": listed}, indent=2))


def _age(entry: Entry) -> str:
    seconds = max(time.time() - entry.used, 0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return "just now"


def _size(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit / 10:
            return f"{size / unit:.1f} {name}"
    return f"{size / 2**10:.1f} KiB"


def _duration(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"`{text}` is no age such as 12h, 30d or 8w")
    return float(int(found[1]) * UNITS[found[2]])


def _gib(text: str) -> int:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError("must be a number of 0 or more")
    return round(value * 2**30)
