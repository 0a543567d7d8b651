"""The mapping from the rules of another trainer to ours: complete, and true."""

from __future__ import annotations

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tunec.compiler.codes import all_codes
from tunec.compiler.field_types import arms_of, fields_of, table_classes, tag_of
from tunec.compiler.rules import RULES
from tunec.compiler.rules.ranges import RANGES
from tunec.compiler.rules.walk import kindless
from tunec.compiler.spec import Spec

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "peer_rules"
KINDS = {"rule", "type", "range", "runtime", "replaced", "internal", "later"}
SUBJECTS = {"data", "methods", "objectives", "serving"}
STEP = re.compile(r"(\w+)(?:\[([\w-]+)\])?")


@frozen
class Row:
    """One rule of the other trainer and what became of it."""

    id: str
    by: str
    where: str
    note: str

    @property
    def places(self) -> list[str]:
        """Codes, paths of the spec, or files."""
        return self.where.split()


@cache
def rows() -> tuple[Row, ...]:
    """Return the whole mapping."""
    return tuple(
        Row(**row)
        for name in ("a.csv", "b.csv")
        for row in csv.DictReader((FOLDER / name).read_text(encoding="utf-8").splitlines())
    )


def of_kind(kind: str) -> list[Row]:
    """Return the rows that are mapped in one way."""
    return [row for row in rows() if row.by == kind]


def test_every_rule_is_mapped_once() -> None:
    """The two parts cover the list of 506 rules, each of them once."""
    listed = (FOLDER / "ids.txt").read_text(encoding="utf-8").split()
    assert len(set(listed)) == len(listed) == 506
    counts = Counter(row.id for row in rows())
    assert set(counts) == set(listed)
    assert {id for id, count in counts.items() if count > 1} == set()


def test_ways_are_known() -> None:
    """Each row says what became of the rule by one of seven words."""
    assert {row.by for row in rows()} <= KINDS


def test_what_is_left_out_is_reasoned() -> None:
    """What is no rule here, or not one yet, has a reason in words."""
    for kind in ("replaced", "internal", "later"):
        assert [row.id for row in of_kind(kind) if len(row.note) < 12] == []


def test_codes_exist() -> None:
    """A row that names rules names rules that there are."""
    assert all(row.where for row in of_kind("rule"))
    known = {rule.code for rule in RULES} | set(all_codes())
    assert {
        (r.id, code) for r in of_kind("rule") for code in r.places if code not in known
    } == set()


def test_settings_exist() -> None:
    """A row that names settings names settings that there are."""
    assert all(row.where for row in of_kind("type"))
    wrong = {(r.id, name) for r in of_kind("type") for name in r.places if not exists(name)}
    assert wrong == set()


def test_ranges_exist() -> None:
    """A row that names the range of a number names one that has a range."""
    assert all(row.where for row in of_kind("range"))
    known = {*RANGES, *map(kindless, RANGES), *(rule.code for rule in RULES)}
    wrong = {
        (row.id, name)
        for row in of_kind("range")
        for name in row.places
        if name not in known and kindless(name) not in known
    }
    assert wrong == set()


def test_programs_exist() -> None:
    """A row that names a part of the runtime names a file that there is, and says what it does."""
    for row in of_kind("runtime"):
        files = [place for place in row.places if "/" in place]
        assert files or row.note, row.id
        assert [place for place in files if not (ROOT / place).exists()] == [], row.id


def test_subjects_are_those_of_the_plan() -> None:
    """What is left for later belongs to one of four subjects."""
    assert {row.where for row in of_kind("later")} <= SUBJECTS


def exists(name: str) -> bool:
    """Tell whether a path such as `method[lora].rank` leads to a table or a setting of the spec."""
    classes: list[Any] = [Spec]
    steps = name.split(".")
    for number, step in enumerate(steps, start=1):
        matched = STEP.fullmatch(step)
        if matched is None:
            return False
        key, kind = matched.groups()
        owners = [cls for cls in classes if key in fields_of(cls)]
        types = [fields_of(cls)[key].type for cls in owners]
        classes = [table for type_ in types for table in table_classes(type_)]
        if kind is not None:
            classes = [cls for cls in classes if (tag_of(cls) or ("", ""))[1] == kind]
            owners = classes
        if not owners:
            return False
        if number < len(steps) and not classes:
            return any(arms_of(type_)[0] is dict for type_ in types)
    return True


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("method", True),
        ("method[lora].init[pissa]", True),
        ("method[lora].rank", True),
        ("data.sources.weight", True),
        ("data.sources[alpaca].output", True),
        ("method[lora].rnak", False),
        ("method[lara].rank", False),
        ("method[full].rank", False),
        ("batch.micro_size.x", False),
        ("no such", False),
    ],
)
def test_paths_are_looked_up_in_the_classes(name: str, is_there: bool) -> None:
    """The check of the mapping can fail."""
    assert exists(name) is is_there
