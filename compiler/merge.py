"""Laying one spec over another: tables merge, other values replace, and a table of another kind replaces too."""

from __future__ import annotations

from typing import Any, Union, get_args

from .composition import Node
from .field_types import (
    are_tables,
    arms_of,
    fields_of,
    is_list,
    is_mapping,
    is_required,
    tag_of,
)


def merge(base: Node, over: Node, type_: Any) -> Node:
    """Return `over` laid over `base`, both of a type of the spec; neither is changed."""
    if over.kind == "items":
        return _merge_items(base, over, type_)
    if base.kind != "table" or over.kind != "table" or _is_other_kind(base, over, type_):
        return over
    children = dict(base.children)
    for key, child in over.children.items():
        below = children.get(key)
        children[key] = (
            child if below is None else merge(below, child, type_below(type_, key, base))
        )
    # What is missing in a table is shown where its author would add it: in a file, if one has the table.
    document = base.document if over.document.is_flag else over.document
    return Node("table", document, children=children)


def _merge_items(base: Node, over: Node, type_: Any) -> Node:
    """Lay single elements over a list; what fits nowhere stays behind as `items`, for `settle` to find."""
    if base.kind == "table":
        named = {str(index): child for index, child in over.children.items()}
        return merge(base, Node("table", over.document, children=named), type_)
    if base.kind == "value":
        return over
    children = dict(base.children)
    for index, child in over.children.items():
        below = children.get(index)
        if below is not None:
            children[index] = merge(below, child, type_below(type_, index, base))
        elif base.kind == "items":
            children[index] = child
        else:
            children[index] = Node("items", child.document, len(base.children))
    return Node(base.kind, base.document, children=children)


def _is_other_kind(base: Node, over: Node, type_: Any) -> bool:
    """Tell whether two tables are of different kinds of a tagged union."""
    tags = _tags(type_)
    if not tags:
        return False
    name = next(iter(tags.values()))[0]
    if name not in over.children:
        return False
    mine = _kind(base, name, tags)
    return mine is not None and mine != over.children[name].value


def _tags(type_: Any) -> dict[type, tuple[str, str]]:
    arms = [arm for arm in arms_of(type_) if are_tables((arm,))]
    return {arm: tag for arm in arms if (tag := tag_of(arm)) is not None}


def _kind(node: Node, name: str, tags: dict[type, tuple[str, str]]) -> Any:
    """Return the kind a table says, else the one that it is without saying so."""
    if name in node.children:
        return node.children[name].value
    return next((tag for arm, (_, tag) in tags.items() if not is_required(arm, name)), None)


def type_below(type_: Any, key: str | int, node: Node | None = None) -> Any:
    """Return the type of a value inside a value; None where the spec has none. A node tells the kind."""
    found: list[Any] = []
    for arm in _arms_for(type_, node):
        if are_tables((arm,)):
            fields = fields_of(arm)
            found += [fields[key].type] if isinstance(key, str) and key in fields else []
        elif is_mapping(arm):
            found.append(get_args(arm)[1])
        elif is_list(arm):
            found.append(get_args(arm)[0])
    return Union[tuple(found)] if found else None  # noqa: UP007 - made at run time


def _arms_for(type_: Any, node: Node | None) -> tuple[Any, ...]:
    arms, tags = arms_of(type_), _tags(type_)
    if node is None or node.kind != "table" or not tags:
        return arms
    kind = _kind(node, next(iter(tags.values()))[0], tags)
    return tuple(arm for arm in arms if arm in tags and tags[arm][1] == kind) or arms
