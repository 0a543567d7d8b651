"""Rules: small pure functions from a spec and its facts to findings, in one table.

A rule's docstring is its explanation and its test: what is wrong and why it matters, then a TOML block that
fails with exactly this code and one that passes. The blocks are laid over a small sound spec.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..diagnostics import Diagnostic
from ..facts import Facts
from ..spec import Spec
from . import (
    available,
    batch,
    data,
    deepspeed,
    memory,
    method,
    model,
    ranges,
    run,
    training,
)
from .rule import Rule

RULES: tuple[Rule, ...] = (
    *ranges.RULES,
    *run.RULES,
    *model.RULES,
    *data.RULES,
    *method.RULES,
    *training.RULES,
    *batch.RULES,
    *deepspeed.RULES,
    *memory.RULES,
    *available.RULES,
)

__all__ = ["RULES", "Rule", "check"]


def check(spec: Spec, facts: Facts | None) -> list[Diagnostic]:
    """Return the findings of all rules; without facts only the rules that need none are asked.

    A value that is out of range, or no text at all, is reported as that and as nothing else.
    """
    basic = _ask(ranges.RULES, spec, facts)
    unusable = {finding.path for finding in basic}
    further = _ask([rule for rule in RULES if rule not in ranges.RULES], spec, facts)
    return basic + [found for found in further if unusable.isdisjoint(found.involves())]


def _ask(rules: Iterable[Rule], spec: Spec, facts: Facts | None) -> list[Diagnostic]:
    findings: list[Diagnostic] = []
    for rule in rules:
        if rule.pure is not None:
            findings += rule.pure(spec)
        elif facts is not None and rule.factual is not None:
            findings += rule.factual(spec, facts)
    return findings
