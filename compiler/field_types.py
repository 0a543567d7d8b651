"""What the annotations of the spec's classes say: fields, unions, choices, and the tag that tells kinds apart."""

from __future__ import annotations

import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import attrs


@cache
def fields_of(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """Return the fields of a class by name, their types resolved."""
    attrs.resolve_types(cls)
    return attrs.fields_dict(cls)


def arms_of(type_: Any) -> tuple[Any, ...]:
    """Return the members of a union but None; any other type is its own only arm."""
    if get_origin(type_) in (Union, types.UnionType):
        return tuple(arm for arm in get_args(type_) if arm is not types.NoneType)
    return (type_,)


def is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType)


def is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def is_list(type_: Any) -> bool:
    return get_origin(type_) is tuple and get_args(type_)[1:] == (...,)


def is_mapping(type_: Any) -> bool:
    return get_origin(type_) is dict and get_args(type_)[:1] == (str,)


def are_tables(arms: tuple[Any, ...]) -> bool:
    return all(isinstance(arm, type) and attrs.has(arm) for arm in arms)


def table_classes(type_: Any) -> list[type]:
    """Return the classes of the tables that a field may hold, also in a list."""
    arms = [
        inner
        for arm in arms_of(type_)
        for inner in (arms_of(get_args(arm)[0]) if is_list(arm) else (arm,))
    ]
    return [arm for arm in arms if are_tables((arm,))]


@cache
def tag_of(cls: type) -> tuple[str, str] | None:
    """Return name and value of the field that tells a class from the others of its union."""
    for name, field in fields_of(cls).items():
        choices = get_args(field.type) if is_literal(field.type) else ()
        if len(choices) == 1 and isinstance(choices[0], str):
            return name, choices[0]
    return None


def is_section(value: Any) -> bool:
    """Tell whether a value is a table, made of a class."""
    return attrs.has(class_of(value))


def class_of(value: Any) -> type:
    """Return the class of a value, as a type that caches take."""
    return type(value)


def default_of(field: attrs.Attribute[Any]) -> Any:
    """Return the value of a field that is not given, `attrs.NOTHING` where it must be."""
    default: Any = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def is_required(cls: type, name: str) -> bool:
    return fields_of(cls)[name].default is attrs.NOTHING


def choices_of(type_: Any) -> tuple[Any, ...]:
    """Return the values that the literals in a type allow."""
    return tuple(choice for arm in arms_of(type_) if is_literal(arm) for choice in get_args(arm))


def placeholder(type_: Any) -> Any:
    """Return plain data that structures as the type, to stand in for what is missing or broken."""
    arm = arms_of(type_)[0]
    if is_literal(arm):
        return get_args(arm)[0]
    if is_list(arm):
        return []
    if is_mapping(arm):
        return {}
    if are_tables((arm,)):
        required = (name for name in fields_of(arm) if is_required(arm, name))
        return {name: placeholder(fields_of(arm)[name].type) for name in required}
    return {int: 1, float: 1.0, str: "", bool: False}[arm]


def fits(value: Any, arm: Any) -> bool:
    """Return whether the kind of value is right; whether the value is, its hook says."""
    if is_literal(arm):
        return type(value) in {type(choice) for choice in get_args(arm)}
    if is_list(arm):
        return type(value) is list
    if is_mapping(arm) or are_tables((arm,)):
        return type(value) is dict
    return type(value) is arm or (arm is float and type(value) is int)
