"""The resolved spec: every value in force, derived ones with their reason as a comment."""

from __future__ import annotations

from typing import Any

import attrs

from ..diagnostics import SpecPath
from ..plan import Plan
from ..version import VERSION
from .literals import plain_words, toml_key, toml_literal


def render_resolved(plan: Plan) -> str:
    """Return the resolved spec as TOML. Paths stand as in the original, relative to its folder."""
    reasons = {item.path: item.reason for item in plan.derived}
    data = resolved_data(plan)
    lines = [
        f"# Resolved by tunec {VERSION} from {plain_words(plan.spec_name)}. Generated, do not edit.",
        "# Paths are relative to the folder of that spec.",
    ]
    for section, values in data.items():
        lines += ["", f"[{section}]"]
        tables = {}
        for key, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                tables[key] = value
            else:
                reason = reasons.get((section, key), "")
                note = f"  # {plain_words(reason)}" if reason else ""
                lines.append(f"{toml_key(key)} = {toml_literal(value)}{note}")
        for key, rows in tables.items():
            for row in rows:
                lines += ["", f"[[{section}.{toml_key(key)}]]"]
                lines += [f"{toml_key(k)} = {toml_literal(v)}" for k, v in row.items()]
    return "\n".join(lines) + "\n"


def resolved_data(plan: Plan) -> dict[str, Any]:
    """Return the spec as plain data with the derived values in place."""
    data: dict[str, Any] = {
        field.name: _plain(getattr(plan.spec, field.name))
        for field in attrs.fields(type(plan.spec))
    }
    for item in plan.derived:
        section, key = _section(item.path)
        data[section][key] = list(item.value) if isinstance(item.value, tuple) else item.value
    if plan.duration.num_steps is not None:
        # One of the two decides; the resolved spec says what was decided.
        data["training"].pop("epochs", None)
        data["training"].pop("warmup_ratio", None)
    return data


def _section(path: SpecPath) -> tuple[str, str]:
    return str(path[0]), str(path[1])


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {
            field.name: _plain(inner)
            for field in attrs.fields(type(value))
            if (inner := getattr(value, field.name)) is not None
        }
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
