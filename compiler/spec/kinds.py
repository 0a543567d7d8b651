"""What every section is made of, and types that several share."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, dataclass_transform

import attrs

T = TypeVar("T")

Scalar = str | int | float | bool
"""A plain value for an option that tunec hands on without knowing it."""

Hub = Literal["huggingface", "modelscope", "modelers"]
"""Where models and data sets are fetched from."""

NumberFormat = Literal["fp32", "bf16", "fp16"]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
def section(cls: type[T]) -> type[T]:
    """Make a frozen attrs class with keyword arguments, the key that tells kinds apart first.

    The sections number more than a hundred, and start-up pays for each: comparison and print are shared functions,
    because attrs would compile its own for each class (0.3 ms).
    """
    made = attrs.frozen(kw_only=True, eq=False, repr=False, field_transformer=_tag_first)(cls)
    for method in (__eq__, __hash__, __repr__):
        setattr(made, method.__name__, method)
    return made


def _tag_first(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    return sorted(fields, key=lambda field: field.name not in ("type", "format"))


def _values(table: Any) -> tuple[Any, ...]:
    return tuple(getattr(table, field.name) for field in attrs.fields(type(table)))


def __eq__(self: Any, other: object) -> Any:  # noqa: N807 - becomes a method
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def __hash__(self: Any) -> int:  # noqa: N807 - becomes a method
    # Mappings have no hash; equal sections still hash equally without them.
    hashable = (value for value in _values(self) if not isinstance(value, dict))
    return hash((type(self), *hashable))


def __repr__(self: Any) -> str:  # noqa: N807 - becomes a method
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(type(self)))
    return f"{type(self).__name__}({', '.join(shown)})"
