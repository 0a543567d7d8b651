"""Hypothesis strategies for specs, made from the attrs classes: a new section or field is covered by itself."""

from __future__ import annotations

from typing import Any, get_args

import attrs
from hypothesis import strategies as st

from tunec.compiler.field_types import (
    are_tables,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    is_union,
)
from tunec.compiler.render.toml import toml_lines
from tunec.compiler.spec import Spec
from tunec.compiler.structure import unstructure, written_values

MAX_GIVEN = 3
"""Most optional fields of a table that are given: a spec of everything would say little about each."""

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(["", "true", "1", "a.b", 'say "x"', "'", "\\", "# no comment", "\r\n", "früh"])
"""Any text a spec can hold."""

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 16),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
}


def values(type_: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field's type."""
    if is_literal(type_):
        return st.sampled_from(get_args(type_))
    if is_union(type_):
        return st.one_of([values(arm) for arm in get_args(type_)])
    if is_list(type_):
        return st.lists(values(get_args(type_)[0]), max_size=MAX_GIVEN).map(tuple)
    if is_mapping(type_):
        return st.dictionaries(TEXTS, values(get_args(type_)[1]), max_size=MAX_GIVEN)
    if are_tables((type_,)):
        return st.deferred(lambda: tables(type_))
    return _PLAIN[type_]


@st.composite
def tables(draw: st.DrawFn, cls: Any) -> Any:
    """Return instances of a class of the spec: what must be given, and a few of its other fields."""
    fields = fields_of(cls)
    needed = [name for name in fields if is_required(cls, name)]
    others = [name for name in fields if name not in needed]
    given = (
        draw(st.lists(st.sampled_from(others), unique=True, max_size=MAX_GIVEN)) if others else []
    )
    return cls(**{name: draw(_field_values(fields[name])) for name in [*needed, *given]})


def _field_values(field: attrs.Attribute[Any]) -> st.SearchStrategy[Any]:
    found = values(field.type)
    if field.default in (None, attrs.NOTHING):
        return found
    # TOML has no word for None: a spec can only have it where it is the default.
    return found.filter(lambda value: value is not None)


def specs() -> st.SearchStrategy[Spec]:
    """Return specs in which every value fits its field; they need make no sense."""
    found: st.SearchStrategy[Spec] = tables(Spec)
    return found


def documents() -> st.SearchStrategy[str]:
    """Return TOML texts of such specs: with their defaults or without."""
    return st.builds(_text, specs(), st.sampled_from([unstructure, written_values]))


def _text(spec: Spec, data_of: Any) -> str:
    return "\n".join(toml_lines(data_of(spec))) + "\n"
