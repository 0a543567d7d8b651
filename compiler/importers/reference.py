"""The tables of docs/migrating.md: `python -m tunec.compiler.importers.reference docs/migrating.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .homes import DATASET_INFO, DEEPSPEED, DROPPED, GROUPS, OLD_NAMES, Entry, Home, Replaced, Table
from .homes.acceptance import ARGUMENTS, BEHAVIOURS
from .homes.axolotl import AXOLOTL
from .homes.trl import TRL
from .paths import steps_of

START = "<!-- The tables below are made by `python -m tunec.compiler.importers.reference docs/migrating.md`. -->"


def with_tables(text: str) -> str:
    """Return a page with the tables after its mark made anew."""
    above, _, _ = text.partition(START)
    return f"{above.rstrip()}\n\n{START}\n\n{tables()}"


def tables() -> str:
    """Return all tables as Markdown."""
    parts = ["## LLaMA-Factory's arguments\n"]
    parts += [f"### {title}\n\n{_table(table)}" for title, table in GROUPS.items()]
    parts.append(f"### Names of earlier versions\n\n{_old_names()}")
    parts.append(f"## dataset_info.json\n\n{_table(DATASET_INFO)}")
    parts.append(f"## A DeepSpeed JSON\n\n{_table(DEEPSPEED)}")
    parts.append(f"## Axolotl\n\n{_table(AXOLOTL)}")
    own = {name: entry for name, entry in TRL.items() if not _is_shared(name, entry)}
    parts.append(f"## TRL\n\nBeside the arguments of transformers above:\n\n{_table(own)}")
    parts.append(f"## Where the features live\n\n{_features()}")
    return "\n".join(parts)


def _is_shared(name: str, entry: Entry) -> bool:
    return any(table.get(name) == entry for table in GROUPS.values())


def _table(table: Table) -> str:
    rows = (f"| `{name}` | {_where(entry)} | {_how(entry)} |" for name, entry in table.items())
    return "\n".join(["| there | here | how, or what replaces it |", "|---|---|---|", *rows, ""])


def _old_names() -> str:
    rows = [f"| `{old}` | as `{new}` | |" for old, new in OLD_NAMES.items()]
    return "\n".join([_table(DROPPED).rstrip(), *rows, ""])


def _features() -> str:
    rows = [
        *_argument_rows(),
        *(_row(number, item, home) for number, (item, home) in BEHAVIOURS.items()),
    ]
    return "\n".join(["| row | what | here |", "|---|---|---|", *sorted(rows), ""])


def _argument_rows() -> Iterator[str]:
    from .homes import entries

    for number, name in ARGUMENTS.items():
        yield _row(number, f"`{name}`", _where(entries()[name]))


def _row(number: str, item: str, home: str) -> str:
    return f"| {number} | {_cell(item)} | {home} |"


def _where(entry: Entry) -> str:
    if isinstance(entry, Replaced):
        return "replaced"
    return "<br>".join(dict.fromkeys(_path(home) for home in entry))


def _path(home: Home) -> str:
    kinds = [f"{step.name} {' or '.join(step.kinds)}" for step in steps_of(home.path) if step.kinds]
    name = ".".join(step.name for step in steps_of(home.path))
    return f"`{name}`" + (f" ({', '.join(kinds)})" if kinds else "")


def _how(entry: Entry) -> str:
    if isinstance(entry, Replaced):
        return _cell(entry.text)
    return _cell("; ".join(dict.fromkeys(home.words() for home in entry if home.words())))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<|", "&lt;|")


def main(path: Path) -> None:
    """Make the tables of a page anew."""
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
