"""The wording of a key that is missing, unknown, or of another kind of its section."""

from __future__ import annotations

from typing import Any, get_args

from .diagnostics import Diagnostic, Label, SpecPath, error
from .docs import field_docs, first_sentence
from .field_types import are_tables, arms_of, fields_of, is_list, is_required, placeholder, tag_of
from .letters import odd_letters
from .names import advise
from .places import Node, Table
from .spec import Spec
from .toml_words import dotted, dotted_names, either, header_of, quoted, toml_value


def missing_value(node: Node, cls: type) -> Diagnostic:
    """Return what to say about the absence of a field of `cls`."""
    name = str(node.path[-1])
    doc = first_sentence(field_docs(cls).get(name, "a required value"))
    example = f"add `{_example(node.path, node.type)}`"
    if cls is Spec:
        message = f"section `[{name}]` is missing: {doc}"
        return error("T202", message, node.path, helps=(example + _example_keys(node),))
    message = f"`{dotted(node.path)}` is missing: {doc}"
    return error("T202", message, node.path, label=f"no `{name}` here", helps=(example,))


def _example(path: SpecPath, type_: Any) -> str:
    """Return the first line of TOML that gives a value of the type."""
    arms = arms_of(type_)
    if are_tables(arms):
        return header_of(path)
    if is_list(arms[0]) and are_tables(arms_of(get_args(arms[0])[0])):
        return f"[[{dotted_names(path)}]]"
    value = placeholder(type_)
    return f"{path[-1]} = {toml_value(value or '...') if isinstance(value, str) else toml_value(value)}"


def _example_keys(node: Node) -> str:
    """Return " with `key = value` ..." for the keys that a section must have."""
    arm = arms_of(node.type)[0]
    required = [name for name in fields_of(arm) if is_required(arm, name)]
    lines = [f"`{_example((*node.path, name), fields_of(arm)[name].type)}`" for name in required]
    return f" with {' and '.join(lines)}" if lines else ""


def unknown_key(table: Table, key: str) -> tuple[Diagnostic, tuple[SpecPath, ...]]:
    """Return what to say about a key, and the paths of the values that were probably meant, given or not."""
    path = (*table.path, key)
    other_kind = _key_of_other_kind(table, key)
    if other_kind is not None:
        return other_kind, ()
    advice = advise(table, key)
    found = error(
        "T201",
        _unknown_message(table, key),
        path,
        label="unknown section" if _is_section(table, key) else "unknown key",
        on_key=True,
        helps=(advice.text,) if advice.text else (),
        notes=(*_odd_letters(key), *(() if advice.text else _known_keys(table))),
        fix=advice.fix,
    )
    return found, advice.claims


def _odd_letters(key: str) -> tuple[str, ...]:
    odd = odd_letters(key)
    return (odd,) if odd else ()


def _is_section(table: Table, key: str) -> bool:
    return not table.path and isinstance(table.data[key], dict | list)


def _unknown_message(table: Table, key: str) -> str:
    if _is_section(table, key):
        brackets = "[[{}]]" if isinstance(table.data[key], list) else "[{}]"
        return f"unknown section {quoted(brackets.format(key))}"
    where = f"in `{header_of(table.path)}`" if table.path else "outside of any section"
    return f"unknown key {quoted(key)} {where}"


def _known_keys(table: Table) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in fields_of(table.cls))
    return (f"the {'keys' if table.path else 'sections'} are {names}",)


def _key_of_other_kind(table: Table, key: str) -> Diagnostic | None:
    mine = tag_of(table.cls)
    kinds = [arm for arm in arms_of(table.node.type) if key in fields_of(arm)]
    if mine is None or not kinds:
        return None
    name, choice = mine
    theirs = either([f"`{tag[1]}`" for arm in kinds if (tag := tag_of(arm)) is not None])
    tag_path = (*table.path, name)
    labels = (Label(tag_path, "the kind is chosen here"),) if name in table.data else ()
    return error(
        "T206",
        f"`{key}` belongs to {dotted_names(table.path)} {name} {theirs}, this is `{choice}`",
        (*table.path, key),
        label=f"not a key of `{choice}`",
        on_key=True,
        labels=labels,
        helps=(f"remove `{key}`, or choose {name} {theirs}",),
    )
