"""Findings as SARIF 2.1.0 (OASIS standard), which code hosts and editors show at their lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from .codes import Code, all_codes
from .diagnostics import Diagnostic
from .report import Documents, Region, fix_regions, ordered, region_of
from .version import VERSION

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
Json = dict[str, Any]


def render_sarif(reports: Iterable[tuple[Iterable[Diagnostic], Documents]]) -> str:
    """Return the findings about several specs, each with its documents, as one SARIF log of one run."""
    found = [
        (item, documents)
        for diagnostics, documents in reports
        for item in ordered(diagnostics, documents)
    ]
    codes = sorted({item.code for item, _ in found})
    driver = {
        "name": "tunec",
        "semanticVersion": VERSION,
        "rules": [_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        # Columns count code points, as everywhere in tunec.
        "columnKind": "unicodeCodePoints",
        "results": [_result(item, documents, codes.index(item.code)) for item, documents in found],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _rule(code: str) -> Json:
    known = all_codes().get(code) or Code(code, code, code)
    # The first paragraph says what is wrong, the rest why, with examples.
    first, _, _ = known.text.partition("\n\n")
    return {
        "id": code,
        "name": "".join(word[:1].upper() + word[1:] for word in known.name.split()),
        "shortDescription": {"text": known.name or code},
        "fullDescription": {"text": " ".join(first.split())},
        "help": {
            "text": f"{known.text}\n\ntunec explain {code}",
            "markdown": f"{known.text}\n\n`tunec explain {code}`",
        },
    }


def _result(item: Diagnostic, documents: Documents, rule_index: int) -> Json:
    region = region_of(item, documents)
    result: Json = {
        "ruleId": item.code,
        "ruleIndex": rule_index,
        "level": item.level.value,
        "message": {"text": _text(item)},
        "locations": [_location(region)] if region.file is not None else [],
        "partialFingerprints": {"tunec/v1": _fingerprint(item, region)},
    }
    related = [(label.text, region_of(label, documents, item.source)) for label in item.labels]
    locations = [
        {**_location(place), "message": {"text": text or "see here"}}
        for text, place in related
        if place.file is not None
    ]
    if locations:
        result["relatedLocations"] = locations
    fixes = _fixes(item, documents)
    if fixes:
        result["fixes"] = fixes
    return result


def _text(item: Diagnostic) -> str:
    remarks = [f"note: {note}" for note in item.notes] + [f"help: {help_}" for help_ in item.helps]
    return "\n".join([item.message, *remarks])


def _fingerprint(item: Diagnostic, region: Region) -> str:
    """Return what stays the same while lines above the finding come and go."""
    words = "\0".join([item.code, _uri(region.file or ""), *map(str, item.path), item.message])
    return hashlib.sha256(words.encode(errors="backslashreplace")).hexdigest()[:32]


def _location(region: Region) -> Json:
    place: Json = {"artifactLocation": {"uri": _uri(region.file or "")}}
    if region.line is not None:
        place["region"] = _region(region)
    return {"physicalLocation": place}


def _region(region: Region) -> Json:
    names = {
        "startLine": region.line,
        "startColumn": region.column,
        "endLine": region.end_line,
        "endColumn": region.end_column,
    }
    return {name: value for name, value in names.items() if value is not None}


def _uri(name: str) -> str:
    """Return a file name as URI reference: relative where it is, else with its scheme."""
    path = PurePath(name)
    text = quote(path.as_posix().encode("utf-8", "surrogateescape"))
    return f"file://{text}" if path.is_absolute() else text


def _fixes(item: Diagnostic, documents: Documents) -> list[Json]:
    """Return the fix as replacements of regions."""
    regions = fix_regions(item, documents)
    if not regions:
        return []
    replacements = [
        {"deletedRegion": _region(region), "insertedContent": {"text": text}}
        for region, text in regions
    ]
    artifact = {"uri": _uri(regions[0][0].file or "")}
    description = item.helps[0] if item.helps else item.message
    change = {"artifactLocation": artifact, "replacements": replacements}
    return [{"description": {"text": description}, "artifactChanges": [change]}]
