"""From a spec file to its findings and its plan: the stages in order, nothing printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from .diagnostics import Diagnostic, Level
from .document import Document, DocumentError, read_document
from .facts import Facts, gather
from .plan import Plan, make_plan
from .report import suppress_cascades
from .rules import check as check_rules
from .spec import Spec
from .structure import structure


@frozen
class Analysis:
    """Everything found about one spec file. `spec` and `facts` are None where the text is no TOML."""

    source: Document | DocumentError
    diagnostics: tuple[Diagnostic, ...]
    spec: Spec | None = None
    facts: Facts | None = None

    @property
    def ok(self) -> bool:
        """Tell whether there are no errors; warnings are allowed."""
        return all(item.level is not Level.ERROR for item in self.diagnostics)


def analyse(path: Path, environ: Mapping[str, str], *, with_facts: bool = True) -> Analysis:
    """Read, structure and check the spec at `path`; every finding of every stage in one go."""
    try:
        document = read_document(path)
    except DocumentError as fault:
        return Analysis(fault, fault.diagnostics)
    structured = structure(document.data)
    facts = gather(structured.spec, path, environ) if with_facts else None
    found = suppress_cascades(check_rules(structured.spec, facts), structured.broken)
    diagnostics = (*document.warnings, *structured.diagnostics, *found)
    return Analysis(document, diagnostics, structured.spec, facts)


def plan_of(analysis: Analysis) -> Plan:
    """Return the plan of a spec without errors."""
    if analysis.spec is None or analysis.facts is None or not analysis.ok:
        raise ValueError("a plan needs a spec without errors, and its facts")
    return make_plan(
        analysis.spec,
        analysis.facts,
        spec_name=Path(analysis.source.name).name,
    )
