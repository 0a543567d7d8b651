"""From the tree of cattrs' errors to faults: what to say about each, and what takes the value's place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from .converter import Refusal
from .diagnostics import Diagnostic, Level, SpecPath
from .key_errors import missing_value, unknown_key
from .places import REMOVE, Node, Table
from .spec import Spec
from .value_errors import refusal_diagnostic

MAX_ALIKE = 200
"""Mistakes of one table or list that are told one by one."""


@frozen
class Fault:
    """One structural error: what to say, which paths it spoils, and what takes the value's place."""

    path: SpecPath
    diagnostic: Diagnostic | None
    broken: tuple[SpecPath, ...]
    repair: Any = REMOVE
    claims: tuple[SpecPath, ...] = ()
    """Absent values that were probably meant; nothing is said about their absence."""


def find_faults(refusal: BaseException, data: dict[str, Any]) -> list[Fault]:
    """Return the faults in the data of a spec that was refused."""
    faults = [_claiming_absent(fault, data) for fault in _walk(refusal, data, Node((), Spec))]
    return _without_echoes(faults)


def _claiming_absent(fault: Fault, data: dict[str, Any]) -> Fault:
    """A value that is given elsewhere was not meant by an unknown key, and is judged as ever."""
    given = {claim for claim in fault.claims if _is_given(data, claim)}
    if not given:
        return fault
    return evolve(
        fault,
        claims=tuple(claim for claim in fault.claims if claim not in given),
        broken=tuple(path for path in fault.broken if path not in given),
    )


def _is_given(data: Any, path: SpecPath) -> bool:
    for step in path:
        if not isinstance(data, dict) or step not in data:
            return False
        data = data[step]
    return True


def _walk(refusal: BaseException, data: Any, node: Node) -> Iterator[Fault]:
    """Yield the faults of a tree of refusals. `data` is the value at the node."""
    if isinstance(refusal, ClassValidationError):
        for inner in refusal.exceptions:
            yield from _walk_field(inner, data, node, refusal.cl)
    elif isinstance(refusal, IterableValidationError):
        for count, inner in enumerate(refusal.exceptions):
            note = _note(inner, IterableValidationNote)
            item = node.item(note.index, note.type)
            if count < MAX_ALIKE:
                yield from _walk(inner, data[note.index], item)
            else:
                yield Fault(item.path, _more(item.path, count), (item.path,), item.repair)
    elif isinstance(refusal, Refusal):
        diagnostic = refusal_diagnostic(refusal, node)
        yield Fault(node.path, diagnostic, (node.path,), node.repair)
    else:
        raise refusal  # a fault of this program, not of the spec


def _walk_field(inner: BaseException, data: Any, node: Node, cls: type) -> Iterator[Fault]:
    if isinstance(inner, ForbiddenExtraKeysError):
        for count, key in enumerate(sorted(inner.extra_fields)):
            path = (*node.path, key)
            if count >= MAX_ALIKE:
                yield Fault(path, _more(path, count), (path,))
                continue
            diagnostic, claims = unknown_key(Table(node, cls, data), key)
            yield Fault(path, diagnostic, (path, *claims), claims=claims)
        return
    field = node.field(cls, _note(inner, AttributeValidationNote).name)
    if isinstance(inner, KeyError):
        yield Fault(field.path, missing_value(field, cls), (field.path,), field.repair)
    else:
        yield from _walk(inner, data[field.path[-1]], field)


def _more(path: SpecPath, count: int) -> Diagnostic | None:
    """Return what is said once about the faults of a table or list that are not told one by one."""
    if count > MAX_ALIKE:
        return None
    message = f"more than {MAX_ALIKE} mistakes here, the others are not shown"
    return Diagnostic("T207", Level.NOTE, message, path)


def _note(refusal: BaseException, kind: Any) -> Any:
    for note in getattr(refusal, "__notes__", ()):
        if isinstance(note, kind):
            return note
    raise refusal  # a fault of this program, not of the spec


def _without_echoes(faults: list[Fault]) -> list[Fault]:
    """Silence "missing" where an unknown key was probably meant to be the missing one."""
    claimed = {path for fault in faults for path in fault.claims}
    return [
        evolve(fault, diagnostic=None)
        if fault.path in claimed
        and fault.diagnostic is not None
        and fault.diagnostic.code == "T202"
        else fault
        for fault in faults
    ]


def repaired(data: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    """Return a copy of the data in which every faulty value has given way."""
    data = _copy(data)
    for fault in faults:
        container: Any = data
        for part in fault.path[:-1]:
            container = container[part]
        if fault.repair is REMOVE:
            del container[fault.path[-1]]
        else:
            container[fault.path[-1]] = fault.repair
    return data


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
