"""Findings as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import asdict

from ..diagnostics import Diagnostic, Label, Level, SpecPath
from .regions import fix_regions, place_numbers, spot_numbers
from .sources import Documents, Source, count_of, ordered, own_spot, sources_of, spot_of

FORMAT_VERSION = "1.0"


def render_json(diagnostics: Iterable[Diagnostic], documents: Documents) -> str:
    """Return the findings as one JSON document.

    Lines and columns count from 1, columns in code points; ends are exclusive. `path` is a JSON pointer.
    """
    return render_json_of([(diagnostics, documents)])


def render_json_of(reports: Iterable[tuple[Iterable[Diagnostic], Documents]]) -> str:
    """Return the findings about several specs, each with its documents, as one JSON document."""
    found = [(docs, item) for diagnostics, docs in reports for item in ordered(diagnostics, docs)]
    document = {
        "format_version": FORMAT_VERSION,
        "error_count": count_of((item for _, item in found), Level.ERROR),
        "warning_count": count_of((item for _, item in found), Level.WARNING),
        "diagnostics": [_as_json(item, documents) for documents, item in found],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_json(found: Diagnostic, documents: Documents) -> dict[str, Any]:
    sources = sources_of(documents)
    where = place_numbers(found.place) if found.place else spot_numbers(own_spot(found, sources))
    return {
        "code": found.code,
        "level": found.level.value,
        "message": found.message,
        "path": pointer(found.path),
        **where,
        "label": found.label,
        "notes": list(found.notes),
        "helps": list(found.helps),
        "labels": [_label_json(label, sources, found.source) for label in found.labels],
        "fixes": [
            {**asdict(region), "text": text} for region, text in fix_regions(found, documents)
        ],
    }


def _label_json(label: Label, sources: Sequence[Source], name: str) -> dict[str, Any]:
    spot = spot_of(sources, label.path, label.offsets, name=name)
    return {"text": label.text, "path": pointer(label.path), **spot_numbers(spot)}


def pointer(path: SpecPath) -> str:
    """Return a path as JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
