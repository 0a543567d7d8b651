"""The wording of a value that does not fit: wrong type, none of the choices, no known kind of section."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args

from .converter import Mismatch, MissingTag, Refusal, UnknownTag
from .diagnostics import Diagnostic, Fix, Replace, SpecPath, error
from .field_types import (
    are_tables,
    arms_of,
    choices_of,
    fields_of,
    fits,
    is_list,
    is_literal,
    is_mapping,
    tag_of,
)
from .names import nearest, same_word
from .places import Node
from .toml_words import dotted, dotted_names, either, header_of, quoted, toml_value


def refusal_diagnostic(refusal: Refusal, node: Node) -> Diagnostic:
    """Return what to say about the value at a place."""
    if isinstance(refusal, UnknownTag):
        return _unknown_tag(refusal, node)
    if isinstance(refusal, MissingTag):
        return _missing_tag(refusal, node)
    assert isinstance(refusal, Mismatch)
    # The node knows the whole type, the hook perhaps one arm of it.
    choices = choices_of(node.type)
    if any(type(refusal.value) is type(choice) for choice in choices):
        return _not_a_choice(refusal.value, node, choices)
    return _wrong_type(refusal.value, node.type, node.path)


def _missing_tag(refusal: MissingTag, node: Node) -> Diagnostic:
    tags = {arm: tag for arm in refusal.arms if (tag := tag_of(arm)) is not None}
    # The kind that knows most of the keys is the likeliest.
    likeliest = sorted(tags, key=lambda arm: -len(refusal.value.keys() & fields_of(arm).keys()))
    name = tags[refusal.arms[0]][0]
    lines = [f'`{name} = "{tags[arm][1]}"`' for arm in likeliest]
    message = f"`{dotted((*node.path, name))}` is missing: the kind of `{header_of(node.path)}`"
    path = (*node.path, name)
    return error("T202", message, path, label=f"no `{name}` here", helps=(f"add {either(lines)}",))


def _unknown_tag(refusal: UnknownTag, node: Node) -> Diagnostic:
    tags = [tag for arm in refusal.arms if (tag := tag_of(arm)) is not None]
    name = tags[0][0]
    path = (*node.path, name)
    kinds = tuple(choice for _, choice in tags)
    value = refusal.value[name]
    if not isinstance(value, str):
        return _wrong_type(value, Literal[kinds], path)
    known = either([f"`{kind}`" for kind in kinds])
    near = nearest(value, kinds)
    helps = () if near is None else (f"write `{toml_value(near)}`",)
    message = f"{dotted_names(node.path)} {name} {quoted(value)} does not exist, expected {known}"
    fix = _spelling(path, value, kinds)
    return error("T205", message, path, label=f"unknown {name}", helps=helps, fix=fix)


def _not_a_choice(value: Any, node: Node, choices: tuple[Any, ...]) -> Diagnostic:
    near = nearest(value, choices)
    helps = () if near is None else (f"write `{toml_value(near)}`",)
    fix = _spelling(node.path, value, choices)
    if near is None and _is_element(value, node.type):
        helps, fix = (f"write `[{toml_value(value)}]`",), _in_brackets(node.path, value)
    message = f"`{dotted(node.path)}` is {quoted(value)}, expected {_expected(node.type)}"
    return error("T204", message, node.path, label="not one of the choices", helps=helps, fix=fix)


def _spelling(path: SpecPath, value: Any, choices: tuple[Any, ...]) -> Fix | None:
    """Return the fix for a choice in another case, or with `_` for `-`."""
    meant = same_word(value, choices)
    return None if meant is None else Replace(path, meant)


def _wrong_type(value: Any, type_: Any, path: SpecPath) -> Diagnostic:
    kind = _kind(value)
    message = f"`{dotted(path)}` is {kind}, expected {_expected(type_)}"
    helps = tuple(_conversions(value, type_, path))[:1]
    fix = _conversion(value, type_, path)
    return error("T203", message, path, label=f"this is {kind}", helps=helps, fix=fix)


def _conversion(value: Any, type_: Any, path: SpecPath) -> Fix | None:
    """Return the fix where the value can only mean one thing: `"16"`, `16.0`, `"true"`, one element of a list."""
    if isinstance(value, str):
        meant = next(_values_in_text(value, type_), None)
        if meant is not None:
            return Replace(path, meant)
    elif isinstance(value, float) and value.is_integer() and _accepts(int(value), type_):
        return Replace(path, int(value))
    return _in_brackets(path, value) if _is_element(value, type_) else None


def _in_brackets(path: SpecPath, value: Any) -> Fix | None:
    """Return the fix for one element in place of a list, unless it is several in one text: `"q_proj,v_proj"`."""
    is_several = isinstance(value, str) and len(re.split(r"[,;\s]+", value)) > 1
    return None if is_several else Replace(path, [value])


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "a table",
    type(None): "nothing",
    datetime.datetime: "a date and time",
    datetime.date: "a date",
    datetime.time: "a time",
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{toml_value(value)}`"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_EXPECTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "`true` or `false`",
}


def _expected(type_: Any) -> str:
    arms = arms_of(type_)
    if are_tables(arms):
        return "a table"
    if set(arms) == {int, float}:
        return "a number"
    return either([words for arm in arms for words in _arm_words(arm)])


def _arm_words(arm: Any) -> list[str]:
    if is_literal(arm):
        return [quoted(choice) for choice in get_args(arm)]
    if is_list(arm):
        item = get_args(arm)[0]
        plural = {str: "texts", int: "whole numbers", float: "numbers"}.get(item)
        return [f"a list of {plural or ('tables' if are_tables(arms_of(item)) else 'values')}"]
    return ["a table"] if is_mapping(arm) or are_tables((arm,)) else [_EXPECTED[arm]]


def _conversions(value: Any, type_: Any, path: SpecPath) -> Iterator[str]:
    """Yield ways to write what was probably meant, the likeliest first."""
    arms = arms_of(type_)
    if isinstance(value, str):
        yield from _from_text(value, type_)
    elif str in arms or any(str(value) == choice for choice in choices_of(type_)):
        if not isinstance(value, list | dict):
            yield f'write `"{toml_value(value)}"` in quotes'
    elif isinstance(value, float) and value.is_integer() and _accepts(int(value), type_):
        yield f"write `{int(value)}` without a fraction"
    elif bool in arms and type(value) is int and value in (0, 1):
        yield f"write `{toml_value(bool(value))}`"
    if any(is_list(arm) and _fits_item(value, arm) for arm in arms):
        in_brackets = isinstance(value, dict)
        yield (
            f"write `[[{dotted_names(path)}]]`, with two brackets"
            if in_brackets
            else f"write `[{toml_value(value)}]`"
        )
    if are_tables(arms):
        yield _table_advice(value, arms, path)


def _from_text(value: str, type_: Any) -> Iterator[str]:
    for found in _values_in_text(value, type_):
        yield f"write `{toml_value(found)}` without quotes"


def _values_in_text(value: str, type_: Any) -> Iterator[Any]:
    """Yield the numbers and booleans that a text spells and the type has room for."""
    for convert in (int, float, {"true": True, "false": False}.__getitem__):
        try:
            found = convert(value.strip().lower())
        except (ValueError, KeyError):
            continue
        if _accepts(found, type_) and len(value) < 40:
            yield found


def _accepts(value: Any, type_: Any) -> bool:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return False
    choices = choices_of(type_)
    if any(type(value) is type(choice) for choice in choices):
        return value in choices
    return any(fits(value, arm) for arm in arms_of(type_))


def _is_element(value: Any, type_: Any) -> bool:
    """Tell whether a value stands where a list of such values is due."""
    is_bare = not isinstance(value, dict | list)
    return is_bare and any(is_list(arm) and _fits_item(value, arm) for arm in arms_of(type_))


def _fits_item(value: Any, arm: Any) -> bool:
    return any(fits(value, item) for item in arms_of(get_args(arm)[0]))


def _table_advice(value: Any, arms: tuple[Any, ...], path: SpecPath) -> str:
    if isinstance(value, list):
        return f"write `[{dotted_names(path)}]`, with one bracket"
    header = header_of(path)
    tags = [tag for arm in arms if (tag := tag_of(arm)) is not None]
    for name, choice in tags:
        if choice == value:
            return f'write a section `{header}` with `{name} = "{choice}"`'
    return f"write a section `{header}`"
