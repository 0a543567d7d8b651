"""What becomes of one value of another trainer: small pure functions from what was written to what a spec holds.

A converter takes the value as its file gave it (text on command lines) and the type of the field it goes to. It
returns the value, `SKIP` where the spec says the same by saying nothing, or raises `UnfitError` with the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, get_args

from ..field_types import are_tables, arms_of, is_list, is_literal, is_mapping

Convert = Callable[[Any, Any], Any]


class _Nothing(Enum):
    SKIP = "skip"


SKIP: Final = _Nothing.SKIP
"""Nothing is to be written."""

TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
FALSE = frozenset({"false", "no", "off", "0", "n", "f"})
SECRET = re.compile("token|key|secret|passw|webhook|credential", re.IGNORECASE)
CREDENTIALS = re.compile(r"//[^/@\s]*:[^/@\s]*@")
NONE = frozenset({"none", "null", "~", ""})


class UnfitError(Exception):
    """A value that has no place; the text says why."""


def same(raw: Any, type_: Any) -> Any:
    """the value as it is"""
    if is_nothing(raw):
        return SKIP
    reasons = []
    for arm in sorted(arms_of(type_), key=_strictness):
        try:
            return _arm(raw, arm)
        except UnfitError as unfit:
            reasons.append(str(unfit))
    raise UnfitError(reasons[-1])


def is_nothing(raw: Any) -> bool:
    """Return whether a value says that there is none."""
    return raw is None or (isinstance(raw, str) and raw.strip().lower() in NONE)


def _strictness(arm: Any) -> int:
    kinds = (is_literal(arm), arm is bool, arm is int, arm is float, is_list(arm))
    return kinds.index(True) if True in kinds else 9


def _arm(raw: Any, arm: Any) -> Any:
    if is_literal(arm):
        return _choice(raw, get_args(arm))
    if is_list(arm):
        return [same(item, get_args(arm)[0]) for item in as_list(raw) if not is_nothing(item)]
    if is_mapping(arm):
        return _mapping(raw, get_args(arm)[1])
    if are_tables((arm,)):
        raise UnfitError("a table belongs here")
    return {bool: as_bool, int: as_int, float: as_float, str: as_text}[arm](raw)


def _choice(raw: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if isinstance(choice, str):
            fits = isinstance(raw, str) and _word(raw) == _word(choice)
        else:
            fits = _is_number(raw, choice)
        if fits:
            return choice
    listed = ", ".join(str(choice) for choice in choices)
    raise UnfitError(f"it is none of {listed}")


def _is_number(raw: Any, choice: Any) -> bool:
    try:
        return bool(as_int(raw) == choice)
    except UnfitError:
        return False


def _word(text: str) -> str:
    return text.strip().lower().replace("_", "-")


def as_bool(raw: Any) -> bool:
    """Return a yes or no, also from words."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower() if isinstance(raw, str | int) else ""
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise UnfitError("it is neither true nor false")


def as_int(raw: Any) -> int:
    """Return a whole number, also from text such as `1e3`."""
    number = as_float(raw)
    if not number.is_integer():
        raise UnfitError("it is no whole number")
    return int(raw) if isinstance(raw, int) else int(number)


def as_float(raw: Any) -> float:
    """Return a finite number, also from text."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise UnfitError("it is no number")
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        raise UnfitError("it is no number") from None
    if not math.isfinite(number) or abs(number) > 2**62:
        raise UnfitError("it is no number that fits")
    return number


def as_text(raw: Any) -> str:
    """Return text; numbers and dates become what they look like."""
    if isinstance(raw, list | dict | tuple | set | bytes):
        raise UnfitError("it is no text")
    if isinstance(raw, bool):
        return str(raw).lower()
    if CREDENTIALS.search(str(raw)):
        raise UnfitError("the address holds a password, which must not stand in a spec")
    return clean(str(raw))


def clean(text: str) -> str:
    """Return text that can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def as_list(raw: Any) -> list[Any]:
    """Return the items of a list, or of text with commas."""
    if isinstance(raw, str):
        inner = raw.strip()
        if inner.startswith("[") and inner.endswith("]"):
            return _json_list(inner)
        return [part for part in (part.strip() for part in inner.split(",")) if part]
    if isinstance(raw, list | tuple):
        return list(raw)
    if isinstance(raw, dict | set):
        raise UnfitError("it is no list")
    return [raw]


