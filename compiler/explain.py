"""`tunec explain`: what a code means, what a setting does."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache

import tomli

from .codes import all_codes
from .document import EXTENDS
from .rules import RULES
from .settings import ROOT, Setting, Table, all_settings, head_words, last_kind, matching

FEW = 3
"""Up to this many kinds of a table are shown in full, more of them by their names."""


def explain(topic: str) -> str | None:
    """Return the text on a code, a section or a `section.key`; None for a topic nobody knows."""
    if not topic:
        return _overview()
    if topic == EXTENDS:
        return f"{EXTENDS}: list of texts, at the top of the file\n\n{all_codes()['P130'].text}\n"
    code = all_codes().get(topic.upper())
    if code is None:
        return _explain_setting(topic)
    head = f"{code.code}: {code.name}" if code.name else code.code
    return f"{head}\n\n{code.text}\n"


def similar(topic: str) -> list[str]:
    """Return names like `topic`: settings of that name in any section, then names spelt like it."""
    paths = list(dict.fromkeys(setting.path for setting in all_settings()))
    plain = re.sub(r"\[[^\]]*\]", "", topic.lower())
    same = [path for path in paths if path.rsplit(".", 1)[-1] == plain]
    near = difflib.get_close_matches(plain, paths, n=3)
    return same[:3] or near or difflib.get_close_matches(topic.upper(), list(all_codes()), n=3)


def _overview() -> str:
    sections = ROOT.settings
    width = max(len(item.name) for item in sections) + 6
    lines = ["sections of a spec:"]
    lines += [f"  [{item.name}]".ljust(width) + item.doc for item in sections]
    lines += [
        "",
        "more: tunec explain SECTION, SECTION.KEY, SECTION[KIND], or the code of a finding",
        f"a spec of several files: tunec explain {EXTENDS}",
    ]
    return "\n".join(lines) + "\n"


def _explain_setting(topic: str) -> str | None:
    kind = last_kind(topic)
    found = matching(topic)
    tables = [table for item in found for table in item.tables]
    if kind:
        tables = [table for table in tables if table.way[-1].kind == kind]
        found = [item for item in found if tables]
    if not found:
        return None
    blocks = [] if kind else list(_settings_text(found))
    return "\n\n".join([*blocks, *_tables_text(_distinct(tables), topic)]) + "\n"


def _settings_text(found: list[Setting]) -> Iterator[str]:
    """Describe a key; kinds that say the same about it are named together."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for item in found:
        groups.setdefault((head_words(item), item.doc), []).append(item)
    for (head, doc), items in groups.items():
        yield f"{items[0].path}: {head}\n  {_kinds(items)}{doc}"
    concerned = _rules_about(found[0].path)
    if concerned:
        yield f"checked by {', '.join(concerned)}"


def _kinds(items: list[Setting]) -> str:
    """Return `[method] type = "lora" | "adalora": ` for keys that only some kinds have."""
    tables = _distinct([item.table for item in items])
    if not tables[0].kind:
        return ""
    first, *others = list(dict.fromkeys(table.kind for table in tables))
    values = [other.partition(" = ")[2] for other in others]
    return f"{tables[0].header} {' | '.join([first, *values])}: "


def _distinct(tables: list[Table]) -> list[Table]:
    """Leave out tables that are the same but for the kinds of the tables around them."""
    return list({(table.header, table.kind, table.cls): table for table in tables}.values())


def _tables_text(tables: list[Table], topic: str) -> Iterator[str]:
    if len(tables) > FEW:
        lines = [f"kinds of {tables[0].header}:"]
        lines += [f"  {table.kind}: {table.doc}" for table in tables]
        example = f"{topic}[{tables[0].way[-1].kind}]"
        yield "\n".join([*lines, f"more: tunec explain '{example}'"])
        return
    for table in tables:
        head = f"{table.header} {table.kind}: {table.doc}".replace(" :", ":")
        yield "\n".join([head, *(line for item in table.settings for line in _entry(item))])


def _entry(setting: Setting) -> list[str]:
    if setting.is_tag and setting.table.kind:
        return []
    return [f"  {setting.name}: {head_words(setting)}", f"    {setting.doc}"]


def _rules_about(path: str) -> list[str]:
    """Return the rules whose failing example sets this key."""
    return [
        f"{rule.code} ({rule.name})"
        for rule in RULES
        if not rule.code.startswith("T") and path in _keys_of_example(rule.explanation)
    ]


@cache
def _keys_of_example(explanation: str) -> frozenset[str]:
    match = re.search(r"Fails:\s*```toml\n(.*?)```", explanation, re.DOTALL)
    return frozenset(_paths(tomli.loads(match[1]), "")) if match else frozenset()


def _paths(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from _paths(item, path)
    elif not path.endswith((".type", ".format")):
        yield path
