"""A draft to TOML: sections and keys in the order of the spec, each value with its comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..diagnostics import SpecPath
from ..field_types import fields_of, table_classes, tag_of
from ..spec import Spec
from ..toml_text import toml_key, toml_literal
from .draft import Draft

WIDTH = 110


def to_toml(draft: Draft, header: tuple[str, ...] = ()) -> str:
    """Return the TOML text of a draft; the same draft gives the same text."""
    lines = [_comment(line) for line in header]
    for name in fields_of(Spec):
        lines += _tables(draft, Spec, (name,))
    return "\n".join(lines).strip("\n") + "\n"


def catalog_to_toml(draft: Draft, names: list[str], header: tuple[str, ...]) -> str:
    """Return the TOML text of a catalog: the sources of a draft as tables with these names."""
    lines = [_comment(line) for line in header]
    for name, path in zip(names, draft.items(("data", "sources")), strict=True):
        cls = _class_at(draft, table_classes(fields_of(_data_class())["sources"].type), path)
        lines += ["", f"[{toml_key(name)}]", *_notes(draft, path), *_values(draft, cls, path)]
    return "\n".join(lines).strip("\n") + "\n"


def _data_class() -> type:
    return table_classes(fields_of(Spec)["data"].type)[0]


def one_line(text: str, width: int = WIDTH) -> str:
    """Return text as one line of printable characters, not too long: fit for a comment or a message."""
    line = "".join(c if c.isprintable() else "_" for c in re.sub(r"\s+", " ", text)).strip()
    return line if len(line) <= width else line[: width - 3] + "..."


def _comment(text: str) -> str:
    return f"# {one_line(text)}".rstrip()


def _notes(draft: Draft, path: SpecPath) -> list[str]:
    return [_comment(note) for note in draft.notes.get(path, ())]


def _tables(draft: Draft, owner: type, path: SpecPath) -> Iterator[str]:
    """Yield the lines of the table at a path, or of the tables in the list there, with all inside."""
    classes = table_classes(fields_of(owner)[str(path[-1])].type)
    if not classes or path in draft.entries or not draft.below(path):
        return
    items = list(draft.items(path))
    for item in items or [path]:
        names = ".".join(toml_key(str(part)) for part in item if isinstance(part, str))
        cls = _class_at(draft, classes, item)
        lines = [*_notes(draft, item), *_values(draft, cls, item)]
        if lines or items or not _has_tables(draft, cls, item):
            yield from ["", f"[[{names}]]" if items else f"[{names}]", *lines]
        for name in fields_of(cls):
            yield from _tables(draft, cls, (*item, name))


def _has_tables(draft: Draft, cls: type, path: SpecPath) -> bool:
    return any(
        table_classes(field.type) and draft.below((*path, name))
        for name, field in fields_of(cls).items()
    )


def _class_at(draft: Draft, classes: list[type], path: SpecPath) -> type:
    """Return the class of the kind that the table's tag says, else the one without need of a tag."""
    for cls in classes:
        tag = tag_of(cls)
        if tag is None or draft.value(*path, tag[0]) == tag[1]:
            return cls
    return next(cls for cls in classes if _is_default(cls))


def _is_default(cls: type) -> bool:
    tag = tag_of(cls)
    return tag is not None and fields_of(cls)[tag[0]].default == tag[1]


def _values(draft: Draft, cls: type, path: SpecPath) -> Iterator[str]:
    for name in fields_of(cls):
        entry = draft.entries.get((*path, name))
        if entry is not None:
            comment = f"  {_comment(entry.comment)}" if entry.comment else ""
            yield f"{toml_key(name)} = {toml_literal(entry.value)}{comment}"
