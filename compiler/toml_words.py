"""Values, paths and headers in the words of a finding, as a spec would write them."""

from __future__ import annotations

from typing import Any

from .diagnostics import SpecPath
from .field_types import arms_of, fields_of, is_list, table_classes
from .spec import Spec


def dotted(path: SpecPath) -> str:
    """Return a path as people write it: `data.sources[0].path`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def dotted_names(path: SpecPath) -> str:
    """Return a path as headers have it, without the numbers of elements: `data.sources`."""
    return ".".join(part for part in path if isinstance(part, str))


def header_of(path: SpecPath) -> str:
    """Return the header under which the keys of a table stand."""
    is_item = bool(path) and isinstance(path[-1], int)
    return f"[[{dotted_names(path)}]]" if is_item else f"[{dotted_names(path)}]"


def section_header(path: tuple[str, ...]) -> str:
    """Return the header of a section that may be absent, in two brackets when it is a list."""
    type_: Any = Spec
    for name in path:
        type_ = next(fields_of(c)[name].type for c in table_classes(type_) if name in fields_of(c))
    return (
        f"[[{'.'.join(path)}]]"
        if any(is_list(arm) for arm in arms_of(type_))
        else f"[{'.'.join(path)}]"
    )


def quoted(value: Any) -> str:
    """Return a value in backticks, shortened."""
    text = value if isinstance(value, str) else toml_value(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def toml_value(value: Any) -> str:
    """Return a value in TOML, long text shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped if len(escaped) <= 60 else escaped[:57] + "..."}"'
    return str(value)


def either(words: list[str]) -> str:
    """Return `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
