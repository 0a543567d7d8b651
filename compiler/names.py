"""What an unknown name was probably meant to be: another spelling, another trainer's word, another section's key."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from attrs import frozen
from cattrs import ClassValidationError, IterableValidationError

from .converter import Refusal, spec_converter
from .diagnostics import Fix, Move, Rename, SpecPath
from .field_types import are_tables, arms_of, fields_of, table_classes
from .places import Table
from .spec import Spec
from .toml_words import either, section_header

_UNITS = ("_env", "_s", "_gib", "_mib")
"""Ends of keys that say what their value is; a value of another tool's key may be in another unit."""


@frozen
class Advice:
    """What to do about an unknown key; `claims` are the paths of the values it was probably meant for."""

    text: str = ""
    claims: tuple[SpecPath, ...] = ()
    fix: Fix | None = None


def advise(table: Table, key: str) -> Advice:
    """Propose what was meant: the same name spelled otherwise, a near one, another tool's, another section's."""
    if len(key) > 64:
        return Advice()
    absent = table.absent()
    same = [name for name in absent if name == _normalized(key)]
    near = same or _close(_normalized(key), absent, 0.8)
    if near:
        return _spelling(table, key, near[0], is_sure=len(near) == 1)
    elsewhere = _renamed(table, key) or _other_section(table, key)
    if elsewhere:
        return elsewhere
    far = _close(_normalized(key), absent, 0.6)
    if far:
        return _spelling(table, key, far[0], is_sure=False)
    # A flag is mostly about a key that the file has already.
    given = _close(
        _normalized(key), [name for name in fields_of(table.cls) if name in table.data], 0.6
    )
    return Advice(f"a similar name is `{given[0]}`, which is given") if given else Advice()


def _spelling(table: Table, key: str, name: str, *, is_sure: bool) -> Advice:
    shown = (
        name if table.path or not are_tables(arms_of(fields_of(Spec)[name].type)) else f"[{name}]"
    )
    fix = Rename((*table.path, key), name) if is_sure else None
    return Advice(f"a similar name is `{shown}`", ((*table.path, name),), fix)


def _renamed(table: Table, key: str) -> Advice | None:
    from .importers.homes.advice import renamed  # only faulty specs pay for it

    setting = renamed().get(key) or renamed().get(_normalized(key))
    if setting is None:
        return None
    target, _, value = setting.partition(" = ")
    path: SpecPath = tuple(target.split("."))
    shown = f"{target} = {value}" if value else target
    if value:
        return Advice(f"here this is `{shown}`", (path,))
    *section, name = target.split(".")
    fix = _renaming(table, key, path)
    if tuple(section) == table.path:
        return Advice(f"here this is called `{name}`", (path,), fix)
    return Advice(f"here this is `{name}` in `{section_header(tuple(section))}`", (path,), fix)


def _renaming(table: Table, key: str, new: SpecPath) -> Fix | None:
    """Return the fix for another tool's key, unless its value could mean something else."""
    from .importers.homes.advice import other_meaning

    if _normalized(key) in other_meaning() or str(new[-1]).endswith(_UNITS):
        return None
    if table.path != new[:-1]:
        return Move((*table.path, key), new)
    field = fields_of(table.cls).get(str(new[-1]))  # absent where another kind has it
    is_kept = field is not None and _keeps_meaning(table.data[key], field.type)
    return Rename((*table.path, key), str(new[-1])) if is_kept else None


def _keeps_meaning(value: Any, type_: Any) -> bool:
    """Tell whether a value is right for the type, or a number or boolean in quotes where one is due."""
    if isinstance(value, str) and set(arms_of(type_)) <= {int, float, bool}:
        return bool(_PLAIN_VALUE.fullmatch(value.strip().lower()))
    try:
        spec_converter().structure(value, type_)
    except (Refusal, ClassValidationError, IterableValidationError):
        return False
    return True


_PLAIN_VALUE = re.compile(r"[+-]?[0-9._]+(e[+-]?[0-9]+)?|true|false")


def _other_section(table: Table, key: str) -> Advice | None:
    name = _normalized(key)
    homes = [path for path in _homes().get(name, ()) if path != table.path]
    if not 0 < len(homes) <= 3:
        return None
    text = f"`{name}` belongs in {either([f'`{section_header(path)}`' for path in homes])}"
    if len(homes) > 1:
        return Advice(text)
    home: SpecPath = (*homes[0], name)
    return Advice(text, (home,), Move((*table.path, key), home))


@cache
def _homes() -> dict[str, list[tuple[str, ...]]]:
    """Return the sections in which each key exists; a table inside a section has a path of two names."""
    homes: dict[str, list[tuple[str, ...]]] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), Spec)]
    while waiting:
        path, cls = waiting.pop(0)
        for name, field in fields_of(cls).items():
            if path and path not in homes.setdefault(name, []):
                homes[name].append(path)
            waiting += [((*path, name), inner) for inner in table_classes(field.type)]
    return homes


def _normalized(key: str) -> str:
    """Return a name in our spelling: `learningRate` and `Learning-Rate` become `learning_rate`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+", "_", key).lower()


def nearest(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the choice that is spelled most like the value; None when none is."""
    names = _texts(value, choices)
    near = _same_word(value, names) or (_close(value.lower(), names, 0.6) if names else [])
    return next(iter(near), None)


def same_word(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the one choice that differs from the value in case, `_` and `-` only; None when there is none."""
    same = _same_word(value, _texts(value, choices))
    return same[0] if len(same) == 1 else None


def _texts(value: Any, choices: tuple[Any, ...]) -> list[str]:
    if not isinstance(value, str) or len(value) > 64:
        return []
    return [choice for choice in choices if isinstance(choice, str)]


def _same_word(value: Any, names: list[str]) -> list[str]:
    return [name for name in names if _plain_word(name) == _plain_word(value)]


def _plain_word(text: str) -> str:
    return text.strip().lower().replace("_", "-").replace(" ", "-")


def _close(word: str, names: list[str], cutoff: float) -> list[str]:
    """Return the near names, the nearest first."""
    import difflib  # only faulty specs pay for it

    near = difflib.get_close_matches(word, names, n=4, cutoff=cutoff)
    # Of names that are equally near people mean the one that begins alike: `adamx` is `adamw`, not `badam`.
    return sorted(near, key=lambda name: -_likeness(word, name))[:2]


def _likeness(word: str, name: str) -> float:
    import difflib

    common = next(
        (i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), len(word)
    )
    return difflib.SequenceMatcher(None, name, word).ratio() + common / 100
