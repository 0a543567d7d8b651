"""References in programs: what a policy is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan import Plan
from ..rules.references import reference_of
from .calls import Arg, Places


def reference_args(plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield the argument `reference` of an objective that compares its policy with one."""
    if reference_of(plan.spec) is not None:
        yield Arg("reference", "objectives.AdapterOff()")
