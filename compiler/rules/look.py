"""Looking at a spec: what several rules ask, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics import Diagnostic, Level, SpecPath, warning
from ..facts import DataFacts, Facts
from ..field_types import class_of, default_of, fields_of
from ..spec import CatalogSource, Pretraining, Sft, Source, Spec


def changed(table: Any) -> list[str]:
    """Return the settings of a table that differ from their defaults."""
    fields = fields_of(class_of(table))
    return [name for name in fields if getattr(table, name) != default_of(fields[name])]


def listed(names: list[str] | tuple[str, ...], word: str = "and") -> str:
    """Return names in backticks: `a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return f" {word} ".join(filter(None, (", ".join(quoted[:-1]), *quoted[-1:])))


def note(code: str, message: str, path: SpecPath, **parts: Any) -> Diagnostic:
    """Return a finding that only tells; see `Diagnostic` for the parts."""
    made = warning(code, message, path, **parts)
    return Diagnostic(
        **{name: getattr(made, name) for name in fields_of(Diagnostic)} | {"level": Level.NOTE}
    )


def sources_of(spec: Spec) -> Iterator[tuple[SpecPath, Source]]:
    """Yield every source with its place, those for training first."""
    for section in ("sources", "eval_sources"):
        for index, source in enumerate(getattr(spec.data, section)):
            yield ("data", section, index), source


def data_facts(spec: Spec, facts: Facts) -> Iterator[tuple[SpecPath, Source, DataFacts]]:
    """Yield every source with its place and its facts; an entry of a catalog as the source it declares."""
    known = (*facts.data, *facts.eval_data)
    for (path, source), fact in zip(sources_of(spec), known, strict=False):
        declared = fact.entry.source if fact.entry is not None else None
        yield path, declared or source, fact


def declared(spec: Spec, facts: Facts) -> Iterator[tuple[SpecPath, Source]]:
    """Yield the sources that catalogs declare, each with the place of its entry in the spec."""
    for (path, named), (_, source, _) in zip(
        sources_of(spec), data_facts(spec, facts), strict=False
    ):
        if isinstance(named, CatalogSource) and source is not named:
            yield (*path, "entry"), source


def is_language_objective(spec: Spec) -> bool:
    """Tell the objectives whose samples are one text each: pretraining and SFT."""
    return isinstance(spec.objective, Sft | Pretraining)


def evaluates(spec: Spec) -> bool:
    """Tell whether there are rows to evaluate on."""
    return bool(spec.data.eval_rows or spec.data.eval_sources)


def evaluates_in_training(spec: Spec) -> bool:
    """Tell whether the run evaluates more often than once at the end."""
    timed = spec.evaluation.every_steps is not None or spec.evaluation.each_epoch
    return evaluates(spec) and timed


def is_named_here(source: Source) -> bool:
    """Tell whether a source is a path, and neither an entry of a catalog nor on a hub."""
    return not isinstance(source, CatalogSource) and source.hub is None
