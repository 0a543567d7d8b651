"""Every name of the other trainers has a home that exists, and a value of each lands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml

from importing import TOKENS, at, convert, loaded, read
from tunec.compiler.importers.draft import Kind
from tunec.compiler.importers.homes import DATASET_INFO, DEEPSPEED, Table, entries
from tunec.compiler.importers.homes.acceptance import ARGUMENTS, BEHAVIOURS
from tunec.compiler.importers.homes.axolotl import AXOLOTL
from tunec.compiler.importers.homes.entries import Replaced
from tunec.compiler.importers.homes.trl import TRL
from tunec.compiler.importers.importer import import_words
from tunec.compiler.importers.paths import classes_along
from tunec.compiler.importers.reference import with_tables

NAMES = Path(__file__).parent / "names"
MIGRATING = Path(__file__).parents[3] / "docs" / "migrating.md"
BASE = {"model_name_or_path": "base", "output_dir": "out"}


def lines(name: str) -> list[str]:
    """Return the lines of a list of names."""
    return (NAMES / name).read_text(encoding="utf-8").splitlines()


def samples() -> dict[str, tuple[str, str, str]]:
    """Return name to value, other settings and where the value lands."""
    found = {}
    for line in lines("samples.txt"):
        if not line.startswith("#"):
            # A bar stands between blanks; those inside of tokens do not.
            given, others, target = line.replace(" | | ", " |  | ").split(" | ")
            name, _, raw = given.partition(": ")
            found[name] = (raw, others.strip(), target.strip())
    return found


SAMPLES = samples()


@pytest.mark.parametrize("name", [*lines("arguments.txt"), *lines("old_names.txt")])
def test_each_argument_has_a_home(name: str) -> None:
    """An argument's paths exist in the spec's classes, kinds included; or a sentence says what replaces it."""
    entry = entries()[name]
    if isinstance(entry, Replaced):
        assert len(entry.text) > 20
    else:
        assert entry
        for home in entry:
            list(classes_along(home.path))


@pytest.mark.parametrize("name", lines("dataset_info.txt"))
def test_each_key_of_the_registry_has_a_home(name: str) -> None:
    """The keys of `dataset_info.json` have homes as well."""
    entry = DATASET_INFO[name]
    for home in entry if isinstance(entry, tuple) else ():
        list(classes_along(home.path))


@pytest.mark.parametrize("table", [DEEPSPEED, AXOLOTL, TRL], ids=["deepspeed", "axolotl", "trl"])
def test_the_homes_of_others_exist(table: Table) -> None:
    """So do those of a DeepSpeed JSON, of Axolotl and of TRL."""
    for entry in table.values():
        for home in entry if isinstance(entry, tuple) else ():
            list(classes_along(home.path))


def test_each_acceptance_row_has_a_home() -> None:
    """Each row of the acceptance list is an argument with a home, or a behaviour whose place is written down."""
    rows = [line.split("\t") for line in lines("acceptance.txt")]
    assert [row[0] for row in rows] == sorted({*ARGUMENTS, *BEHAVIOURS})
    assert len(rows) == 202
    for number, name in ARGUMENTS.items():
        assert name in entries(), number


def test_the_reference_is_fresh() -> None:
    """The tables of docs/migrating.md are those of the code."""
    text = MIGRATING.read_text(encoding="utf-8")
    command = "python -m tunec.compiler.importers.reference docs/migrating.md"
    assert text == with_tables(text), f"out of date; make it anew: {command}"


def test_each_argument_has_a_sample() -> None:
    """The samples below cover every argument, also those of earlier versions."""
    assert {*lines("arguments.txt"), *lines("old_names.txt")} <= SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_lands_at_its_home(name: str, tmp_path: Path) -> None:
    """A value stands at its home, of the right type; or the report says that it has none."""
    raw, others, target = SAMPLES[name]
    settings = {**BASE, **yaml.safe_load(f"{{{'' if others.startswith('USE') else others}}}")}
    settings[name] = yaml.safe_load(raw)
    if others.startswith("USE_"):
        words = [f"{others}=1", "llamafactory-cli", "train", f"--{name}", str(settings[name])]
        imported = import_words(words)
    else:
        files = [loaded("tokens.yaml", TOKENS)] if name == "new_special_tokens_config" else []
        imported = convert(settings, *files)
    data = read(imported)
    lost = [remark.key for remark in imported.remarks if remark.kind is Kind.LOST]
    if target == "lost":
        assert name in lost
    else:
        assert lost == []
    for place, value in _targets(target):
        found = at(data, place)
        assert (type(found), found) == (type(value), value), place


def _targets(target: str) -> list[tuple[str, Any]]:
    """Return the places and values of a sample."""
    if target in ("lost", "nothing"):
        return []
    pairs = (part.split(" = ", 1) for part in target.split("; "))
    return [(place, tomli.loads(f"x = {value}")["x"]) for place, value in pairs]
