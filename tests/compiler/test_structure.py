"""Structuring: no coercion, every structural error at once, and always a spec."""

from __future__ import annotations

import datetime
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs import specs
from tunec.compiler.diagnostics import Diagnostic, Level, SpecPath
from tunec.compiler.docs import field_docs, first_sentence
from tunec.compiler.importers.homes.advice import renamed
from tunec.compiler.importers.paths import classes_along
from tunec.compiler.spec import (
    AlpacaSource,
    Full,
    Lora,
    MessagesSource,
    Spec,
    TokenizerTemplate,
    Training,
)
from tunec.compiler.structure import CODES, structure, unstructure
from tunec.compiler.toml_words import dotted

Changes = dict[str, dict[str, Any]]

KINDS = "`lora`, `full`, `freeze`, `oft`, `boft`, `ia3`, `adalora`, `vera`, `loha`, `lokr`, `fourierft`, `hra`, `randlora`, `miss`, `shira`, `c3a`, `road`, `vblora`, `ln-tuning`, `prefix`, `prompt`, `p-tuning` or `lisa`"
"""The kinds of `[method]`, as findings list them."""


def minimal() -> dict[str, Any]:
    """Return the smallest valid data."""
    return {
        "run": {"output_dir": "out"},
        "model": {"path": "model"},
        "data": {"sources": [{"format": "alpaca", "path": "rows.json"}]},
        "method": {"type": "lora"},
        "batch": {"global_size": 8},
    }


def changed(**sections: Any) -> dict[str, Any]:
    """Return the smallest valid data with keys of its sections added or replaced."""
    data = minimal()
    for name, value in sections.items():
        is_table = isinstance(value, dict)
        data[name] = {**data.get(name, {}), **value} if is_table else value
    return data


def only(data: dict[str, Any]) -> Diagnostic:
    """Return the one finding in the data."""
    (found,) = structure(data).diagnostics
    assert found.level is Level.ERROR
    return found


