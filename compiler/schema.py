"""The JSON Schema of a spec (draft 7), from which editors complete, explain and check while one types.

taplo, which most editors use, follows `anyOf` and `const` and ignores `if`; so each kind of a table is an arm with
its tag as a `const`. Nothing but the elements of lists is required: a file may leave the rest to those it extends,
and taplo would underline the whole of an unfinished file. `tunec check` finds what is missing.
"""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import attrs
from attrs import define

from .field_types import (
    are_tables,
    arms_of,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
)
from .settings import ROOT, Setting, Table, default_words
from .structure import unstructure
from .version import VERSION

DRAFT = "http://json-schema.org/draft-07/schema#"
Json = dict[str, Any]


def spec_schema() -> Json:
    """Return the schema of a whole spec."""
    maker = _Maker({})
    root = maker.table(ROOT)
    return {
        "$schema": DRAFT,
        "title": "tunec spec",
        "description": f"A fine-tuning run, for tunec {VERSION}.",
        "type": "object",
        "properties": {"extends": _EXTENDS, **root["properties"]},
        "additionalProperties": False,
        "definitions": maker.definitions,
    }


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n"


_EXTENDS: Json = {
    "description": "Specs this one builds on, relative to it; later ones go over earlier ones, this one over all. "
    "Paths inside any of them are relative to the spec that is run.",
    "type": "array",
    "items": {"type": "string"},
}


@define
class _Maker:
    """Collects the tables, each once, as definitions to refer to."""

    definitions: Json

    def table(self, table: Table) -> Json:
        """Return the schema of a table of one kind."""
        properties = {item.name: self._setting(item) for item in table.settings}
        schema = {"type": "object", "description": table.doc, "properties": properties}
        if table.is_list:
            # A list goes over that of another file as a whole, so that nothing can be left out in it.
            schema |= _required(table)
        return {**schema, "additionalProperties": False}

    def _setting(self, setting: Setting) -> Json:
        schema = self._type(setting.type_, setting)
        # draft 7 ignores what stands beside `$ref`.
        schema = {"allOf": [schema]} if "$ref" in schema else schema
        described = {"description": setting.doc, **schema}
        default = _default(setting)
        return described if default is None else {**described, "default": default}

    def _type(self, type_: Any, setting: Setting) -> Json:
        arms = arms_of(type_)
        if are_tables(arms):
            return _any_of([self._reference(arm, setting) for arm in arms])
        return _any_of([self._arm(arm, setting) for arm in arms])

    def _arm(self, arm: Any, setting: Setting) -> Json:
        if is_literal(arm):
            return _literal(get_args(arm))
        if is_list(arm):
            return {"type": "array", "items": self._type(get_args(arm)[0], setting)}
        if is_mapping(arm):
            values = self._type(get_args(arm)[1], setting)
            return {"type": "object", "additionalProperties": values}
        if are_tables((arm,)):
            return self._reference(arm, setting)
        return {"type": _TYPES[arm], **(_limits(setting) if arm in (int, float) else {})}

    def _reference(self, cls: type, setting: Setting) -> Json:
        """Return a reference to the definition of a table; the same class may have other ranges elsewhere."""
        table = next(item for item in setting.tables if item.cls is cls)
        schema = self.table(table)
        for name in (cls.__name__, f"{cls.__name__}.{table.path}"):
            if self.definitions.setdefault(name, schema) == schema:
                return {"$ref": f"#/definitions/{name}"}
        raise ValueError(f"two definitions of {cls.__name__} at {table.path}")


_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _any_of(arms: list[Json]) -> Json:
    return arms[0] if len(arms) == 1 else {"anyOf": arms}


def _required(table: Table) -> Json:
    required = [name for name in fields_of(table.cls) if is_required(table.cls, name)]
    return {"required": required} if required else {}


def _literal(choices: tuple[Any, ...]) -> Json:
    type_ = _TYPES[type(choices[0])]
    # `const` is what taplo tells the kinds of a table by.
    return {"type": type_, **({"const": choices[0]} if len(choices) == 1 else {"enum": [*choices]})}


def _limits(setting: Setting) -> Json:
    allowed = setting.range
    if allowed is None:
        return {}
    limits = {
        "minimum": allowed.least,
        "exclusiveMinimum": allowed.above,
        "maximum": allowed.most,
        "exclusiveMaximum": allowed.below,
    }
    return {name: value for name, value in limits.items() if math.isfinite(value)}


def _default(setting: Setting) -> Any:
    """Return the default as plain data; None where there is none to show."""
    default = setting.default
    if not default_words(setting) or default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    if attrs.has(type(default)):
        return unstructure(default)
    return list(default) if isinstance(default, tuple) else default
