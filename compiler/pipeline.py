"""From a spec file to its findings and its plan: the stages in order, nothing printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from attrs import frozen

from .allow import allow
from .cascades import suppress_cascades
from .diagnostics import Diagnostic, Level, SpecPath
from .document import EXTENDS, Document, DocumentError, read_document
from .facts import Facts, Seen, gather
from .rules import check as check_rules
from .secret_texts import masked
from .spec import Spec
from .structure import structure

if TYPE_CHECKING:
    from .composition import Composition
    from .plan import Plan


MAX_FINDINGS = 1000
DATA_SECTIONS: tuple[SpecPath, ...] = (
    ("run",),
    ("model",),
    ("tokenizer",),
    ("template",),
    ("data",),
    ("media",),
)
"""What decides the samples, and where they are prepared."""


@frozen
class Analysis:
    """Everything found about one spec. `spec` and `facts` are None where a text is no TOML, or a base is missing."""

    source: Document | DocumentError | Composition
    diagnostics: tuple[Diagnostic, ...]
    spec: Spec | None = None
    facts: Facts | None = None
    allowed: int = 0
    """How many warnings `[allow]` took away."""
    broken: frozenset[SpecPath] = frozenset()
    """Values that do not fit their fields; in `spec` something stands in for them."""

    @property
    def written(self) -> Document | Composition | None:
        """What the spec is written in, where that could be read."""
        return None if isinstance(self.source, DocumentError) else self.source

    @property
    def ok(self) -> bool:
        """Tell whether there are no errors; warnings are allowed."""
        return all(item.level is not Level.ERROR for item in self.diagnostics)

    @property
    def has_warnings(self) -> bool:
        """Tell whether something is at least doubtful; notes only tell."""
        return any(item.level is Level.WARNING for item in self.diagnostics)


def analyse(
    path: Path,
    environ: Mapping[str, str],
    *,
    with_facts: bool = True,
    settings: Sequence[str] = (),
    seen: Seen | None = None,
) -> Analysis:
    """Read, structure and check the spec at `path`; every finding of every stage in one go.

    `settings` are changes to the spec as `--set` takes them: `method.rank=16`. Calls that share `seen` read
    a model or data file that several specs name only once.
    """
    try:
        document = read_document(path)
    except DocumentError as fault:
        return Analysis(fault, fault.diagnostics)
    return analyse_document(
        document, path, environ, with_facts=with_facts, settings=settings, seen=seen
    )


def analyse_document(
    document: Document,
    path: Path,
    environ: Mapping[str, str],
    *,
    with_facts: bool = True,
    settings: Sequence[str] = (),
    seen: Seen | None = None,
) -> Analysis:
    """Structure and check a document that is, or is to be, the spec at `path`."""
    if _stands_alone(document, settings):
        return _analyse(document, path, environ, with_facts, seen)
    from .composition import CompositionError

    try:
        return _analyse(composed(document, settings), path, environ, with_facts, seen)
    except CompositionError as fault:
        return Analysis(fault.source, fault.diagnostics)


def _stands_alone(document: Document, settings: Sequence[str]) -> bool:
    """Tell whether a spec is one file, as most are; what composes others is not even loaded then."""
    return not settings and EXTENDS not in document.data


def composed(document: Document, settings: Sequence[str]) -> Document | Composition:
    """Return a document laid over its bases, with changes laid over it; itself where there are none.

    Raises:
        CompositionError: a base or a change cannot be used.
    """
    if _stands_alone(document, settings):
        return document
    from .compose import compose

    return compose(document, settings)


def _analyse(
    document: Document | Composition,
    path: Path,
    environ: Mapping[str, str],
    with_facts: bool,
    seen: Seen | None,
) -> Analysis:
    structured = structure(document.data)
    facts = gather(structured.spec, path, environ, seen) if with_facts else None
    found = suppress_cascades(check_rules(structured.spec, facts), structured.broken)
    diagnostics = (*document.warnings, *structured.diagnostics, *found)
    is_complete = with_facts and not structured.broken
    left = allow(diagnostics, structured.spec.allow, is_complete=is_complete)
    return Analysis(
        document,
        tuple(map(_masked, _first(left.diagnostics))),
        structured.spec,
        facts,
        left.count,
        structured.broken,
    )


def _masked(finding: Diagnostic) -> Diagnostic:
    """Return a finding that repeats no secret of the spec, such as the password in an address."""
    message = masked(finding.message)
    helps = tuple(map(masked, finding.helps))
    if (message, helps) == (finding.message, finding.helps):
        return finding
    return attrs.evolve(finding, message=message, helps=helps)


def _first(found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Keep so many findings as anyone could read, errors first."""
    if len(found) <= MAX_FINDINGS:
        return found
    kept = sorted(found, key=lambda item: item.level is not Level.ERROR)[:MAX_FINDINGS]
    message = f"only {MAX_FINDINGS:,} of {len(found):,} findings are shown"
    return (*kept, Diagnostic("T207", Level.NOTE, message))


def only_data_count(analysis: Analysis) -> bool:
    """Tell whether a spec's data can be looked at: all that is wrong is that its training is not available yet."""
    errors = [item for item in analysis.diagnostics if item.level is Level.ERROR]
    return not any(
        item.code != "N901" or item.path is None or item.path[:1] in DATA_SECTIONS
        for item in errors
    )


def plan_of(analysis: Analysis, *, of_data: bool = False) -> Plan:
    """Return the plan of a spec without errors; `of_data`, of one that `only_data_count` is true of."""
    is_good = analysis.ok or (of_data and only_data_count(analysis))
    if analysis.spec is None or analysis.facts is None or not is_good:
        raise ValueError("a plan needs a spec without errors, and its facts")
    from .plan import make_plan

    return make_plan(
        analysis.spec,
        analysis.facts,
        spec_name=Path(analysis.source.name).name,
    )
