"""The kinds that programs are written for today; rule N901 keeps all others from getting here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import attrs

from ..facts import DataFacts, Facts
from ..facts.data import is_elsewhere
from ..spec import (
    AlpacaSource,
    CatalogSource,
    MessagesSource,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    Source,
    Spec,
    TextSource,
)

T = TypeVar("T")

WrittenSource = (
    AlpacaSource | MessagesSource | ShareGptSource | TextSource | PreferenceSource | PromptSource
)
"""The sources that the runtime reads."""


def only(value: object, kind: type[T]) -> T:
    """Return `value`, which is of that kind.

    Raises:
        TypeError: It is not: the spec was planned although it has errors.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where only {kind.__name__} is available")
    return value


def written_sources(spec: Spec, facts: Facts) -> tuple[list[WrittenSource], list[WrittenSource]]:
    """Return the sources for training and for evaluation; an entry of a catalog as the source it declares.

    Raises:
        TypeError: One is of a kind that the runtime does not read: the spec was planned although it has errors.
    """
    return (
        _all_written(spec.data.sources, facts.data),
        _all_written(spec.data.eval_sources, facts.eval_data),
    )


def _all_written(sources: Sequence[Source], facts: Sequence[DataFacts]) -> list[WrittenSource]:
    return [_written(source, fact) for source, fact in zip(sources, facts, strict=True)]


def _written(source: Source, fact: DataFacts) -> WrittenSource:
    found: Any = source
    if isinstance(source, CatalogSource) and fact.entry is not None and fact.entry.source:
        declared: Any = fact.entry.source
        # Paths in a catalog start from its own folder.
        folder = "" if is_elsewhere(declared) else os.path.dirname(source.catalog)
        path = os.path.join(folder, declared.path)
        found = attrs.evolve(declared, path=path, name=declared.name or source.entry)
    if not isinstance(found, WrittenSource):
        raise TypeError(f"{type(found).__name__} is not available")
    return found