def told(data: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Return code, message and helps of the one finding in the data."""
    found = only(data)
    return found.code, found.message, found.helps


def test_the_smallest_spec_is_accepted() -> None:
    """Five sections are enough; the others have their defaults."""
    result = structure(minimal())
    assert result.diagnostics == ()
    assert result.broken == frozenset()
    assert result.spec.method == Lora(type="lora")
    assert result.spec.template == TokenizerTemplate()
    assert result.spec.data.sources == (AlpacaSource(format="alpaca", path="rows.json"),)


def test_the_data_are_left_as_they_were() -> None:
    """Repairs happen in a copy."""
    data = changed(training={"steps": "16", "stepz": 1})
    before = repr(data)
    structure(data)
    assert repr(data) == before


# --- types -----------------------------------------------------------------------------------------------

NUMBER = "a number with a fraction"


@pytest.mark.parametrize(
    ("section", "key", "value", "message", "help_"),
    [
        (
            "training",
            "steps",
            "16",
            "is text, expected a whole number",
            "write `16` without quotes",
        ),
        ("training", "steps", "many", "is text, expected a whole number", None),
        ("training", "steps", True, "is `true`, expected a whole number", None),
        (
            "training",
            "steps",
            16.0,
            f"is {NUMBER}, expected a whole number",
            "write `16` without a fraction",
        ),
        ("training", "steps", 3.7, f"is {NUMBER}, expected a whole number", None),
        (
            "training",
            "learning_rate",
            "1e-4",
            "is text, expected a number",
            "write `0.0001` without quotes",
        ),
        ("training", "learning_rate", "inf", "is text, expected a number", None),
        ("training", "learning_rate", False, "is `false`, expected a number", None),
        ("data", "eval_rows", "0.1", "is text, expected a number", "write `0.1` without quotes"),
        (
            "data",
            "shuffle",
            "False",
            "is text, expected `true` or `false`",
            "write `false` without quotes",
        ),
        ("data", "shuffle", 0, "is a whole number, expected `true` or `false`", "write `false`"),
        ("run", "name", 5, "is a whole number, expected text", 'write `"5"` in quotes'),
        ("run", "name", ["a"], "is a list, expected text", None),
        ("run", "name", {}, "is a table, expected text", None),
        (
            "run",
            "name",
            datetime.date(2026, 1, 1),
            "is a date, expected text",
            'write `"2026-01-01"` in quotes',
        ),
        ("deepspeed", "zero_stage", True, "is `true`, expected `0`, `1`, `2` or `3`", None),
        (
            "deepspeed",
            "zero_stage",
            "2",
            "is text, expected `0`, `1`, `2` or `3`",
            "write `2` without quotes",
        ),
        (
            "method",
            "targets",
            3,
            "is a whole number, expected `all-linear` or a list of texts",
            None,
        ),
    ],
)
def test_a_value_of_another_type_is_refused(
    section: str, key: str, value: Any, message: str, help_: str | None
) -> None:
    """Nothing is converted, but the way to write what was meant is shown."""
    helps = () if help_ is None else (help_,)
    assert told(changed(**{section: {key: value}})) == (
        "T203",
        f"`{section}.{key}` {message}",
        helps,
    )
    result = structure(changed(**{section: {key: value}}))
    assert result.broken == {(section, key)}
    assert result.spec == structure(minimal()).spec


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    """`1` is a fine float, and `int | float` keeps the difference."""
    spec = structure(changed(training={"epochs": 3}, data={"eval_rows": 3})).spec
    assert type(spec.training.epochs) is float
    assert type(spec.data.eval_rows) is int
    assert type(structure(changed(data={"eval_rows": 0.5})).spec.data.eval_rows) is float


def test_list_elements_have_paths_of_their_own() -> None:
    """Each wrong element is a finding; the right ones stay."""
    result = structure(changed(method={"targets": ["q_proj", 1, "v_proj", True]}))
    assert [d.path for d in result.diagnostics] == [
        ("method", "targets", 1),
        ("method", "targets", 3),
    ]
    assert result.diagnostics[0].message == "`method.targets[1]` is a whole number, expected text"
    assert result.broken == {("method", "targets", 1), ("method", "targets", 3)}
    assert isinstance(result.spec.method, Lora)
    assert result.spec.method.targets == ("q_proj", "", "v_proj", "")


def test_a_section_written_as_a_value_or_list_is_refused() -> None:
    """The help shows the header with the right brackets."""
    assert told(changed(batch=3)) == (
        "T203",
        "`batch` is a whole number, expected a table",
        ("write a section `[batch]`",),
    )
    assert told(changed(method="lora"))[2] == ('write a section `[method]` with `type = "lora"`',)
    assert told(changed(training=[{}]))[2] == ("write `[training]`, with one bracket",)
    assert told(changed(data={"sources": {"path": "x"}})) == (
        "T203",
        "`data.sources` is a table, expected a list of tables",
        ("write `[[data.sources]]`, with two brackets",),
    )
    assert told(changed(data={"sources": "rows.json"}))[1:] == (
        "`data.sources` is text, expected a list of tables",
        (),
    )


# --- choices and kinds -----------------------------------------------------------------------------------


def test_a_value_outside_the_choices_lists_them() -> None:
    """The nearest choice is proposed."""
    assert told(changed(model={"hub": "hugginface"})) == (
        "T204",
        "`model.hub` is `hugginface`, expected `huggingface`, `modelscope` or `modelers`",
        ('write `"huggingface"`',),
    )
    assert told(changed(training={"precision": "BF16"}))[2] == ('write `"bf16"`',)
    assert told(changed(method={"targets": "all_linear"})) == (
        "T204",
        "`method.targets` is `all_linear`, expected `all-linear` or a list of texts",
        ('write `"all-linear"`',),
    )
    assert told(changed(deepspeed={"zero_stage": 4}))[0] == "T204"


def test_an_unknown_kind_lists_the_kinds() -> None:
    """The rest of the section is not judged, and no rule judges it either."""
    result = structure(changed(method={"type": "loar", "anything": 1}))
    (found,) = result.diagnostics
    assert (found.code, found.path) == ("T205", ("method", "type"))
    assert found.message == f"method type `loar` does not exist, expected {KINDS}"
    assert found.helps == ('write `"lora"`',)
    assert result.broken == {("method",)}


def test_a_kind_of_the_wrong_type_is_a_type_error() -> None:
    """A tag is text."""
    assert told(changed(method={"type": 1})) == (
        "T203",
        f"`method.type` is a whole number, expected {KINDS}",
        (),
    )


def test_a_tag_with_a_default_may_be_absent() -> None:
    """`[template]` alone means the tokenizer's template."""
    assert structure(changed(template={})).spec.template == TokenizerTemplate()


def test_a_missing_tag_is_asked_for() -> None:
    """The kind that knows the keys comes first."""
    data = changed(
        data={"sources": [{"format": "alpaca", "path": "a"}, {"path": "b", "messages": "m"}]}
    )
    found = only(data)
    assert (found.code, found.path) == ("T202", ("data", "sources", 1, "format"))
    assert found.message == "`data.sources[1].format` is missing: the kind of `[[data.sources]]`"
    (help_,) = found.helps
    assert help_.startswith(
        'add `format = "messages"`, `format = "sharegpt"`, `format = "alpaca"`, '
    )
    assert structure(data).broken == {("data", "sources", 1)}


def test_a_key_of_another_kind_is_told_apart_from_an_unknown_one() -> None:
    """The finding names both kinds and shows where this one was chosen."""
    found = only(changed(method={"type": "full", "rank": 8}))
    assert (found.code, found.path, found.on_key) == ("T206", ("method", "rank"), True)
    assert (
        found.message
        == "`rank` belongs to method type `lora`, `adalora`, `vera`, `loha`, `lokr`, `hra`, `randlora`, `miss`, `shira` or `vblora`, this is `full`"
    )
    assert [label.path for label in found.labels] == [("method", "type")]
    assert structure(changed(method={"type": "full", "rank": 8})).spec.method == Full(type="full")


def test_a_key_of_another_kind_without_a_written_tag_has_no_second_label() -> None:
    """A default tag has no place."""
    found = only(changed(template={"path": "x.jinja"}))
    assert found.message == "`path` belongs to template type `file`, this is `tokenizer`"
    assert found.labels == ()


# --- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "help_"),
    [
        ("training", "stpes", "a similar name is `steps`"),
        ("training", "learning-rate", "a similar name is `learning_rate`"),
        ("training", "learningRate", "a similar name is `learning_rate`"),
        ("training", "Steps", "a similar name is `steps`"),
        ("training", "rank_stabilized", "`rank_stabilized` belongs in `[method]`"),
        (
            "training",
            "every_steps",
            "`every_steps` belongs in `[evaluation]`, `[checkpoints]` or `[logging]`",
        ),
        ("training", "lora_rank", "here this is `rank` in `[method]`"),
        ("method", "lora_rank", "here this is called `rank`"),
        ("training", "bf16", 'here this is `training.precision = "bf16"`'),
        ("model", "audios", "`audios` belongs in `[[data.sources]]` or `[[data.eval_sources]]`"),
        ("run", "max_samples", "here this is `limit` in `[[data.sources]]`"),
        ("batch", "per_device_train_batch_size", "here this is called `micro_size`"),
    ],
)
def test_an_unknown_key_is_led_home(section: str, key: str, help_: str) -> None:
    """Misspelled, misplaced and foreign names are recognised."""
    found = only(changed(**{section: {key: 1}}))
    assert (found.code, found.path, found.on_key) == ("T201", (section, key), True)
    assert found.message == f"unknown key `{key}` in `[{section}]`"
    assert found.helps == (help_,)


