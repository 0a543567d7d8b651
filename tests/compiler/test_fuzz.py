"""Random input: bytes, broken specs, documents of wrong types, and specs of right ones never raise."""

from __future__ import annotations

import ast
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_spec import corpus, target
from hostile import HOSTILE
from specs import documents, specs
from tunec.compiler.diagnostics import Diagnostic, SpecPath
from tunec.compiler.document import Document, DocumentError, parse_document
from tunec.compiler.facts import gather
from tunec.compiler.field_types import fields_of, table_classes
from tunec.compiler.pipeline import Analysis, analyse_document
from tunec.compiler.plan import make_plan
from tunec.compiler.render import render_files
from tunec.compiler.render.toml import toml_lines
from tunec.compiler.report import region_of, render_json, render_text
from tunec.compiler.rules import check as check_rules
from tunec.compiler.rules.available import check_available
from tunec.compiler.rules.ranges import RULES as RANGE_RULES
from tunec.compiler.scanner import Span
from tunec.compiler.spec import Local, Spec
from tunec.compiler.structure import structure, unstructure

# The same examples on every run: what fails here fails everywhere. tests/fuzz looks further.
PROFILE = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
ROOT = Path(__file__).parents[2]
SEEDS = tuple(
    path.read_text()
    for path in (
        *sorted((ROOT / "tests" / "golden").glob("*/spec.toml")),
        *sorted((ROOT / "examples").glob("*/*.toml")),
    )
)


def look(text: str | bytes, *, with_facts: bool = False) -> Analysis:
    """Return the analysis of a text, and check what must hold for every one."""
    try:
        document: Document | DocumentError = parse_document(text, "spec.toml")
    except DocumentError as fault:
        analysis = Analysis(fault, fault.diagnostics)
    else:
        assert isinstance(document, Document)
        analysis = analyse_document(document, Path("spec.toml"), {}, with_facts=with_facts)
    assert_sound(analysis)
    return analysis


def assert_sound(analysis: Analysis) -> None:
    """Every finding has words and a place, and every report can be made."""
    for found in analysis.diagnostics:
        assert found.message
        assert not found.message.endswith(".")
        region = region_of(found, analysis.source)
        assert region.file
        assert region.line is None or region.line >= 1
        assert_paths_lead_somewhere(found, analysis)
    report = render_text(analysis.diagnostics, analysis.source, color=False, width=80)
    assert bool(report) == bool(analysis.diagnostics)
    assert not {"\x1b", "\x07", "\r", "\x9b"} & set(report)
    listed = json.loads(render_json(analysis.diagnostics, analysis.source))["diagnostics"]
    assert len(listed) <= len(analysis.diagnostics)


def assert_paths_lead_somewhere(found: Diagnostic, analysis: Analysis) -> None:
    """A path is that of a value, or of a key that could be added to a table that is there."""
    if not isinstance(analysis.source, Document) or found.offsets is not None:
        return
    for path in found.involves():
        span = analysis.source.locate(path)
        assert 0 <= span.start <= span.end <= len(analysis.source.text)
        assert not path or path[0] in fields_of(Spec) or path[0] in analysis.source.data


# --- text ------------------------------------------------------------------------------------------------


@PROFILE
@given(st.binary(max_size=200) | st.text(max_size=80))
def test_any_bytes(content: bytes | str) -> None:
    """Whatever the bytes are, there is a spec or there are findings."""
    assert look(content).diagnostics


@st.composite
def broken_specs(draw: st.DrawFn) -> bytes:
    """Return a valid spec after some changes that a slip of the hand, a merge or a bad disk could make."""
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    content = rng.choice(SEEDS).encode()
    for _ in range(rng.randint(1, 4)):
        content = _mutated(content, rng)
    return content


TOKENS = [
    *(text.encode() for text in HOSTILE),
    *(b"=", b"[", b"]", b"[[", b"]]", b"{", b"}", b",", b".", b'"', b"'", b'"""', b"'''", b"#", b"\\", b"\n", b"\r"),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"nan", b"-inf", b"1e999", b"9" * 30, b"true", b"2020-01-01", b"07:32", b"\t"),
]  # fmt: skip


def _mutated(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    end = min(at + rng.choice([1, 1, 2, 8, 40]), len(content))
    other = rng.choice(SEEDS).encode()
    cut = rng.randrange(len(other) + 1)
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return rng.choice(
        [
            content[:at] + content[end:],
            content[:end] + content[at:],
            content[:at] + rng.choice(TOKENS) + content[at:],
            content[:at] + rng.choice(TOKENS) + content[end:],
            content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
            content[:at] + other[cut:],
            b"".join(lines),
        ]
    )


@settings(PROFILE, max_examples=250)
@given(broken_specs())
def test_broken_specs(content: bytes) -> None:
    """A spec with bytes or tokens lost, doubled, exchanged or spliced is judged, however little of it is left."""
    look(content)


# --- documents of wrong types ----------------------------------------------------------------------------

_SCALARS: st.SearchStrategy[Any] = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-2, 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*HOSTILE[:40], "lora", "messages", "full", "adamw", "auto", ""])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
)


def _names() -> Iterator[str]:
    waiting: list[type] = [Spec]
    seen: set[type] = set()
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            yield from fields_of(cls)
            waiting += [
                inner for field in fields_of(cls).values() for inner in table_classes(field.type)
            ]


