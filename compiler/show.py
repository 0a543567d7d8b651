"""`tunec show`: every value in force, each with where it comes from."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from attrs import asdict, frozen

from .diagnostics import SpecPath
from .document import Document, DocumentError
from .plan import Plan
from .render.literals import plain_words
from .render.resolved import resolved_data
from .render.toml import toml_lines
from .report import pointer
from .scanner import Span, position
from .spec import Spec
from .structure import unstructure
from .version import VERSION

FORMAT_VERSION = "1.0"
_ABSENT = object()


class Written(Protocol):
    """What a spec is written in: a `Document`, or a `Composition` of several."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> dict[str, Any]: ...

    def place(
        self, path: SpecPath, on_key: bool = False
    ) -> tuple[Document | DocumentError, Span]: ...


@frozen
class Origin:
    """Where a value comes from: a line of a file, a flag, the arithmetic of a plan, or the default."""

    kind: str
    file: str | None = None
    line: int | None = None
    reason: str | None = None

    def words(self) -> str:
        """Return the origin as a comment says it."""
        if self.kind == "file":
            return f"{self.file}:{self.line}"
        return f"derived: {self.reason}" if self.kind == "derived" else self.kind


@frozen
class Shown:
    """A spec's values in force, and what is needed to tell where each comes from."""

    data: dict[str, Any]
    source: Written
    reasons: Mapping[SpecPath, str]

    def origin(self, path: SpecPath) -> Origin:
        """Return where the value at a path comes from."""
        if path in self.reasons:
            return Origin("derived", reason=self.reasons[path])
        if _value_at(self.source.data, path) is _ABSENT:
            return Origin("default")
        document, span = self.source.place(path)
        if document.is_flag:
            return Origin("--set")
        return Origin("file", document.name, position(document.text, span.start)[0])

    def toml(self) -> str:
        """Return the values as a spec, with their origins as comments."""
        lines = [
            f"# Resolved by tunec {VERSION} from {plain_words(self.source.name)}.",
            "# Paths are relative to the folder of that spec.",
            *toml_lines(self.data, lambda path: self.origin(path).words()),
        ]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Return the values, and their origins by JSON pointer."""
        origins = {
            pointer(path): asdict(self.origin(path), filter=lambda _, value: value is not None)
            for path in _leaves(self.data)
        }
        document = {"format_version": FORMAT_VERSION, "spec": self.data, "origins": origins}
        return json.dumps(document, indent=2) + "\n"


def resolve(plan: Plan, source: Written) -> Shown:
    """Return what a plan comes to."""
    reasons = {item.path: item.reason for item in plan.derived}
    return Shown(resolved_data(plan), source, reasons)


def resolve_broken(spec: Spec, source: Written, broken: Iterable[SpecPath]) -> Shown:
    """Return the values of a spec with errors: what is written, also where it is wrong, and defaults."""
    data = unstructure(spec)
    for path in broken:
        _restore(data, path, _value_at(source.data, path))
    return Shown(data, source, {})


def _restore(data: dict[str, Any], path: SpecPath, written: Any) -> None:
    """Undo the repair of a value: what stood in for it was never anyone's choice."""
    table = _value_at(data, path[:-1])
    if not isinstance(table, dict) or path[-1] not in table:
        return
    if isinstance(written, datetime.date | datetime.time):
        written = written.isoformat()
    if type(written) in (str, int, float, bool):
        table[path[-1]] = written
    else:
        del table[path[-1]]


def _value_at(data: Any, path: SpecPath) -> Any:
    for part in path:
        if isinstance(data, str):  # its letters are no values
            return _ABSENT
        try:
            data = data[part]
        except (
            KeyError,
            IndexError,
            TypeError,
        ):  # TypeError: a list or a value where a table was meant
            return _ABSENT
    return data


def _leaves(data: Any, path: SpecPath = ()) -> list[SpecPath]:
    """Return the paths of all values; a list of plain values counts as one."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*path, key))]
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return [leaf for index, item in enumerate(data) for leaf in _leaves(item, (*path, index))]
    return [path]
