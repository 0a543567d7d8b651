"""The compiler for programs: specs from and to TOML and JSON, checked and compiled.

    from tunec.compiler import compile_spec, from_toml
    run_dir = compile_spec(from_toml(Path("run.toml")))

A mistake in a spec raises `SpecError`, which holds the findings and says them as `tunec check` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from . import apply
from .apply import ApplyError
from .composition import Composition, CompositionError
from .diagnostics import Diagnostic
from .document import Document, DocumentError, parse_document, read_document
from .pipeline import Analysis, analyse_document, composed, plan_of
from .plain import document_of, read_json, unwritable
from .render import render_files
from .render.toml import toml_lines
from .report import Source, main_document, render_text
from .spec import Spec
from .structure import structure, unstructure, written_values

__all__ = [
    "ApplyError",
    "Diagnostic",
    "Spec",
    "SpecError",
    "check",
    "compile_spec",
    "from_json",
    "from_toml",
    "to_json",
    "to_toml",
]

NAME = "spec.toml"
"""Name of a spec that has no file."""


class SpecError(ValueError):
    """A spec with mistakes. `diagnostics` are the findings; as text they look as `tunec check` shows them."""

    def __init__(self, diagnostics: Sequence[Diagnostic], source: Source) -> None:
        """Store the findings and the text they are about."""
        super().__init__(diagnostics, source)
        self.diagnostics = tuple(diagnostics)
        self.source = source

    def __str__(self) -> str:
        """Return the findings as `tunec check` prints them."""
        main = main_document(self.source)
        is_file = main is not None and main.path is not None
        # What has no file, `tunec check --fix` cannot mend.
        shown = [item if is_file else evolve(item, fix=None) for item in self.diagnostics]
        return render_text(shown, self.source, color=False, width=100).rstrip("\n")


def from_toml(source: str | Path, *, settings: Sequence[str] = ()) -> Spec:
    """Return the spec of a TOML text (`str`) or file (`Path`), with its `extends` followed.

    `settings` change it as `--set` does: `["method.rank=16"]`. In a text, names in `extends` count from the
    working folder. Only the structure is looked at; `check` asks the rules.

    Raises:
        SpecError: the text is no TOML, a base or a setting cannot be used, or a value does not fit its field.
        TypeError: the name of a file is given as text.
    """
    if isinstance(source, str) and source.endswith(".toml") and "\n" not in source:
        raise TypeError(f"name a file by its Path: from_toml(Path({source!r}))")
    try:
        if isinstance(source, Path):
            document = read_document(source)
        else:
            document = parse_document(source, NAME)
        return _structured(composed(document, settings))
    except DocumentError as fault:
        raise SpecError(fault.diagnostics, fault) from None
    except CompositionError as fault:
        raise SpecError(fault.diagnostics, fault.source) from None


def from_json(text: str) -> Spec:
    """Return the spec of a JSON object with the sections of a spec; `null` stands for what is not given.

    Raises:
        SpecError: the text is no JSON, or a value does not fit its field.
    """
    try:
        return _structured(_written(document_of(read_json(text, "spec.json"), NAME)))
    except DocumentError as fault:
        raise SpecError(fault.diagnostics, fault) from None


def to_toml(spec: Spec) -> str:
    """Return a spec as TOML, without the values that are their field's default; `from_toml` reads it back.

    Raises:
        SpecError: a value does not fit its field.
    """
    _structured(_document(spec))
    return "\n".join(toml_lines(written_values(spec))).lstrip("\n") + "\n"


def to_json(spec: Spec) -> str:
    """Return a spec as JSON, without the values that are their field's default; `from_json` reads it back.

    Raises:
        SpecError: a value does not fit its field.
    """
    _structured(_document(spec))
    return json.dumps(written_values(spec), indent=2, ensure_ascii=False) + "\n"


def check(spec: Spec, *, base_dir: Path | None = None) -> tuple[Diagnostic, ...]:
    """Return everything there is to say about a spec built in code; nothing when it is sound.

    With a `base_dir`, which relative paths start from, the files it names are looked at as well.
    """
    try:
        return _analysis(_document(spec), base_dir).diagnostics
    except SpecError as fault:
        return fault.diagnostics


def compile_spec(spec: Spec, *, base_dir: Path | None = None, force: bool = False) -> Path:
    """Write the run of a spec as `tunec compile` does, and return its folder.

    `base_dir` (the working folder unless given) is what relative paths start from. `force` gives up changes made
    by hand to the files of an earlier compilation.

    Raises:
        SpecError: the spec has errors.
        ApplyError: the run folder holds changes made by hand, or a run of another spec, or cannot be written.
    """
    document = _document(spec)
    analysis = _analysis(document, Path() if base_dir is None else base_dir)
    if not analysis.ok:
        raise SpecError(analysis.diagnostics, document)
    plan = plan_of(analysis)
    files = render_files(plan)
    apply.check(files, plan.facts.output, force=force, replace_run=False)
    apply.apply(files, plan.facts.output.path)
    return plan.facts.output.path


def _document(spec: Spec) -> Document:
    """Return a spec built in code as a document; raise what TOML cannot hold."""
    try:
        return _written(document_of(unstructure(spec), NAME))
    except DocumentError as fault:
        raise SpecError(fault.diagnostics, fault) from None


def _written(document: Document) -> Document:
    found = tuple(unwritable(document.data))
    if found:
        raise SpecError(found, document)
    return document


def _structured(source: Document | Composition) -> Spec:
    structured = structure(source.data)
    if structured.diagnostics:
        raise SpecError(structured.diagnostics, source)
    return structured.spec


def _analysis(document: Document, base_dir: Path | None) -> Analysis:
    path = (Path() if base_dir is None else base_dir) / NAME
    return analyse_document(document, path, os.environ, with_facts=base_dir is not None)