NAMES = sorted({*_names(), "lora_rank", "k", "a.b", "", "type"})
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=10,
)
_SECTIONS = st.dictionaries(st.sampled_from([*fields_of(Spec), "lora"]), _VALUES, max_size=6)


@settings(PROFILE, max_examples=150)
@given(_SECTIONS)
def test_documents_of_any_structure(data: dict[str, Any]) -> None:
    """Real names with values of any type at any place: findings, never an exception."""
    text = "\n".join(toml_lines(data)) + "\n"
    assert tomli.loads(text) == data
    analysis = look(text, with_facts=True)
    assert analysis.spec is not None


# --- specs of right types --------------------------------------------------------------------------------


@settings(PROFILE, max_examples=70)
@given(documents())
def test_specs_of_the_right_types(text: str) -> None:
    """Every value fits its field: no structural finding, no exception in any rule, with facts and without."""
    for with_facts in (False, True):
        analysis = look(text, with_facts=with_facts)
        codes = {found.code for found in analysis.diagnostics}
        assert not {code for code in codes if code.startswith("T20")}
        assert analysis.spec is not None


@settings(PROFILE, max_examples=50)
@given(specs())
def test_rules_know_their_places(spec: Spec) -> None:
    """A rule speaks about values that the spec has, or about keys that it could have."""
    for found in check_rules(spec, None):
        for path in found.involves():
            assert _exists(spec, path[:-1]), found


def _exists(value: Any, path: SpecPath) -> bool:
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, tuple) or step >= len(value):
                return False
            value = value[step]
        elif isinstance(value, dict):
            return step in value
        elif not hasattr(value, step):
            return False
        else:
            value = getattr(value, step)
    return True


@settings(PROFILE, max_examples=50)
@given(documents())
def test_every_place_reads_back(text: str) -> None:
    """The text at the place of a value is that value, the text at the place of a key is that key."""
    document = parse_document(text, "spec.toml")
    for path, value in _leaves(document.data):
        assert tomli.loads(f"x = {_at(document, document.values[path])}")["x"] == value
        if isinstance(path[-1], str):
            raw = _at(document, document.keys[path])
            assert tomli.loads(f"{raw} = 1") == {path[-1]: 1}


def _at(document: Document, span: Span) -> str:
    return document.text[span.start : span.end]


def _leaves(value: Any, path: SpecPath = ()) -> Iterator[tuple[SpecPath, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


# --- what comes out --------------------------------------------------------------------------------------


def honoured(spec: Spec) -> Spec | None:
    """Return the spec with the settings that compile today, the others at their defaults; None if that is none."""
    data = unstructure(spec)
    for _ in range(5):
        refused = [found.path for found in check_available(structure(data).spec)]
        refused += [
            found.path for rule in RANGE_RULES for found in _asked(rule, structure(data).spec)
        ]
        if not refused:
            break
        for path in refused:
            _remove(data, path)
    data["batch"] = {"global_size": 4, "micro_size": 2}
    data.pop("launch", None)
    result = structure(data)
    is_usable = not result.diagnostics and not list(check_available(result.spec))
    return result.spec if is_usable and isinstance(result.spec.launch, Local) else None


def _asked(rule: Any, spec: Spec) -> list[Diagnostic]:
    return list(rule.pure(spec)) if rule.pure is not None else []


def _remove(data: Any, path: SpecPath) -> None:
    """Remove a value; a kind, or what a list is made of, goes with its table."""
    *above, last = path
    for index, step in enumerate(above):
        if isinstance(data, list) or step not in data:
            return
        if last in ("type", "format") and index == len(above) - 1:
            data[step] = {"method": {"type": "full"}}.get(str(step), {})
            return
        data = data[step]
    if isinstance(data, dict):
        data.pop(last, None)


@settings(PROFILE, max_examples=40)
@given(specs(), st.sampled_from(["messages", "alpaca"]), st.sampled_from(["full", "lora"]))
def test_any_honoured_spec_renders(spec: Spec, format_: str, method: str) -> None:
    """Programs parse, JSON loads, scripts are bash, and the resolved spec is a spec that says the same."""
    data = unstructure(spec)
    data["data"]["sources"] = [{"format": format_, "path": "d.jsonl"}]
    data["data"].pop("eval_sources", None)
    data["method"] = {"type": method}
    usable = honoured(structure(data).spec)
    if usable is None or usable.training.epochs == 0:
        return
    plan = make_plan(usable, gather(usable, Path("spec.toml"), {}), spec_name="spec.toml")
    files = render_files(plan)
    for name, text in files.items():
        if name.endswith(".py"):
            ast.parse(text)
        elif name.endswith(".json"):
            json.loads(text, parse_constant=pytest.fail)
        elif name.endswith(".sh"):
            subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    assert structure(tomli.loads(files["spec.toml"])).diagnostics == ()
    assert json.loads(files["deepspeed.json"])["train_batch_size"] == 4


def test_the_seeds_are_specs() -> None:
    """What is broken above was whole."""
    assert len(SEEDS) >= 4
    for text in SEEDS:
        assert structure(tomli.loads(text)).diagnostics == ()


def test_the_corpus_of_the_fuzzer() -> None:
    """What the fuzzer once broke, and what it starts from, passes its own checks."""
    contents = corpus([])
    assert len(contents) > len(SEEDS)
    for content in contents:
        target(content)
