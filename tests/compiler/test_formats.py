"""Findings for other programs: SARIF for code hosts and editors, annotations for GitHub Actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunec.compiler import cli
from tunec.compiler.diagnostics import Diagnostic, Label, Level, Place, error, warning
from tunec.compiler.document import DocumentError, parse_document
from tunec.compiler.github import render_github
from tunec.compiler.pipeline import analyse
from tunec.compiler.report import Documents
from tunec.compiler.sarif import render_sarif
from tunec.compiler.version import VERSION

SPEC = """\
[run]
name = "a"

[method]
type = "lora"
rnk = 8
"""
DOCUMENT = parse_document(SPEC, "my specs/spec.toml")
FOUND = error(
    "T201",
    "unknown key `rnk`",
    ("method", "rnk"),
    label="here",
    on_key=True,
    labels=(Label(("run", "name"), "and here"), Label(("run",), "")),
    notes=("a note",),
    helps=("write `rank`",),
)


def sarif(*found: Diagnostic, documents: Documents = DOCUMENT) -> dict[str, Any]:
    """Return the one run of a log, which the standard allows."""
    log = json.loads(render_sarif([(found, documents)]))
    jsonschema.Draft7Validator(STANDARD).validate(log)
    run: dict[str, Any] = log["runs"][0]
    return run


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object of the standard: these properties and no others."""
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


def some(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 1}
INDEX = {"type": "integer", "minimum": 0}
MESSAGE = closed("text", text={"type": "string", "minLength": 1}, markdown=TEXT)
ARTIFACT = closed("uri", uri={"type": "string", "pattern": r"^[A-Za-z0-9._~/%:-]+$"})
REGION = closed("startLine", startLine=COUNT, startColumn=COUNT, endLine=COUNT, endColumn=COUNT)
LOCATION = closed(
    "physicalLocation",
    physicalLocation=closed("artifactLocation", artifactLocation=ARTIFACT, region=REGION),
    message=MESSAGE,
)
REPLACEMENT = closed("deletedRegion", deletedRegion=REGION, insertedContent=closed(text=TEXT))
FIX = closed(
    "artifactChanges",
    description=MESSAGE,
    artifactChanges=some(
        closed(
            "artifactLocation replacements",
            artifactLocation=ARTIFACT,
            replacements={**some(REPLACEMENT), "minItems": 1},
        )
    ),
)
RULE = closed(
    "id",
    id=TEXT,
    name={"type": "string", "minLength": 1},
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=MESSAGE,
)
RESULT = closed(
    "message",
    ruleId=TEXT,
    ruleIndex=INDEX,
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations=some(LOCATION),
    relatedLocations=some(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    fixes=some(FIX),
)
DRIVER = closed("name", name=TEXT, semanticVersion=TEXT, rules=some(RULE))
RUN = closed(
    "tool",
    tool=closed("driver", driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results=some(RESULT),
)
STANDARD = closed("version runs", **{"$schema": TEXT}, version={"const": "2.1.0"}, runs=some(RUN))
"""What SARIF 2.1.0 requires of the objects used here; properties it does not know are refused."""


def test_a_result_has_place_and_text() -> None:
    """Code, level, region with exclusive end, related places, and everything the terminal says."""
    run = sarif(FOUND)
    (result,) = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("T201", 0, "error")
    assert result["message"]["text"] == "unknown key `rnk`\nnote: a note\nhelp: write `rank`"
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "my%20specs/spec.toml"},
                "region": {"startLine": 6, "startColumn": 1, "endLine": 6, "endColumn": 4},
            }
        }
    ]
    related = [
        (place["message"]["text"], place["physicalLocation"]["region"]["startLine"])
        for place in result["relatedLocations"]
    ]
    assert related == [("and here", 2), ("see here", 1)]
    assert run["columnKind"] == "unicodeCodePoints"


def test_rules_are_those_found() -> None:
    """Each code found is described once, with name, summary and the text of `tunec explain`."""
    run = sarif(FOUND, warning("R806", "m", ("run",)), error("R806", "n", ("run",)))
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["semanticVersion"]) == ("tunec", VERSION)
    assert [rule["id"] for rule in driver["rules"]] == ["R806", "T201"]
    rule = driver["rules"][0]
    assert rule["name"] == "NothingToEvaluate"
    assert rule["shortDescription"] == {"text": "nothing to evaluate"}
    assert "Fails:\n```toml\n" in rule["help"]["markdown"]
    assert rule["help"]["markdown"].endswith("\n\n`tunec explain R806`")
    assert [result["ruleIndex"] for result in run["results"]] == [0, 0, 1]


def test_a_fix_is_a_replacement(tmp_path: Path) -> None:
    """What `--fix` would do is there for editors to do."""
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    analysis = analyse(spec, {}, with_facts=False)
    run = sarif(*analysis.diagnostics, documents=analysis.source)
    (result,) = [result for result in run["results"] if "fixes" in result]
    (fix,) = result["fixes"]
    assert fix["description"] == {"text": "a similar name is `rank`"}
    (change,) = fix["artifactChanges"]
    assert change["artifactLocation"] == {"uri": spec.as_uri()}
    assert change["replacements"] == [
        {
            "deletedRegion": {"startLine": 6, "startColumn": 1, "endLine": 6, "endColumn": 4},
            "insertedContent": {"text": "rank"},
        }
    ]


