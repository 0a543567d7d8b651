"""Every code a finding can have, in one table: of the parser, of the structure, of `[allow]` and of the rules."""

from __future__ import annotations

import inspect
from functools import cache

from attrs import frozen

from . import allow, document, structure
from .rules import RULES

NAMES: dict[str, str] = {
    "P101": "byte order mark",
    "P102": "not UTF-8",
    "P103": "lone carriage return",
    "P104": "defined twice",
    "P105": "nested too deep",
    "P106": "too many key parts",
    "P107": "file too large",
    "P108": "number beyond 64 bits",
    "P109": "no finite number",
    "P110": "invisible character in the text",
    "P111": "NUL character",
    "P112": "TOML 1.1 syntax",
    "P113": "no such file",
    "P114": "no regular file",
    "P115": "unreadable file",
    "P116": "file changed while read",
    "P120": "no key, header or comment",
    "P121": "text not closed",
    "P122": "list or table not closed",
    "P123": "no TOML value",
    "P124": "unknown escape",
    "P125": "control character",
    "P126": "more on the line",
    "P127": "header not closed",
    "P130": "extends is no list of files",
    "P131": "unusable base",
    "P132": "extends itself",
    "P133": "too many bases",
    "P134": "files too large together",
    "P140": "no key=value",
    "P141": "no such element",
    "P150": "not JSON",
    "T201": "unknown key",
    "T202": "missing value",
    "T203": "wrong type",
    "T204": "not a choice",
    "T205": "unknown kind",
    "T206": "key of another kind",
    "T207": "more findings than shown",
    "T214": "cannot be allowed",
    "T215": "allowed for nothing",
}
"""Short names of the codes that are no rules, which have theirs in their own table."""


@frozen
class Code:
    """A code with its short name and its explanation; a rule's holds a failing and a passing example."""

    code: str
    name: str
    text: str
    is_rule: bool = False


@cache
def all_codes() -> dict[str, Code]:
    """Return the codes in the order of the stages that report them."""
    plain = {**document.CODES, **structure.CODES, **allow.CODES}
    listed = [Code(code, NAMES.get(code, ""), text) for code, text in plain.items()]
    listed += [
        Code(rule.code, rule.name, inspect.cleandoc(rule.explanation), True) for rule in RULES
    ]
    return {item.code: item for item in listed}
