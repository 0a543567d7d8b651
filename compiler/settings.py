"""Every table and key of a spec with its place, kind, type, default, range and text: what the references list.

All of it follows from the classes of `spec/` and the table of ranges; nothing is repeated here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import attrs
from attrs import frozen

from .docs import field_docs
from .field_types import (
    are_tables,
    arms_of,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    tag_of,
)
from .rules.available import honoured_values, is_honoured
from .rules.bounds import ANY, Range
from .rules.ranges import RANGES
from .rules.walk import kindless
from .spec import Spec
from .toml_text import toml_literal


@frozen
class Step:
    """One name on the way to a table or key, and which kind of the table there is meant."""

    name: str
    kind: str = ""

    def __str__(self) -> str:
        """Return `method[lora]`."""
        return f"{self.name}[{self.kind}]" if self.kind else self.name


Way = tuple[Step, ...]


@frozen
class Setting:
    """A key of a table of one kind."""

    table: Table
    name: str
    type_: Any
    default: Any
    doc: str

    @property
    def path(self) -> str:
        """The name in full, without kinds: `method.rank`."""
        return f"{self.table.path}.{self.name}" if self.table.path else self.name

    @property
    def way(self) -> Way:
        """The steps that lead to the key."""
        return (*self.table.way, Step(self.name))

    @property
    def range(self) -> Range | None:
        """The numbers that are allowed; for a list or mapping those of its elements."""
        for name in self.range_names:
            if name in RANGES:
                return RANGES[name] if RANGES[name] != ANY else None
        return None

    @property
    def range_names(self) -> tuple[str, ...]:
        """The names under which its range may stand, with and without the kinds of the tables around it."""
        key = f"{self.table.range_key}.{self.name}".removeprefix(".")
        return (key, kindless(key), f"{key}.*", f"{kindless(key)}.*")

    @property
    def availability(self) -> str:
        """What rule N901 says of it: nothing, or which values do something so far."""
        if self.tables or not self.table.is_available:
            return ""
        values = honoured_values(self.range_names[0])
        if values is None:
            return ""
        if not values:
            return "Not available yet."
        return f"Available so far: {', '.join(f'`{toml_literal(value)}`' for value in values)}."

    @property
    def is_tag(self) -> bool:
        """Whether the key tells the kind of its table."""
        tag = tag_of(self.table.cls)
        return tag is not None and tag[0] == self.name

    @property
    def tables(self) -> list[Table]:
        """The tables that may stand here, one a kind."""
        return list(_tables_in(self))


@frozen
class Table:
    """A table of one kind; `is_list` for `[[...]]`, `is_mapping` for one with names that the author chooses."""

    way: Way
    cls: type
    range_key: str = ""
    is_list: bool = False
    is_mapping: bool = False

    @property
    def path(self) -> str:
        """The name in full, without kinds."""
        return ".".join(step.name for step in self.way)

    @property
    def header(self) -> str:
        """The header in a spec."""
        path = f"{self.path}.NAME" if self.is_mapping else self.path
        return f"[[{path}]]" if self.is_list else f"[{path}]"

    @property
    def kind(self) -> str:
        """The line that chooses this kind, or nothing where there is no choice."""
        tag = tag_of(self.cls)
        return f"{tag[0]} = {toml_literal(tag[1])}" if tag else ""

    @property
    def is_available(self) -> bool:
        """Whether a table of this kind does something so far."""
        return not self.way or is_honoured(self.range_key)

    @property
    def doc(self) -> str:
        """What the class says it is."""
        return " ".join(inspect.cleandoc(self.cls.__doc__ or "").split("\n\n")[0].split())

    @property
    def settings(self) -> list[Setting]:
        """The keys, in the order of the class."""
        docs = field_docs(self.cls)
        return [
            Setting(self, name, field.type, field.default, " ".join(docs.get(name, "").split()))
            for name, field in fields_of(self.cls).items()
        ]


ROOT = Table((), Spec)


def _tables_in(setting: Setting) -> Iterator[Table]:
    base = f"{setting.table.range_key}.{setting.name}".removeprefix(".")
    for arm in arms_of(setting.type_):
        is_in_list, is_in_mapping = is_list(arm), is_mapping(arm)
        item = get_args(arm)[-1 if is_in_mapping else 0] if is_in_list or is_in_mapping else arm
        classes = [cls for cls in arms_of(item) if are_tables((cls,))]
        for cls in classes:
            tag = tag_of(cls)
            step = Step(setting.name, tag[1] if tag else "")
            key = f"{base}.*" if is_in_list or is_in_mapping else base
            key += f"[{tag[1]}]" if tag else ""
            yield Table((*setting.table.way, step), cls, key, is_in_list, is_in_mapping)


def walk(table: Table = ROOT, above: tuple[type, ...] = ()) -> Iterator[Setting]:
    """Yield every key of a table and of the tables inside it; a class inside itself is not entered again."""
    for setting in table.settings:
        yield setting
        for inner in setting.tables:
            if inner.cls not in above:
                yield from walk(inner, (*above, inner.cls))


@cache
def all_settings() -> tuple[Setting, ...]:
    """Return every key of every section, the sections themselves among them."""
    return tuple(walk())


_WAY = re.compile(r"([^.\[\]]+)(?:\[([^\[\]]*)\])?")


def matching(topic: str) -> list[Setting]:
    """Return the keys that a topic such as `method.rank` or `method[lora].rank` means."""
    steps = [Step(name, kind) for name, kind in _WAY.findall(topic)]
    if ".".join(map(str, steps)) != topic:
        return []
    return [setting for setting in all_settings() if _fits(setting.way, steps)]


def _fits(way: Way, steps: list[Step]) -> bool:
    """Compare step by step; the kind of the last one chooses among the tables of the key."""
    if len(way) != len(steps):
        return False
    last = len(way) - 1
    return all(
        mine.name == asked.name and (index == last or asked.kind in ("", mine.kind))
        for index, (mine, asked) in enumerate(zip(way, steps, strict=True))
    )


def last_kind(topic: str) -> str:
    """Return the kind at the end of a topic: `lora` of `method[lora]`."""
    match = re.search(r"\[([^\[\]]*)\]\Z", topic)
    return match[1] if match else ""


# --- words -----------------------------------------------------------------------------------------------

_TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true | false",
    type(None): "nothing",
}


def type_words(type_: Any) -> str:
    """Return a type in the words of TOML's users."""
    arms = arms_of(type_)
    if len(arms) > 1:
        words = dict.fromkeys(type_words(arm) for arm in arms)
        return " | ".join(word for word in words if word != "whole number" or "number" not in words)
    (arm,) = arms
    if is_literal(arm):
        return " | ".join(toml_literal(choice) for choice in get_args(arm))
    if is_list(arm):
        words_of_item = type_words(get_args(arm)[0])
        plural = words_of_item in ("text", "whole number", "number", "table")
        return f"list of {words_of_item}{'s' if plural else ''}"
    if is_mapping(arm):
        return f"table of NAME = {type_words(get_args(arm)[1])}"
    return _TYPES.get(arm, "table")


def default_words(setting: Setting) -> str:
    """Return `required`, `default VALUE`, or nothing where the text says what holds."""
    default = setting.default
    if is_required(setting.table.cls, setting.name):
        return "required"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    if attrs.has(type(default)):
        cls: type = type(default)
        tag = tag_of(cls)
        return f"default {tag[0]} = {toml_literal(tag[1])}" if tag else ""
    if default is None or default == {}:
        return ""
    return f"default {toml_literal(list(default) if isinstance(default, tuple) else default)}"


def head_words(setting: Setting) -> str:
    """Return type, range and default: `whole number, at least 1, default 8`."""
    allowed = setting.range
    words = (
        type_words(setting.type_),
        allowed.text if allowed is not None else "",
        default_words(setting),
    )
    return ", ".join(word for word in words if word)
