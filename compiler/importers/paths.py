"""Paths of homes, such as `method[lora|oft].targets`: what they mean in the spec's classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from attrs import frozen

from ..diagnostics import SpecPath
from ..field_types import fields_of, is_list, is_required, table_classes, tag_of
from ..spec import Spec

STEP = re.compile(r"(?P<name>\w+)(?:\[(?P<kinds>[^\]]+)\])?")


@frozen
class Step:
    """One name of a path, with the kinds of table that the path goes on through (none: any)."""

    name: str
    kinds: tuple[str, ...]


@frozen
class Place:
    """A place in the spec: its path, the type of its field, and its default."""

    path: SpecPath
    type: Any
    default: Any


@cache
def steps_of(path: str) -> tuple[Step, ...]:
    """Return the steps of a path."""
    found = (STEP.fullmatch(part) for part in path.split("."))
    return tuple(
        Step(step["name"], tuple((step["kinds"] or "").split("|")) if step["kinds"] else ())
        for step in found
        if step is not None
    )


def plain(path: str) -> SpecPath:
    """Return a path without its kinds."""
    return tuple(step.name for step in steps_of(path))


def kind_of(cls: type) -> str:
    """Return the kind that a class is of; the empty text where there is only one."""
    tag = tag_of(cls)
    return tag[1] if tag else ""


def classes_along(path: str) -> Iterator[tuple[type, ...]]:
    """Yield the classes that each step may be read from.

    Raises:
        LookupError: where the path does not exist in the spec.
    """
    classes: tuple[type, ...] = (Spec,)
    for step in steps_of(path):
        classes = tuple(cls for cls in classes if step.name in fields_of(cls))
        if not classes:
            raise LookupError(f"no {step.name!r} of {path}")
        yield classes
        inner = {c: 0 for cls in classes for c in table_classes(fields_of(cls)[step.name].type)}
        if unknown := set(step.kinds) - {kind_of(cls) for cls in inner}:
            raise LookupError(f"no kind {sorted(unknown)} of {step.name} in {path}")
        classes = tuple(cls for cls in inner if not step.kinds or kind_of(cls) in step.kinds)


def find(path: str, kinds: Mapping[str, str], items: Mapping[str, int]) -> Place | None:
    """Return where a path leads in a spec whose tables are of these kinds; None where it leads nowhere.

    `kinds` maps the dotted path of a table to its kind, and holds each optional table that is present.
    `items` maps a path with a kind, such as `logging.trackers[wandb]`, to the place in the list.
    """
    cls: type | None = Spec
    here: SpecPath = ()
    place: Place | None = None
    for step in steps_of(path):
        if cls is None or step.name not in fields_of(cls):
            return None
        field = fields_of(cls)[step.name]
        here = (*here, step.name)
        place = Place(here, field.type, field.default)
        cls, here = _enter(cls, step, here, kinds, items)
        if cls is None and step is not steps_of(path)[-1]:
            return None
    return place


def _enter(
    cls: type, step: Step, here: SpecPath, kinds: Mapping[str, str], items: Mapping[str, int]
) -> tuple[type | None, SpecPath]:
    """Return the class of the table at a step, and its path; no class where there is none."""
    type_ = fields_of(cls)[step.name].type
    inner = table_classes(type_)
    if not inner:
        return None, here
    dotted = ".".join(str(part) for part in here)
    if is_list(type_):
        item = items.get(f"{dotted}[{step.kinds[0]}]") if step.kinds else None
        chosen = step.kinds[0] if item is not None else None
        here = here if item is None else (*here, item)
    else:
        chosen = kinds.get(dotted, _default_kind(cls, step.name, inner))
    if chosen is None or (step.kinds and chosen not in step.kinds):
        return None, here
    return next((c for c in inner if kind_of(c) == chosen), None), here


def _default_kind(cls: type, name: str, inner: list[type]) -> str | None:
    """Return the kind of a table that nothing is said about."""
    if fields_of(cls)[name].default is None:
        return None
    if len(inner) == 1:
        return kind_of(inner[0])
    tags = {c: tag_of(c) for c in inner}
    return next((tag[1] for c, tag in tags.items() if tag and not is_required(c, tag[0])), None)