def _json_list(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = [part.strip().strip("'\"") for part in text[1:-1].split(",") if part.strip()]
    return found if isinstance(found, list) else [found]


def as_dict(raw: Any) -> dict[str, Any]:
    """Return a mapping, also from JSON."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raise UnfitError("it is no JSON object") from None
    if not isinstance(raw, dict):
        raise UnfitError("it is no mapping")
    return {clean(str(key)): value for key, value in raw.items()}


def _mapping(raw: Any, type_: Any) -> dict[str, Any]:
    items = {key: same(value, type_) for key, value in as_dict(raw).items()}
    return {key: value for key, value in items.items() if value is not SKIP}


def negated(raw: Any, _: Any) -> Any:
    """the opposite"""
    return SKIP if is_nothing(raw) else not as_bool(raw)


def positive(raw: Any, type_: Any) -> Any:
    """the value, where it is above 0"""
    value = same(raw, type_)
    return value if value is SKIP or value > 0 else SKIP


def modules(raw: Any, _: Any) -> Any:
    """a list of names; `all` stays one word"""
    if is_nothing(raw):
        return SKIP
    names = [as_text(name) for name in as_list(raw)]
    if names in (["all"], ["all-linear"]):
        return "all-linear"
    return names or SKIP


def blocks_modules(raw: Any, type_: Any) -> Any:
    """a list of names; `all` stays one word"""
    found = modules(raw, type_)
    return "all" if found == "all-linear" else found


def options(raw: Any, type_: Any) -> Any:
    """a table, from JSON or YAML"""
    if is_nothing(raw):
        return SKIP
    text = raw.strip() if isinstance(raw, str) else ""
    if text and not text.startswith("{"):
        raise UnfitError("a file cannot be handed on; write its settings here")
    return same(_scalars(as_dict(raw)), type_) or SKIP


def _scalars(found: dict[str, Any]) -> dict[str, Any]:
    secret = next((key for key, _ in _flat(found) if SECRET.search(key)), None)
    if secret is not None:
        raise UnfitError(f"`{secret[:60]}` may be a secret: set it in the environment")
    return {key: item for key, item in _flat(found) if isinstance(item, str | int | float | bool)}


def _flat(found: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, item in found.items():
        name = f"{prefix}{key}"
        pairs += _flat(item, f"{name}.") if isinstance(item, dict) else [(name, item)]
    return pairs


def assignments(raw: Any, type_: Any) -> Any:
    """a table, from `a=1,b=2`"""
    if is_nothing(raw):
        return SKIP
    if isinstance(raw, str) and not raw.strip().startswith("{"):
        pairs = (part.partition("=") for part in raw.split(","))
        raw = {key.strip(): typed(value.strip()) for key, _, value in pairs if key.strip()}
    return options(raw, type_)


def typed(text: str) -> Any:
    """Return what YAML would make of one word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    try:
        return as_float(text)
    except UnfitError:
        return text


def words(**choices: Any) -> Convert:
    """Make a converter that translates words; text that it does not know is refused."""

    def translated(raw: Any, _: Any) -> Any:
        word = str(raw).strip().lower() if not isinstance(raw, list | dict) else ""
        if word not in choices:
            listed = ", ".join(choices)
            raise UnfitError(f"it is none of {listed}")
        return choices[word]

    pairs = (f"`{old}` → {_shown(new)}" for old, new in choices.items())
    translated.__doc__ = "; ".join(pairs)
    return translated


def _shown(value: Any) -> str:
    return "nothing" if value is SKIP else f"`{json.dumps(value)}`"


def variable(name: str) -> Convert:
    """Make a converter that forgets a secret, and names the environment variable that shall hold it."""

    def named(raw: Any, _: Any) -> Any:
        return SKIP if is_nothing(raw) else name

    named.__doc__ = f"never the secret: the name of the variable that holds it, `{name}`"
    return named


def share_or_count(raw: Any, _: Any) -> Any:
    """a fraction below 1, or a count"""
    number = as_float(raw)
    return int(number) if number >= 1 or number == 0 else number


def is_secret(convert: Convert) -> bool:
    """Return whether a converter hides its value."""
    return convert.__name__ == "named"
