"""Hostile texts, and every place of a spec that takes a text: found in the attrs classes, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, get_args

from attrs import frozen

from tunec.compiler.diagnostics import SpecPath
from tunec.compiler.field_types import (
    are_tables,
    arms_of,
    fields_of,
    is_list,
    is_literal,
    is_mapping,
    is_required,
    tag_of,
)
from tunec.compiler.spec import Spec

HOSTILE: tuple[str, ...] = (
    "plain", "two words", "it's", 'say "x"', "both ' and \"", '"""', "'''", "\\", "ends with \\", "\\\\", "\\n",
    "\\N{BULLET}", "\\x41", "\\u0041", "\\u0000", "\\0", "$(touch pwned)", "`touch pwned`", "${HOME}", "$HOME",
    "$((1/0))", "; touch pwned #", "&& touch pwned", "|| touch pwned", "| tee pwned", "> pwned", "< /etc/passwd",
    "\n touch pwned\n", "{{ 7 * 7 }}", "{% raw %}", "{% include 'x' %}", "{# x #}", "#}", "{braces} %s %(x)s %n",
    "# comment", "#SBATCH --wrap=x", "%j", "%", "--overwrite", "-rf", "--", "-", "~", "~root", "*", "?", "[a-z]", "!!",
    "!history", "None", "null", "true", "no", "0x10", "012", "12:30:00", "1e-5", "- a", "a: b", "&a", "*a", "!tag",
    "@a", "? a", "| a", "> a", "---", "...", "[section]", "[[section]]", "key = 1", "<|im_start|>", "</script>",
    "<!-- -->", "::error::x", "::error file=a,line=1::x", "##[error]x", "%0A::error::x", "FINGERPRINT", "früh", "名前",
    "👩‍👩‍👧", "e\u0301", "\u00a0", "a\u200bb", "\ufeff", "hf_" + "x" * 34,
)  # fmt: skip
"""Texts that mean something to a shell, a template, Python, YAML, TOML, a scheduler or a log reader."""

INVISIBLE: tuple[str, ...] = (
    "line\nbreak", "\r", "\r\n", "tab\t", "bidi \u202e\u2066", "\x1b[31mred", "\x1b]0;title\x07", "\x08", "del \x7f",
    "c1 \x9b31m", "\u2028", "\u2029", "\x85", "\x0b\x0c", "\u00ad", "\ue000", "\U000e0041", "\ufffe",
)  # fmt: skip
"""Texts that a terminal obeys, hides or breaks lines at."""

FILLER = "x"
KEY = object()
"""A step of a path: the first key of the mapping there, instead of its value."""

Make = Callable[[str], Any]


@frozen
class Place:
    """A place that takes a text: its name in words, the steps to it, and the data of a spec with a text there."""

    name: str
    steps: tuple[Any, ...]
    make: Make

    def read(self, data: Any) -> Any:
        """Return what stands at the place."""
        for step in self.steps:
            data = next(iter(data)) if step is KEY else data[step]
        return data


@cache
def text_places() -> tuple[Place, ...]:
    """Return every place of a spec that takes any text, keys of mappings among them."""
    return tuple(
        Place(name.removeprefix("."), steps, make) for steps, name, make in _in_table(Spec)
    )


Found = Iterator[tuple[tuple[Any, ...], str, Make]]


def _in(type_: Any, above: tuple[type, ...]) -> Found:
    for arm in arms_of(type_):
        if arm is str:
            yield (), "", lambda value: value
        elif is_list(arm):
            for steps, name, make in _in(get_args(arm)[0], above):
                yield (0, *steps), f".*{name}", _wrapped(make, lambda inner: [inner])
        elif is_mapping(arm):
            item = get_args(arm)[1]
            yield (KEY,), "<key>", _as_key(item)
            for steps, name, make in _in(item, above):
                yield ("k", *steps), f"<value>{name}", _wrapped(make, lambda inner: {"k": inner})
        elif are_tables((arm,)) and arm not in above:
            tag = tag_of(arm)
            for steps, name, make in _in_table(arm, above):
                yield steps, f"[{tag[1]}]{name}" if tag else name, make


def _in_table(cls: type, above: tuple[type, ...] = ()) -> Found:
    for field, attribute in fields_of(cls).items():
        for steps, name, make in _in(attribute.type, (*above, cls)):
            yield (field, *steps), f".{field}{name}", _in_field(cls, field, make)


def _as_key(item: Any) -> Make:
    return lambda value: {value: minimal(item)}


def _wrapped(make: Make, wrap: Callable[[Any], Any]) -> Make:
    return lambda value: wrap(make(value))


def _in_field(cls: type, field: str, make: Make) -> Make:
    return lambda value: {**minimal(cls), field: make(value)}


def minimal(type_: Any) -> Any:
    """Return the smallest data that structure as the type; every text in them is the filler."""
    arm = arms_of(type_)[0]
    if is_literal(arm):
        return get_args(arm)[0]
    if is_list(arm):
        return [minimal(get_args(arm)[0])]
    if is_mapping(arm):
        return {}
    if are_tables((arm,)):
        fields = fields_of(arm)
        tag = tag_of(arm)
        found = {name: minimal(fields[name].type) for name in fields if is_required(arm, name)}
        return {**found, **({tag[0]: tag[1]} if tag else {}), **_NEEDED.get(arm.__name__, {})}
    return {int: 1, float: 1.0, str: FILLER, bool: False}[arm]


_NEEDED: dict[str, dict[str, Any]] = {
    "Batch": {"global_size": 4, "micro_size": 2},
    "NamedTemplate": {"name": "chatml"},
}
"""What types do not say: two numbers of a batch, and a name that exists."""


class ConflictError(Exception):
    """Two data that cannot both be in one spec."""


def merged(one: Any, other: Any) -> Any:
    """Return data that say what both say; the filler gives way to any text.

    Raises:
        ConflictError: they say different things about one value.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [merged(a, b) for a, b in zip(one, other, strict=True)]
    if type(one) is type(other) and one == other:
        return one
    if FILLER in (one, other):
        return other if one == FILLER else one
    raise ConflictError


@cache
def groups(is_wanted: Callable[[Place], bool] = lambda _: True) -> tuple[tuple[Place, ...], ...]:
    """Return the places in groups that can be filled at the same time: few specs instead of hundreds."""
    found: list[tuple[Any, list[Place]]] = []
    for place in filter(is_wanted, text_places()):
        mine = place.make("text")
        for index, (data, places) in enumerate(found):
            try:
                found[index] = (merged(data, mine), [*places, place])
                break
            except ConflictError:
                continue
        else:
            found.append((mine, [place]))
    return tuple(tuple(places) for _, places in found)


def filled(places: tuple[Place, ...], value: str) -> dict[str, Any]:
    """Return the data of a spec with the text at all these places."""
    data: Any = None
    for place in places:
        mine = place.make(value)
        data = mine if data is None else merged(data, mine)
    assert isinstance(data, dict)
    return data


def path_of(place: Place, value: str) -> SpecPath:
    """Return the path of a place in a spec that holds the text there."""
    return tuple(value if step is KEY else step for step in place.steps)
