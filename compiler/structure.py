"""Plain data to `Spec` through cattrs: no coercion, and all structural errors at once.

The converter's hooks raise when a value does not fit its type; cattrs gathers these into a tree. Each error of
the tree becomes a diagnostic, its value gives way to the default (or to a placeholder of the right type), and
the data is structured again. So there is always a `Spec`, and rules can judge whatever is not broken.
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen
from cattrs import ClassValidationError

from .converter import Refusal, spec_converter
from .diagnostics import Diagnostic, SpecPath
from .field_types import class_of, default_of, fields_of, is_section, tag_of
from .spec import Spec
from .structure_errors import find_faults, repaired

CODES: dict[str, str] = {
    "T201": (
        "The key or section does not exist. Unknown keys are errors, because a misspelled key would otherwise "
        "leave its default in force without a word. `tunec explain SECTION` lists the keys of a section."
    ),
    "T202": "A value or section without a default is missing. Add it where the finding points.",
    "T203": (
        'The value is of another type than its field. Nothing is converted silently: `"16"` is text and no '
        "number, `true` is no number, and `3.7` is no whole number. A whole number may stand for `3.0`."
    ),
    "T204": "The value is not one of the choices of its field. The choices are listed with the finding.",
    "T205": (
        "The section comes in several kinds, told apart by one key such as `type`, and this kind does not "
        "exist. The other keys of the section are judged once its kind is known."
    ),
    "T206": (
        'The key exists, but for another kind of this section: `rank` belongs to `type = "lora"` and means '
        'nothing for `type = "full"`. Remove the key or change the kind.'
    ),
    "T207": "A spec with more than a thousand findings is shown with the first of them: correct these, and look again.",
}


@frozen
class Structured:
    """A spec that exists whatever the data were; `broken` names the paths that rules must not judge."""

    spec: Spec
    broken: frozenset[SpecPath]
    diagnostics: tuple[Diagnostic, ...]


def structure(data: dict[str, Any]) -> Structured:
    """Structure the data of a document; every structural error becomes a diagnostic."""
    converter = spec_converter()
    broken: set[SpecPath] = set()
    diagnostics: list[Diagnostic] = []
    while True:
        try:
            spec = converter.structure(data, Spec)
        except (ClassValidationError, Refusal) as refusal:
            faults = find_faults(refusal, data)
            data = repaired(data, faults)
            broken.update(path for fault in faults for path in fault.broken)
            diagnostics += [fault.diagnostic for fault in faults if fault.diagnostic is not None]
        else:
            return Structured(spec, frozenset(broken), tuple(diagnostics))


def unstructure(spec: Any) -> dict[str, Any]:
    """Return a spec (or one of its sections) as plain data: without what is not given, lists for tuples.

    In a spec built in code a value may be wrong: it stays as it is, to be refused when the data are structured.
    """
    found: dict[str, Any] = {}
    for name, field in fields_of(class_of(spec)).items():
        value = getattr(spec, name)
        # Without a word in TOML, None can only be what a field is when nothing is said.
        if value is not None or field.default not in (None, attrs.NOTHING):
            found[name] = _plain(value)
    return found


def written_values(spec: Any) -> dict[str, Any]:
    """Return a spec as plain data without the values that are their field's default.

    Two versions of tunec agree on these data though one knows more settings.
    """
    found: dict[str, Any] = {}
    tag = tag_of(class_of(spec))
    for name, field in fields_of(class_of(spec)).items():
        value, default = getattr(spec, name), default_of(field)
        if is_section(value) and is_section(default) and type(value) is type(default):
            inner = written_values(value)
            # Equal sections may differ in the type of a number.
            is_same = value == default and inner.keys() <= set(tag_of(class_of(value)) or ())
            found |= {} if is_same else {name: inner}
        elif not _is_default(value, default) or (tag is not None and name == tag[0]):
            found[name] = _written(value)
    return found


def _is_default(value: Any, default: Any) -> bool:
    # `1` and `1.0` are equal, but one may be a count and the other a share.
    # Minus zero equals zero, and is written otherwise.
    return type(value) is type(default) and bool(value == default) and str(value) == str(default)


def _written(value: Any) -> Any:
    if is_section(value):
        return written_values(value)
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if is_section(value):
        return unstructure(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