def test_an_unknown_key_that_resembles_nothing_gets_the_list() -> None:
    """The known keys are a fact, so they are a note."""
    found = only(changed(batch={"zzz": 1}))
    assert found.helps == ()
    assert found.notes == (
        "the keys are `global_size`, `micro_size`, `accumulation_steps`, `micro_tokens`, `shrink_on_oom`",
    )


def test_unknown_keys_at_the_top_are_led_into_sections() -> None:
    """A bare key has left its section; a table is an unknown section."""
    assert told(changed(learning_rate=1e-4)) == (
        "T201",
        "unknown key `learning_rate` outside of any section",
        ("here this is `learning_rate` in `[training]`",),
    )
    assert told(changed(trainig={})) == (
        "T201",
        "unknown section `[trainig]`",
        ("a similar name is `[training]`",),
    )
    assert only(changed(nonsense=[{}])).message == "unknown section `[[nonsense]]`"


def test_a_misspelled_required_key_is_not_missing_as_well() -> None:
    """One mistake, one finding; the value that was meant counts as broken."""
    data = minimal()
    data["model"] = {"pth": "x"}
    result = structure(data)
    assert [d.code for d in result.diagnostics] == ["T201"]
    assert result.broken == {("model", "pth"), ("model", "path")}
    data = minimal()
    data["modle"] = data.pop("model")
    result = structure(data)
    assert [d.message for d in result.diagnostics] == ["unknown section `[modle]`"]
    assert result.broken == {("modle",), ("model",)}


def test_a_key_that_is_given_is_not_broken_by_a_misspelled_twin() -> None:
    """`steps` stands, whatever `stepz` was meant to be."""
    result = structure(changed(training={"steps": 5, "stepz": 6}))
    assert result.broken == {("training", "stepz")}
    assert result.spec.training.steps == 5


def test_an_enormous_key_is_shown_short() -> None:
    """Nothing is searched for, and the message stays readable."""
    found = only(changed(training={"x" * 100_000: 1}))
    assert len(found.message) < 120


def test_what_is_missing_is_named_with_its_meaning() -> None:
    """A key points to its section, a section to the start of the file."""
    data = minimal()
    data["model"] = {}
    del data["run"]
    del data["batch"]
    model, run, batch = sorted(structure(data).diagnostics, key=lambda d: len(d.path), reverse=True)
    assert (model.code, model.path) == ("T202", ("model", "path"))
    assert model.message == (
        "`model.path` is missing: folder in the Hugging Face layout (relative to the spec), "
        "or a hub id such as `org/name`"
    )
    assert model.helps == ('add `path = "..."`',)
    assert (run.path, run.message) == (("run",), "section `[run]` is missing: the run as a whole")
    assert run.helps == ('add `[run]` with `output_dir = "..."`',)
    assert (batch.path, batch.helps) == (("batch",), ("add `[batch]`",))


