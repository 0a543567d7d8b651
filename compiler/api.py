"""The compiler for programs: specs from and to TOML and JSON, checked and compiled.

    from tunec.compiler import from_toml, compile_spec
    run_dir = compile_spec(from_toml(Path("run.toml")), base_dir=Path("."))

A mistake in a spec raises `SpecError`, which holds the findings and says them as `tunec check` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .apply import ApplyError
from .diagnostics import Diagnostic, Level
from .document import Document, DocumentError, parse_document
from .plain import document_of, read_json, unwritable
from .report import Documents, render_text
from .spec import Spec
from .structure import structure, unstructure, written_values

if TYPE_CHECKING:
    from .pipeline import Analysis

__all__ = [
    "ApplyError",
    "SpecError",
    "check",
    "compile_spec",
    "from_json",
    "from_toml",
    "to_json",
    "to_toml",
]


class SpecError(ValueError):
    """A spec with mistakes. `diagnostics` are the findings; as text they look as `tunec check` shows them."""

    def __init__(self, diagnostics: Sequence[Diagnostic], source: Documents) -> None:
        """Store the findings and the text they are about."""
        super().__init__(diagnostics, source)
        self.diagnostics = tuple(diagnostics)
        self.source = source

    def __str__(self) -> str:
        """Return the findings as `tunec check` prints them."""
        return render_text(self.diagnostics, self.source, color=False, width=100).rstrip("\n")


def from_toml(source: str | Path, *, settings: Sequence[str] = ()) -> Spec:
    """Return the spec of a TOML text (`str`) or file (`Path`), with its `extends` followed.

    `settings` change it as `--set` does: `["method.rank=16"]`. In a text, names in `extends` count from the
    working folder. Only the structure is looked at here; `check` asks the rules.

    Raises:
        SpecError: the text is no TOML, a base or a setting cannot be used, or a value does not fit its field.
    """
    from .composition import CompositionError
    from .pipeline import read_spec, spec_document

    try:
        if isinstance(source, Path):
            return _structured(spec_document(source, settings))
        return _structured(read_spec(parse_document(source, "spec"), settings))
    except DocumentError as fault:
        raise SpecError(fault.diagnostics, fault) from None
    except CompositionError as fault:
        raise SpecError(fault.diagnostics, fault.source) from None
