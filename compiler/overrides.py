"""`--set key=value`: a flag as a document of its own, so that findings about it point at it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomli
from attrs import evolve, frozen

from .composition import Kind, Node, plant
from .diagnostics import Diagnostic, SpecPath, error
from .document import EXTENDS, Document, DocumentError, parse_document
from .field_types import arms_of, choices_of
from .merge import type_below
from .scanner import KEY, MAX_KEY_PARTS, Span
from .spec import Spec

FLAG = "--set "
MAX_NAME = 60
_PREFIX = "v = "
"""What makes TOML of a value alone."""

_STEP = re.compile(
    rf"[ \t]*(?:(?P<key>{KEY.pattern})|(?P<index>\[[ \t]*[0-9]{{1,9}}[ \t]*\]))[ \t]*"
)
_INDEX = re.compile(r"[0-9]{1,9}")


@frozen
class _Step:
    """One part of a flag's key: its name or index, and where it stands."""

    key: str | int
    span: Span


def parse_setting(setting: str) -> Node:
    """Return a flag as a layer over the spec.

    Raises:
        DocumentError: the flag is no `key=value`, or its value is neither TOML nor text for a field of text.
    """
    text = FLAG + setting
    readable = text.encode(errors="replace").decode()
    if readable != text:
        found = error("P102", "the flag holds bytes that are not UTF-8", offsets=(0, len(text)))
        raise _refusal(readable, found)
    steps, start = _scan_key(text)
    start += len(text[start:]) - len(text[start:].lstrip())
    path = tuple(step.key for step in steps)
    value, values, warnings = _read_value(text, start, path)
    document = Document(
        name=name_of(text),
        path=None,
        text=text,
        data={},
        keys=_key_spans(steps),
        values={(*path, *inside): span for inside, span in values.items()},
        warnings=warnings,
        is_flag=True,
    )
    return _layer(steps, plant(value, document), document)


def name_of(text: str) -> str:
    """Return a flag as the name of a source: on one line, and not too long."""
    line = text.split("\n", 1)[0]
    return text if line == text and len(text) <= MAX_NAME else f"{line[:MAX_NAME]}..."


def _refusal(text: str, *found: Diagnostic) -> DocumentError:
    name = name_of(text)
    return DocumentError(name, text, [evolve(item, source=name) for item in found], is_flag=True)


# --- the key ---------------------------------------------------------------------------------------------


def _scan_key(text: str) -> tuple[list[_Step], int]:
    """Return the parts of the key, and where the value starts."""
    steps: list[_Step] = []
    pos = len(FLAG)
    while not (steps and text.startswith("=", pos)):
        has_dot = bool(steps) and text.startswith(".", pos)
        match = _STEP.match(text, pos + has_dot)
        # A name follows a dot (but for the first), an index in brackets follows at once.
        if match is None or (match["key"] is None) == (has_dot or not steps):
            raise _refusal(text, _bad_key(text, pos))
        steps.append(_step(text, match))
        pos = match.end()
    fault = _forbidden(steps)
    if fault is not None:
        raise _refusal(text, fault)
    return steps, pos + 1


def _step(text: str, match: re.Match[str]) -> _Step:
    if match["index"] is not None:
        return _Step(int(match["index"].strip("[] \t")), Span(*match.span("index")))
    raw, span = match["key"], Span(*match.span("key"))
    if raw[0] not in "\"'":
        return _Step(int(raw) if _INDEX.fullmatch(raw) else raw, span)
    try:
        return _Step(next(iter(tomli.loads(f"{raw} = 0"))), span)
    except tomli.TOMLDecodeError:
        raise _refusal(text, _bad_key(text, span.start)) from None


def _bad_key(text: str, pos: int) -> Diagnostic:
    return error(
        "P140",
        "the flag is no `key=value`",
        label="expected a key" if pos == len(FLAG) else "expected `=`",
        helps=("write it like `--set method.rank=16` or `--set data.sources[0].limit=100`",),
        offsets=(pos, pos + 1),
    )


def _forbidden(steps: list[_Step]) -> Diagnostic | None:
    offsets = (steps[0].span.start, steps[-1].span.end)
    if len(steps) > MAX_KEY_PARTS:
        return error("P106", f"the key has more than {MAX_KEY_PARTS} parts", offsets=offsets)
    if steps[0].key == EXTENDS:
        message = f"`{EXTENDS}` cannot be set by a flag"
        helps = ("name the base in the file",)
        return error("P140", message, helps=helps, offsets=offsets)
    return None


def _key_spans(steps: list[_Step]) -> dict[SpecPath, Span]:
    """Return the places of the key's parts; a number may turn out to be a name."""
    path = tuple(step.key for step in steps)
    paths = (path, tuple(map(str, path)))
    return {keys[: end + 1]: step.span for keys in paths for end, step in enumerate(steps)}


def _layer(steps: list[_Step], node: Node, document: Document) -> Node:
    for step in reversed(steps):
        kind: Kind = "items" if isinstance(step.key, int) else "table"
        node = Node(kind, document, children={step.key: node})
    return node


# --- the value -------------------------------------------------------------------------------------------

_Read = tuple[Any, Mapping[SpecPath, Span], tuple[Diagnostic, ...]]


def _read_value(text: str, start: int, path: SpecPath) -> _Read:
    """Return a value, its places and the warnings about it; a word is text where the field is text."""
    raw = text[start:].rstrip()
    shift = start - len(_PREFIX)
    try:
        document = parse_document(_PREFIX + raw, "")
        end = document.values["v",].end
        if end < len(document.text):
            message = "expected the end of the value"
            raise DocumentError("", "", [error("P126", message, offsets=(end, end + 1))])
    except DocumentError as fault:
        if raw[:1] not in ("'", '"', "[", "{") and _takes_text(path):
            return raw, {(): Span(start, start + len(raw))}, ()
        raise _refusal(
            text, *(_shifted(item, shift, start) for item in fault.diagnostics)
        ) from None
    values = {
        where[1:]: Span(span.start + shift, span.end + shift)
        for where, span in document.values.items()
    }
    warnings = (_shifted(item, shift, start) for item in document.warnings)
    return document.data["v"], values, tuple(evolve(w, source=name_of(text)) for w in warnings)


def _takes_text(path: SpecPath) -> bool:
    """Tell whether the field is text, or unknown: then not its value is what is wrong with it."""
    type_: Any = Spec
    for key in path:
        type_ = type_below(type_, key)
    arms = arms_of(type_)
    return (
        type_ is None or str in arms or any(isinstance(choice, str) for choice in choices_of(type_))
    )


def _shifted(found: Diagnostic, shift: int, start: int) -> Diagnostic:
    labels = tuple(
        evolve(label, offsets=_moved(label.offsets, shift, start)) for label in found.labels
    )
    return evolve(found, labels=labels, offsets=_moved(found.offsets, shift, start))


def _moved(offsets: tuple[int, int] | None, shift: int, start: int) -> tuple[int, int] | None:
    if offsets is None:
        return None
    return max(offsets[0] + shift, start), max(offsets[1] + shift, start)
