"""What `--set` says about single elements, after everything is merged: tables get names, the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve

from .composition import Node
from .diagnostics import Diagnostic, SpecPath, error
from .field_types import are_tables, arms_of, fields_of, is_list, is_mapping, table_classes
from .merge import type_below
from .names import nearest
from .spec import Spec
from .toml_words import dotted


def settle(root: Node, type_: Any) -> list[Diagnostic]:
    """Settle what is left of `items` in a merged spec; return what fits nowhere."""
    return list(_settle(root, type_, ()))


def _settle(node: Node, type_: Any, path: SpecPath) -> Iterator[Diagnostic]:
    if node.kind == "items":
        if node.value is not None or _wants_list(type_):
            yield _misfit(node, path)
            return
        # Numbers are names of a mapping, or unknown keys like any other.
        node.kind = "table"
        node.children = {str(key): child for key, child in node.children.items()}
    for key, child in node.children.items():
        yield from _settle(child, type_below(type_, key, node), (*path, key))


def _wants_list(type_: Any) -> bool:
    arms = arms_of(type_)
    return not any(is_mapping(arm) or are_tables((arm,)) for arm in arms)


def _misfit(node: Node, path: SpecPath) -> Diagnostic:
    """Return what to say about elements of a list that is not there."""
    if node.value is not None:
        place, message = (
            path,
            f"`{dotted(path[:-1])}` has no element {path[-1]}: {_count(node.value)}",
        )
        helps: tuple[str, ...] = ()
    else:
        place = (*path, next(iter(node.children)))
        message, helps = _no_list(path)
    span = node.document.locate(place, on_key=True)
    found = error("P141", message, helps=helps, offsets=(span.start, span.end))
    return evolve(found, source=node.document.name)


def _count(length: int) -> str:
    return f"it has {length}, counted from 0" if length else "it is empty"


def _no_list(path: SpecPath) -> tuple[str, tuple[str, ...]]:
    type_: Any = Spec
    for key in path[:-1]:
        type_ = type_below(type_, key)
    names = tuple(name for cls in table_classes(type_) for name in fields_of(cls))
    if path[-1] in names:
        is_a_list = any(map(is_list, arms_of(type_below(type_, path[-1]))))
        if is_a_list:
            message = f"there is no list `{dotted(path)}` whose elements could be changed"
            return message, ("set the list as a whole",)
        return f"`{dotted(path)}` is no list", ()
    near = nearest(path[-1], names)
    helps = () if near is None else (f"write `{dotted((*path[:-1], near))}`",)
    return f"there is no list `{dotted(path)}`", helps