def test_all_errors_come_at_once_and_a_spec_comes_out() -> None:
    """Empty data name every required section."""
    result = structure({})
    assert {d.path for d in result.diagnostics} == {
        (n,) for n in ("run", "model", "data", "method", "batch")
    }
    assert isinstance(result.spec, Spec)
    data = changed(
        training={"steps": "x", "rank": 1, "schedule": "y"}, method={"type": "z"}, other=1
    )
    assert sorted(d.code for d in structure(data).diagnostics) == [
        "T201",
        "T201",
        "T203",
        "T204",
        "T205",
    ]


# --- tables of names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", renamed())
def test_foreign_names_lead_to_existing_keys(name: str) -> None:
    """Each target exists, and a target with a value is accepted."""
    target, _, value = renamed()[name].partition(" = ")
    assert list(classes_along(target))
    if value:
        section, key = target.split(".")
        assert structure(changed(**{section: {key: value.strip('"')}})).diagnostics == ()


def test_every_code_is_explained() -> None:
    """The table has a paragraph for each code."""
    assert list(CODES) == [f"T20{i}" for i in range(1, 8)]
    assert all(text.endswith(".") for text in CODES.values())


def test_paths_are_written_as_people_do() -> None:
    """Indices stand in brackets."""
    assert dotted(("data", "sources", 0, "path")) == "data.sources[0].path"
    assert dotted(()) == ""


def test_the_text_under_a_field_is_its_documentation() -> None:
    """Every field of every section is documented; line breaks are gone."""
    waiting: list[Any] = [Spec]
    seen: set[type] = set()
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        structure(minimal())
        assert field_docs(cls).keys() == attrs.fields_dict(cls).keys()
        waiting += [arm for field in attrs.fields(cls) for arm in _tables(field.type)]
    assert {AlpacaSource, MessagesSource, Full, Training} <= seen
    assert "\n" not in field_docs(Lora)["targets"]
    assert field_docs(int) == {}


def test_the_first_sentence_is_ready_for_a_message() -> None:
    """Lower case and no full stop, but names keep their capitals."""
    assert first_sentence("Peak rate. More.") == "peak rate"
    assert first_sentence("JSON file.") == "JSON file"
    assert first_sentence("A file.") == "a file"


# --- round trip ------------------------------------------------------------------------------------------


def _tables(type_: Any) -> list[type]:
    if isinstance(type_, type) and attrs.has(type_):
        return [type_]
    return [table for arm in get_args(type_) for table in _tables(arm)]


@settings(max_examples=60, deadline=None)
@given(specs())
def test_a_spec_survives_being_written_and_read(spec: Spec) -> None:
    """Plain data say everything a spec says."""
    result = structure(unstructure(spec))
    assert result.diagnostics == ()
    assert result.spec == spec


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: value is not None)


def _spoil(data: Any, junk: Any, choose: Any) -> Any:
    """Replace, add or remove something somewhere below."""
    if isinstance(data, dict) and data and choose.random() < 0.8:
        key = choose.choice(sorted(data))
        action = choose.randrange(6)
        if action == 0:
            return {name: value for name, value in data.items() if name != key}
        if action == 1:
            return {**data, choose.choice(["rank", "type", "path", "x-y", "steps"]): junk}
        return {**data, key: _spoil(data[key], junk, choose)}
    if isinstance(data, list) and data:
        place = choose.randrange(len(data))
        return [*data[:place], _spoil(data[place], junk, choose), *data[place + 1 :]]
    return junk


@settings(max_examples=100, deadline=None)
@given(specs(), st.lists(_ANY, max_size=4), st.randoms(use_true_random=False))
def test_any_data_give_a_spec_and_findings(spec: Spec, junk: list[Any], choose: Any) -> None:
    """However the data are spoiled: a spec comes out, and a broken path has a finding near it."""
    data: Any = unstructure(spec)
    for item in junk:
        data = _spoil(data, item, choose)
        if not isinstance(data, dict):
            data = {"x": data}
    result = structure(data)
    assert bool(result.broken) == bool(result.diagnostics)
    assert {d.code for d in result.diagnostics} <= CODES.keys()
    assert all(_touches(d.path, result.broken) for d in result.diagnostics)
    assert structure(unstructure(result.spec)).spec == result.spec


def _touches(path: SpecPath, broken: frozenset[SpecPath]) -> bool:
    return any(path[: len(one)] == one for one in broken)
