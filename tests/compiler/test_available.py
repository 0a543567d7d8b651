"""Rule N901: what the runtime does not do is refused by name, and what it does is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import attrs
import pytest

from tunec.compiler.field_types import (
    are_tables,
    arms_of,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    placeholder,
    tag_of,
)
from tunec.compiler.rules.available import HONOURED, PLAIN_SECTIONS, check_available
from tunec.compiler.spec import Spec
from tunec.compiler.structure import structure

Build = Callable[[Any], dict[str, Any]]

REQUIRED: dict[str, Any] = {
    "run": {"output_dir": "run"},
    "model": {"path": "model"},
    "data": {"sources": [{"format": "messages", "path": "chat.jsonl"}]},
    "method": {"type": "lora"},
    "batch": {"micro_size": 1, "accumulation_steps": 1},
}


def settings(
    cls: type = Spec, name: str = "", build: Build = dict
) -> Iterator[tuple[str, Any, Build]]:
    """Yield every setting of every kind: its name, its type, and what builds a spec around a value of it."""
    tag = tag_of(cls)
    here = f"{name}[{tag[1]}]" if tag else name
    for key, field in fields_of(cls).items():
        if tag and key == tag[0]:
            continue
        inner = f"{here}.{key}" if here else key
        yield inner, field.type, (lambda value, key=key: build(_table(cls, key, value)))
        for arm in _tables(field.type):
            if is_list(arms_of(field.type)[0]):
                yield from settings(
                    arm, f"{inner}.*", lambda t, key=key: build(_table(cls, key, [t]))
                )
            else:
                yield from settings(arm, inner, lambda t, key=key: build(_table(cls, key, t)))


def kinds(cls: type = Spec, name: str = "") -> Iterator[str]:
    """Yield every kind of every section and setting that comes in several, also those without settings."""
    for key, field in fields_of(cls).items():
        inner = f"{name}.{key}" if name else key
        inner += ".*" if is_list(arms_of(field.type)[0]) else ""
        for arm in _tables(field.type):
            tag = tag_of(arm)
            here = f"{inner}[{tag[1]}]" if tag else inner
            yield here
            yield from kinds(arm, here)


def _table(cls: type, key: str, value: Any) -> dict[str, Any]:
    """A table of the class with one value, and whatever it must have besides."""
    table = dict(REQUIRED) if cls is Spec else placeholder(cls)
    if cls is Spec and isinstance(value, dict) and isinstance(table.get(key), dict):
        kinds = {"type", "format"} & value.keys()
        value = value if kinds else {**table[key], **value}
    return {**table, key: value}


def _tables(type_: Any) -> list[type]:
    arms = [
        inner
        for arm in arms_of(type_)
        for inner in (arms_of(get_args(arm)[0]) if is_list(arm) else (arm,))
    ]
    return [arm for arm in arms if are_tables((arm,))]


def other_values(type_: Any, default: Any) -> list[Any]:
    """Values of the type that are not the default, as plain data."""
    found: list[Any] = []
    for arm in arms_of(type_):
        if is_literal(arm):
            found += [choice for choice in get_args(arm) if choice != default]
        elif is_list(arm):
            item = get_args(arm)[0]
            if not are_tables(arms_of(item)):
                found.append([placeholder(item)])
        elif is_mapping(arm):
            found.append({"key": placeholder(get_args(arm)[1])})
        elif arm is bool:
            found.append(not default)
        elif arm in (int, float):
            found.append(arm((default or 0) + 1))
        elif arm is str:
            found.append("other")
    return found


ALL = list(settings())


def refused(data: dict[str, Any]) -> list[str]:
    """The messages of rule N901 about plain data, which must fit the classes."""
    structured = structure(data)
    assert structured.diagnostics == ()
    return [finding.message for finding in check_available(structured.spec)]


def test_the_table_names_what_exists() -> None:
    """Each honoured name is a setting, a kind of a section, or a section: a renamed setting leaves no ghost."""
    names = {name for name, _, _ in ALL}
    assert set(HONOURED) - names - set(kinds()) == set()
    assert set(PLAIN_SECTIONS) <= names


def test_the_base_is_available() -> None:
    """The smallest spec compiles."""
    assert refused(REQUIRED) == []


LEAVES = [item for item in ALL if not _tables(item[1])]


@pytest.mark.parametrize(("name", "type_", "build"), LEAVES, ids=[name for name, _, _ in LEAVES])
def test_every_setting_is_honoured_or_refused(name: str, type_: Any, build: Build) -> None:
    """Any value but the default is refused, unless the table says that the runtime honours it."""
    section = name.rpartition(".")[0]
    allowed = HONOURED.get(name.replace("eval_sources", "sources"), ())
    for value in other_values(type_, default_at(name)):
        messages = refused(build(value))
        is_free = allowed is None or value in allowed
        reachable = all(_is_reachable(part) for part in _prefixes(section))
        assert (messages == []) is (is_free and reachable), (value, messages)


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts)) if name]


def _is_reachable(name: str) -> bool:
    return name in PLAIN_SECTIONS or name.replace("eval_sources", "sources") in HONOURED


def default_at(name: str) -> Any:
    """The default of a setting; None where it has none."""
    cls, key = OWNERS[name]
    field = fields_of(cls)[key]
    return (
        None if is_required(cls, key) or isinstance(field.default, attrs.Factory) else field.default
    )  # type: ignore[arg-type]


def owners(cls: type = Spec, name: str = "") -> Iterator[tuple[str, tuple[type, str]]]:
    """Yield the class and key of every setting by name."""
    tag = tag_of(cls)
    here = f"{name}[{tag[1]}]" if tag else name
    for key, field in fields_of(cls).items():
        inner = f"{here}.{key}" if here else key
        yield inner, (cls, key)
        for arm in _tables(field.type):
            yield from owners(arm, f"{inner}.*" if is_list(arms_of(field.type)[0]) else inner)


OWNERS = dict(owners())


def test_the_message_says_what_is_missing() -> None:
    """A kind, a value and a setting are each named the way they are written."""
    spec = {
        **REQUIRED,
        "launch": {"type": "slurm"},
        "deepspeed": {"offload_optimizer": "nvme"},
        "logging": {"level": "debug"},
        "profiler": {},
    }
    assert refused(spec) == [
        '`deepspeed.offload_optimizer = "nvme"` is not available yet',
        '`launch` with `type = "slurm"` is not available yet',
        "`logging.level` is not available yet",
        "`profiler` is not available yet",
    ]


def test_a_refused_kind_is_said_once() -> None:
    """The settings of a kind that is not there are not listed one by one."""
    spec = {**REQUIRED, "launch": {"type": "slurm", "partition": "gpu", "qos": "low"}}
    assert refused(spec) == ['`launch` with `type = "slurm"` is not available yet']
