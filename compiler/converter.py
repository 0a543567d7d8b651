"""The cattrs converter: strict hooks that refuse, and never convert, a value that does not fit its type.

Everything here follows from the attrs classes: a new section or field needs no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Union, cast, get_args

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from .field_types import (
    are_tables,
    arms_of,
    fields_of,
    fits,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    is_union,
    tag_of,
)


class Refusal(Exception):  # noqa: N818 - never leaves `structure`
    """A value that does not fit."""


class Mismatch(Refusal):
    """A value of another type than expected, or none of the choices."""

    def __init__(self, value: Any, expected: Any) -> None:
        self.value = value
        self.expected = expected
        super().__init__()


class MissingTag(Refusal):
    """A table without the key that tells its kind."""

    def __init__(self, value: dict[str, Any], arms: tuple[type, ...]) -> None:
        self.value = value
        self.arms = arms
        super().__init__()


class UnknownTag(MissingTag):
    """A table of a kind that does not exist."""


@cache
def spec_converter() -> Converter:
    """Return the one converter, which gathers all refusals."""
    converter = Converter(forbid_extra_keys=True)
    for exact in (int, str, bool):
        converter.register_structure_hook(exact, _structure_exact)
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook_func(is_literal, _structure_literal)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    converter.register_structure_hook_factory(is_list, _list_hook)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(is_union, _union_hook)
    return converter


_Hook = Callable[[Any, Any], Any]


def _structure_exact(value: Any, type_: Any) -> Any:
    if type(value) is not type_:
        raise Mismatch(value, type_)
    return value


def _structure_float(value: Any, type_: Any) -> float:
    if type(value) not in (int, float):
        raise Mismatch(value, type_)
    return float(value)


def _structure_literal(value: Any, type_: Any) -> Any:
    # `True in (0, 1)` holds, so that the type is compared as well.
    if any(type(value) is type(choice) and value == choice for choice in get_args(type_)):
        return value
    raise Mismatch(value, type_)


def _table_hook(cls: type, converter: Converter) -> _Hook:
    """Return the hook of a class.

    It does what the function that cattrs would write and compile does, and saves the compiling: half a
    millisecond a class, which is most of what reading a spec takes.
    """

    def structure_table(value: Any, _: Any) -> Any:
        _choose_arm(value, (cls,))
        given: dict[str, Any] = {}
        refusals: list[Exception] = []
        for name, field in fields_of(cls).items():
            if name in value or is_required(cls, name):
                try:
                    given[name] = converter.structure(value[name], cast(Any, field.type))
                except (
                    Refusal,
                    ClassValidationError,
                    IterableValidationError,
                    KeyError,
                ) as refusal:
                    refusal.add_note(AttributeValidationNote(name, name, field.type))
                    refusals.append(refusal)
        if unknown := value.keys() - fields_of(cls).keys():
            refusals.append(ForbiddenExtraKeysError(None, cls, unknown))
        if refusals:
            raise ClassValidationError(cls.__name__, refusals, cls)
        return cls(**given)

    return structure_table


def _choose_arm(value: Any, arms: tuple[type, ...]) -> type:
    """Return the class whose tag the table carries."""
    if type(value) is not dict:
        raise Mismatch(value, Union[arms])  # noqa: UP007 - made at run time
    tags = {arm: tag for arm in arms if (tag := tag_of(arm)) is not None}
    if not tags:
        return arms[0]
    for arm, (name, wanted) in tags.items():
        found = value.get(name)
        if found == wanted or (name not in value and not is_required(arm, name)):
            return arm
    name = tags[arms[0]][0]
    raise (UnknownTag if name in value else MissingTag)(value, arms)


def _list_hook(type_: Any, converter: Converter) -> _Hook:
    item_type = get_args(type_)[0]

    def structure_list(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise Mismatch(value, type_)
        return tuple(_structure_items(dict(enumerate(value)), item_type, type_, converter).values())

    return structure_list


def _mapping_hook(type_: Any, converter: Converter) -> _Hook:
    item_type = get_args(type_)[1]

    def structure_mapping(value: Any, _: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Mismatch(value, type_)
        return _structure_items(value, item_type, type_, converter)

    return structure_mapping


def _structure_items(
    items: Mapping[Any, Any], item_type: Any, type_: Any, converter: Converter
) -> dict[Any, Any]:
    structured = {}
    refusals: list[Exception] = []
    for index, item in items.items():
        try:
            structured[index] = converter.structure(item, item_type)
        except (Refusal, ClassValidationError, IterableValidationError) as refusal:
            refusal.add_note(IterableValidationNote(str(index), index, item_type))
            refusals.append(refusal)
    if refusals:
        raise IterableValidationError("", refusals, type_)
    return structured


def _union_hook(type_: Any, converter: Converter) -> _Hook:
    arms = arms_of(type_)

    def structure_table(value: Any, _: Any) -> Any:
        return converter.structure(value, _choose_arm(value, arms))

    def structure_value(value: Any, _: Any) -> Any:
        # A whole number fits `int | float` twice; its own type is the better one.
        fitting = sorted(
            (arm for arm in arms if fits(value, arm)), key=lambda arm: type(value) is not arm
        )
        for arm in fitting:
            with suppress(Mismatch):
                return converter.structure(value, arm)
        raise Mismatch(value, type_)

    return structure_table if are_tables(arms) else structure_value
