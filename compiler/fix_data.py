"""What a fix does to the plain data of a spec, and whether the spec has room for it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from cattrs import ClassValidationError, IterableValidationError

from .converter import Refusal, spec_converter
from .diagnostics import Add, Fix, Move, Remove, Rename, Replace, SpecPath
from .field_types import are_tables, arms_of, fields_of, is_required, tag_of
from .spec import Spec


class NotPossibleError(Exception):
    """The fix cannot be made here: its place is taken, or the text is written in an unusual way."""


def applied(fix: Fix, data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with the fix made; raise `NotPossibleError` where something is in the way."""
    data = deepcopy(data)
    if isinstance(fix, Rename):
        table = _table(data, fix.path[:-1])
        _set(table, fix.to, table.pop(str(fix.path[-1])))
    elif isinstance(fix, Replace):
        container: Any = data
        for step in fix.path[:-1]:
            container = container[step]
        container[fix.path[-1]] = fix.value
    elif isinstance(fix, Remove):
        del _table(data, fix.path[:-1])[str(fix.path[-1])]
    elif isinstance(fix, Move):
        value = _table(data, fix.path[:-1]).pop(str(fix.path[-1]))
        _require_room(fix.to, value, data)
        _set(_table(data, fix.to[:-1], make=True), str(fix.to[-1]), value)
    else:
        assert isinstance(fix, Add)
        _set(_table(data, fix.path[:-1], make=True), str(fix.path[-1]), fix.value)
    return data


def _table(data: dict[str, Any], path: SpecPath, *, make: bool = False) -> dict[str, Any]:
    here: Any = data
    for step in path:
        if make and isinstance(here, dict) and isinstance(step, str):
            here = here.setdefault(step, {})
        else:
            here = here[step]
    if not isinstance(here, dict):
        raise NotPossibleError
    return here


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    if key in table:
        raise NotPossibleError
    table[key] = value


def _require_room(path: SpecPath, value: Any, data: dict[str, Any]) -> None:
    """Refuse to move a value to where its kind does not belong."""
    type_ = _type_at(path, data)
    try:
        spec_converter().structure(value, type_)
    except (Refusal, ClassValidationError, IterableValidationError):
        raise NotPossibleError from None


def _type_at(path: SpecPath, data: Any) -> Any:
    """Return the type of a field, which may depend on the kinds that the data choose."""
    type_: Any = Spec
    for step in path:
        cls = _chosen(type_, data)
        if cls is None or not isinstance(step, str) or step not in fields_of(cls):
            raise NotPossibleError
        type_ = fields_of(cls)[step].type
        data = data.get(step) if isinstance(data, dict) else None
    return type_


def _chosen(type_: Any, data: Any) -> type | None:
    """Return the class of the table here: the kind it names, or the one it is without a name."""
    given = data if isinstance(data, dict) else {}
    classes: list[type] = [arm for arm in arms_of(type_) if are_tables((arm,))]
    for cls in classes:
        tag = tag_of(cls)
        if tag is None:
            return cls
        name, choice = tag
        if given.get(name) == choice or (name not in given and not is_required(cls, name)):
            return cls
    return None