def test_places_in_other_files() -> None:
    """A row of a data file has a line and perhaps no column; a file as a whole has no region."""
    run = sarif(
        error("D702", "row", place=Place(Path("data/ü.jsonl"), 3)),
        error("D703", "file", place=Place(Path("/data/x.jsonl"))),
    )
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert places == [
        {"artifactLocation": {"uri": "file:///data/x.jsonl"}},
        {"artifactLocation": {"uri": "data/%C3%BC.jsonl"}, "region": {"startLine": 3}},
    ]


def test_a_finding_keeps_its_fingerprint_when_lines_move() -> None:
    """Code hosts tell old findings from new ones by it."""
    below = parse_document("# one more line\n" + SPEC, DOCUMENT.name)
    marks = [
        sarif(FOUND, documents=d)["results"][0]["partialFingerprints"] for d in (DOCUMENT, below)
    ]
    assert marks[0] == marks[1]
    other = sarif(error("T201", "unknown key `x`", ("method", "x")))["results"][0]
    assert other["partialFingerprints"] != marks[0]


def test_text_that_is_no_toml() -> None:
    """Findings of the parser have offsets only."""
    with pytest.raises(DocumentError) as refusal:
        parse_document("a = [\n", "spec.toml")
    run = sarif(*refusal.value.diagnostics, documents=refusal.value)
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region["startLine"] >= 1


def test_nothing_found() -> None:
    """A log with no results is a log."""
    assert sarif()["results"] == []


# --- GitHub ----------------------------------------------------------------------------------------------


def github(*found: Diagnostic, documents: Documents = DOCUMENT) -> list[str]:
    """Return the lines."""
    return render_github([(found, documents)]).splitlines()


def test_annotations() -> None:
    """One command a finding, with inclusive ends, in the order of the file."""
    lines = github(
        FOUND, warning("R806", "m", ("run", "name")), Diagnostic("N1", Level.NOTE, "n", ("run",))
    )
    assert lines == [
        "::notice file=my specs/spec.toml,line=1,endLine=1,col=1,endColumn=5,title=tunec N1::n",
        "::warning file=my specs/spec.toml,line=2,endLine=2,col=8,endColumn=10,title=tunec R806::m",
        "::error file=my specs/spec.toml,line=6,endLine=6,col=1,endColumn=3,title=tunec T201::"
        "unknown key `rnk`%0Anote: a note%0Ahelp: write `rank`",
    ]


def test_a_place_of_several_lines_has_no_columns() -> None:
    """GitHub ignores annotations that have both."""
    document = parse_document("a = [\n1,\n]\n", "s.toml")
    (line,) = github(error("E1", "m", ("a",)), documents=document)
    assert line == "::error file=s.toml,line=1,endLine=3,title=tunec E1::m"


def test_a_place_without_lines() -> None:
    """A file as a whole."""
    (line,) = github(error("E1", "m", place=Place(Path("x.jsonl"))))
    assert line == "::error file=x.jsonl,title=tunec E1::m"


def test_no_value_can_be_a_command() -> None:
    """Line breaks, commas, colons and percent signs are escaped, and what a terminal would obey is spelled out."""
    document = parse_document("a = 1\n", "x,line=9::\n::warning::y%0A.toml")
    (line,) = github(error("E1", "a\r\n::error::b %0A \x1b[31m", ("a",)), documents=document)
    assert line == (
        "::error file=x%2Cline=9%3A%3A%0A%3A%3Awarning%3A%3Ay%250A.toml,line=1,endLine=1,col=5,endColumn=5,"
        "title=tunec E1::a<U+000D>%0A::error::b %250A <U+001B>[31m"
    )


@given(st.text(), st.text(min_size=1), st.text())
def test_any_text_stays_in_its_line(message: str, name: str, help_: str) -> None:
    """One finding is one line, whatever is in it."""
    document = parse_document("a = 1\n", name)
    text = render_github([([error("E1", message, ("a",), helps=(help_,))], document)])
    assert text.count("\n") == 1
    assert text.count("\r") == 0
    assert text.startswith("::error file=")
    properties = text.removeprefix("::error ").split("::")[0]
    assert [item.split("=")[0] for item in properties.split(",")] == [
        "file", "line", "endLine", "col", "endColumn", "title",
    ]  # fmt: skip


# --- the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["json", "sarif", "github"])
def test_several_specs_are_one_report(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--format` puts the findings about all specs into one document, and errors end with 1."""
    specs = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for spec in specs:
        spec.write_text("[nonsense]\n")
    with pytest.raises(SystemExit) as end:
        cli.main(["check", "--no-facts", "--format", name, *map(str, specs)])
    out = capsys.readouterr().out
    assert end.value.code == 1
    assert all(spec.name in out for spec in specs)
    if name == "sarif":
        jsonschema.Draft7Validator(STANDARD).validate(json.loads(out))
