"""The resolved spec: every value in force, derived ones with their reason as a comment."""

from __future__ import annotations

from typing import Any

from ..diagnostics import SpecPath
from ..field_types import class_of, fields_of, is_section, tag_of
from ..plan import Plan
from ..rules.available import is_honoured
from ..spec import Spec
from ..version import VERSION
from .literals import plain_words
from .toml import toml_lines


def render_resolved(plan: Plan) -> str:
    """Return the resolved spec as TOML. Paths stand as in the original, relative to its folder."""
    reasons = {item.path: item.reason for item in plan.derived}
    lines = [
        f"# Resolved by tunec {VERSION} from {plain_words(plan.spec_name)}. Generated, do not edit.",
        "# Paths are relative to the folder of that spec.",
        *toml_lines(resolved_data(plan), lambda path: reasons.get(path, "")),
    ]
    return "\n".join(lines) + "\n"


def resolved_data(plan: Plan) -> dict[str, Any]:
    """Return the spec as plain data with the derived values in place.

    Settings that do nothing yet are left out: they have their default, or rule N901 had refused the spec.
    """
    data = _in_force(plan.spec, "")
    for item in plan.derived:
        section, key = _section(item.path)
        data.setdefault(section, {})[key] = (
            list(item.value) if isinstance(item.value, tuple) else item.value
        )
    if plan.duration.num_steps is not None:
        # One of the two decides; the resolved spec says what was decided.
        data["training"].pop("epochs", None)
        data["training"].pop("warmup_ratio", None)
    return {section: data[section] for section in fields_of(Spec) if data.get(section)}


def _in_force(table: Any, name: str) -> dict[str, Any]:
    tag = tag_of(class_of(table))
    here = f"{name}[{tag[1]}]" if tag is not None else name
    found: dict[str, Any] = {} if tag is None else {tag[0]: tag[1]}
    for key in fields_of(class_of(table)):
        value, inner = getattr(table, key), f"{here}.{key}" if here else key
        if is_section(value):
            found |= {key: content} if (content := _in_force(value, inner)) else {}
        elif isinstance(value, tuple) and any(map(is_section, value)):
            found[key] = [_in_force(item, f"{inner}.*") for item in value]
        elif value is not None and is_honoured(inner) and key not in found:
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _section(path: SpecPath) -> tuple[str, str]:
    return str(path[0]), str(path[1])
