"""Values and keys as TOML text: the only way for a value into a spec."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_HIDDEN = re.compile("[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What a terminal obeys, hides or breaks lines at. Joiners are left, which emoji and several scripts need."""


def toml_literal(value: Any) -> str:
    """Return `value` as a TOML value.

    Raises:
        TypeError: for what TOML has no value for.
    """
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) is str:
        return _HIDDEN.sub(_escaped, json.dumps(value, ensure_ascii=False))
    if type(value) in (list, tuple):
        return "[" + ", ".join(toml_literal(item) for item in value) + "]"
    if type(value) is dict:
        pairs = ", ".join(f"{toml_key(key)} = {toml_literal(item)}" for key, item in value.items())
        return "{ " + pairs + " }"
    raise TypeError(f"no TOML value for {value!r}")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04X}"


def toml_key(key: str) -> str:
    """Return `key` bare where TOML allows it, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_literal(key)
