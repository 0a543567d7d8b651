"""`tunec import`: other trainers' files and command lines to a spec."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shared import Failure, new_verb, shown, style, word

if TYPE_CHECKING:
    from ..importers.draft import Remark
    from ..importers.importer import Imported

EPILOG = """\
FILEs are a configuration (YAML, JSON, or a shell script with the command) and, where it names them and they are
not found where the trainer would look: dataset_info.json, a DeepSpeed JSON. Either of these alone becomes a catalog
(datasets.toml) or sections for a spec. A command line follows two dashes, and is never run:

  tunec import examples/train_lora/qwen3_lora_sft.yaml -o run.toml
  tunec import -o run.toml -- llamafactory-cli train --model_name_or_path Qwen/Qwen3-4B --stage sft ...

The report on standard error says what has no counterpart, what is to be done by hand, and where the trainer did
something else than it was told. Exit code 0: everything has a place; 1: something has none (the spec is written
all the same); 2: wrong usage, or a malformed file."""


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "import",
        _import,
        "make a spec of a LLaMA-Factory, Axolotl or TRL configuration",
        EPILOG,
    )
    verb.add_argument("files", nargs="+", metavar="FILE", help="files, or `-- COMMAND ...`")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    verb.add_argument("--force", action="store_true", help="replace the file of --output")
    verb.add_argument(
        "--from",
        dest="trainer",
        choices=["llamafactory", "axolotl", "trl"],
        help="the trainer; default: recognised by its keys",
    )


def _import(options: argparse.Namespace) -> int:
    from ..importers.importer import import_words
    from ..importers.reading import ImportFault

    if options.output is not None and os.path.lexists(options.output) and not options.force:
        raise Failure(f"{options.output} exists already", help="--force replaces it", code=4)
    try:
        folder = None if options.output is None else options.output.parent
        imported = import_words(options.files, options.trainer, folder)
    except ImportFault as fault:
        raise Failure(str(fault), help=fault.help) from None
    _write(imported.text, options.output)
    _report(imported, options.output)
    return 0 if imported.is_whole else 1


def _write(text: str, path: Path | None) -> None:
    if path is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    except OSError as fault:
        beside.unlink(missing_ok=True)
        raise Failure(f"cannot write {path}: {fault.strerror}", code=3) from None


def _report(imported: Imported, path: Path | None) -> None:
    from ..importers.report import render_report

    _, width = style(sys.stderr)
    remarks = [*imported.remarks, *(_unavailable(imported.text) if imported.is_spec else ())]
    report = render_report(remarks, width)
    if report:
        print(report, file=sys.stderr)
    if path is not None:
        print(f"wrote {shown(path)}\nnext: `tunec check {word(path)}`", file=sys.stderr)


def _unavailable(text: str) -> list[Remark]:
    """Return what the spec holds that tunec does not do yet."""
    import tomli

    from ..importers.draft import Kind, Remark
    from ..rules.available import check_available
    from ..structure import structure
    from ..toml_words import dotted

    findings = check_available(structure(tomli.loads(text)).spec)
    return [Remark(Kind.LATER, dotted(found.path), found.message) for found in findings]
