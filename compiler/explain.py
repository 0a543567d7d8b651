"""`tunec explain`: what a code means, what a setting does."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from . import document, structure
from .docs import field_docs
from .render.literals import toml_literal
from .rules import RULES
from .spec import Spec


def explain(topic: str) -> str | None:
    """Return the text on a code, a section or a `section.key`; None for a topic nobody knows."""
    if not topic:
        return _overview()
    code = topic.upper()
    for rule in RULES:
        if rule.code == code:
            return f"{rule.code}: {rule.name}\n\n{inspect.cleandoc(rule.explanation)}\n"
    for table in (document.CODES, structure.CODES):
        if code in table:
            return f"{code}\n\n{table[code]}\n"
    return _setting(topic)


def similar(topic: str) -> list[str]:
    """Return names like `topic`: settings of that name in any section, then names spelt like it."""
    paths = list(dict.fromkeys(path for path, _ in _settings()))
    codes = [rule.code for rule in RULES] + [*document.CODES, *structure.CODES]
    same = [path for path in paths if path.rsplit(".", 1)[-1] == topic.lower()]
    near = difflib.get_close_matches(topic.lower(), [*get_type_hints(Spec), *paths], n=3)
    return same or near or difflib.get_close_matches(topic.upper(), codes, n=3)


def _overview() -> str:
    docs = field_docs(Spec)
    lines = ["sections of a spec:"]
    lines += [f"  [{name}]".ljust(18) + docs.get(name, "") for name in docs]
    lines += ["", "more: tunec explain SECTION, SECTION.KEY, or the code of a finding"]
    return "\n".join(lines) + "\n"


def _setting(topic: str) -> str | None:
    found = [(path, text) for path, text in _settings() if path == topic]
    inside = [(path, text) for path, text in _settings() if path.startswith(topic + ".")]
    if not found and not inside:
        return None
    return "\n\n".join(text for _, text in found or inside) + "\n"


def _settings() -> Iterator[tuple[str, str]]:
    for section, type_ in get_type_hints(Spec).items():
        for cls in _arms(type_):
            yield from _describe(section, cls)


def _describe(prefix: str, cls: type) -> Iterator[tuple[str, str]]:
    docs, hints = field_docs(cls), get_type_hints(cls)
    kind = next(
        (f'[{prefix}] {n} = "{get_args(hints[n])[0]}": ' for n in ("type", "format") if n in hints),
        "",
    )
    for field in attrs.fields(cls):
        path = f"{prefix}.{field.name}"
        head = f"{path}: {_type_name(hints[field.name])}{_default(field)}"
        yield path, f"{head}\n  {kind}{' '.join(docs.get(field.name, '').split())}"
        for inner in _tables(hints[field.name]):
            yield from _describe(path, inner)


def _arms(type_: Any) -> list[type]:
    if get_origin(type_) in (Union, types.UnionType):
        return [arm for arm in get_args(type_) if attrs.has(arm)]
    return [type_] if attrs.has(type_) else []


def _tables(type_: Any) -> list[type]:
    return _arms(get_args(type_)[0]) if get_origin(type_) is tuple else []


def _type_name(type_: Any) -> str:
    if type_ is type(None):
        return "nothing"
    origin = get_origin(type_)
    if origin is Literal:
        return " | ".join(f'"{c}"' if isinstance(c, str) else str(c) for c in get_args(type_))
    if origin is tuple:
        return f"list of {_type_name(get_args(type_)[0])}".replace("of table", "of tables")
    if origin in (Union, types.UnionType):
        named = [_type_name(arm) for arm in get_args(type_) if arm is not type(None)]
        return " | ".join(dict.fromkeys(named))
    names = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return names.get(type_, "table")


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return ", required"
    if field.default is None or isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return ""
    default = toml_literal(field.default)
    return f", default {default}"
