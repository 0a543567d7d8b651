"""Rules never raise: every setting at values that no one would write."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import tiny
from tunec.compiler.facts import gather
from tunec.compiler.field_types import (
    are_tables,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    is_union,
)
from tunec.compiler.rules import RULES, check
from tunec.compiler.spec import Spec

HUGE = 10**400
VALUES: dict[Any, list[Any]] = {
    int: [0, 1, 2, 3, 8, -1, HUGE, -HUGE, 2**63],
    float: [0.0, -0.0, 1.0, 0.5, math.inf, -math.inf, math.nan, 1e308, 5e-324, 0, 2],
    bool: [True, False],
    type(None): [None],
    str: [
        *("", ".", "..", "/", "\0", "a", "x/y", "[", "loss", "H100:8", "hf_" + "a" * 20, "ü\n"),
        *("data/chat.jsonl", "data/pairs.jsonl", "data/many", "datasets.toml", "chats"),
        *("rewards.py", "hosts", "bad-hosts", "model", "data/*.jsonl", "s3://a/b"),
    ],
}


class Odd:
    """Specs with values at random, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        """Start with a seed."""
        self.random = random.Random(seed)

    def value(self, type_: Any) -> Any:
        """Return a value of a field's type."""
        if is_union(type_) or is_literal(type_):
            choice = self.random.choice(get_args(type_))
            return choice if is_literal(type_) else self.value(choice)
        if is_list(type_):
            return tuple(self.several(get_args(type_)[0]))
        if is_mapping(type_):
            return {self.value(str): value for value in self.several(get_args(type_)[1])}
        if are_tables((type_,)):
            return self.table(type_)
        return self.random.choice(VALUES[type_])

    def several(self, type_: Any) -> Iterator[Any]:
        """Yield up to two values of a type."""
        for _ in range(self.random.choice([0, 1, 2])):
            yield self.value(type_)

    def table(self, cls: Any) -> Any:
        """Return a table with half of what may be left out."""
        fields = fields_of(cls).items()
        given = [n for n, _ in fields if is_required(cls, n) or self.random.random() < 0.5]
        return cls(**{name: self.value(fields_of(cls)[name].type) for name in given})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some of the files that odd specs name."""
    folder = tmp_path_factory.mktemp("odd")
    tiny.write_kinds(folder)
    tiny.write_chats(folder / "data" / "chat.jsonl", 10)
    return folder


@pytest.mark.parametrize("seed", range(8))
def test_rules_never_raise(seed: int, base: Path) -> None:
    """Whatever types allow, facts are gathered and all rules answer, each by itself and all together."""
    odd = Odd(seed)
    for _ in range(25):
        spec: Spec = odd.table(Spec)
        facts = gather(spec, base / "spec.toml", {})
        for rule in RULES:
            for finding in (*(rule.pure or _silent)(spec), *_factual(rule, spec, facts)):
                assert finding.code == rule.code
                assert finding.message
        check(spec, facts)
        check(spec, None)


def _silent(spec: Spec) -> tuple[()]:
    return ()


def _factual(rule: Any, spec: Spec, facts: Any) -> Any:
    return rule.factual(spec, facts) if rule.factual is not None else ()
