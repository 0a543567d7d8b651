"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from ..diagnostics import Diagnostic
from ..facts import Facts
from ..spec import Spec

PureCheck = Callable[[Spec], Iterable[Diagnostic]]
FactCheck = Callable[[Spec, Facts], Iterable[Diagnostic]]


@frozen
class Rule:
    """A stable code, a short name, and the check: `pure` looks at the spec alone, `factual` at the world too.

    A rule with both asks both; the docstring of the first explains the rule.
    """

    code: str
    name: str
    pure: PureCheck | None = None
    factual: FactCheck | None = None

    @property
    def explanation(self) -> str:
        """The docstring of the check."""
        return (self.pure or self.factual).__doc__ or ""
