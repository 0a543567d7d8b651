"""Rules: each docstring holds true, the wording of the findings that matter, and ranges for all numbers."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest

import tiny
from tunec.compiler.diagnostics import Diagnostic, Level
from tunec.compiler.pipeline import analyse
from tunec.compiler.report import render_text
from tunec.compiler.rules import RULES, Rule
from tunec.compiler.rules.bounds import ANY
from tunec.compiler.rules.ranges import RANGES
from tunec.compiler.rules.walk import kindless
from tunec.compiler.spec import Spec

NOT_YET = "N901"
"""Of settings that are checked, but not executed by this version."""
BLOCK = re.compile(r"^(Fails|Passes):\n```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(rule: Rule) -> dict[str, str]:
    """Return the TOML under `Fails:` and `Passes:`."""
    text = textwrap.dedent("    " + rule.explanation.lstrip())
    return dict(BLOCK.findall(text))


def by_code(rule: Rule) -> str:
    """Name a test case."""
    return rule.code


@pytest.mark.parametrize("rule", RULES, ids=by_code)
def test_the_failing_example_fails(
    rule: Rule, found: Callable[..., tuple[Diagnostic, ...]]
) -> None:
    """The first block of a rule's explanation gives its code, and no error of another one."""
    findings = found(blocks(rule)["Fails"])
    assert rule.code in {item.code for item in findings}
    errors = {item.code for item in findings if item.level is Level.ERROR}
    assert errors <= {rule.code, NOT_YET}


@pytest.mark.parametrize("rule", RULES, ids=by_code)
def test_the_passing_example_passes(
    rule: Rule, found: Callable[..., tuple[Diagnostic, ...]]
) -> None:
    """The second block of a rule's explanation is sound: nothing from this rule, and no error at all."""
    findings = found(blocks(rule)["Passes"])
    assert rule.code not in {item.code for item in findings}
    errors = {item.code for item in findings if item.level is Level.ERROR}
    assert errors <= {NOT_YET}


@pytest.mark.parametrize("rule", RULES, ids=by_code)
def test_findings_are_well_formed(rule: Rule, found: Callable[..., tuple[Diagnostic, ...]]) -> None:
    """A finding of a rule stands alone: lower case or a name first, no full stop, and a path of the spec."""
    for item in found(blocks(rule)["Fails"]):
        for text in (item.message, item.label, *item.notes, *item.helps):
            assert not text.endswith("."), text
            assert text[:1] == text[:1].lower() or text.startswith("Python"), text
        assert item.offsets is not None or item.path[0] in attrs.fields_dict(Spec)


def test_the_base_is_sound(found: Callable[..., tuple[Diagnostic, ...]]) -> None:
    """What the examples are laid over has no findings of its own."""
    assert found("") == ()


def test_codes_are_unique_and_stable() -> None:
    """A code is a letter and three digits, used once; a name is short and lower case, used once."""
    codes = [rule.code for rule in RULES]
    names = [rule.name for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z]\d{3}", code) for code in codes)
    assert all(name and name[0] != " " and not name.endswith(".") for name in names)
    # Abbreviations such as ZeRO and CPU keep their spelling.
    assert all(word.islower() or word in ("ZeRO", "CPU") for n in names for word in n.split())


def test_without_facts_only_the_spec_is_looked_at(
    found: Callable[..., tuple[Diagnostic, ...]],
) -> None:
    """`--no-facts` finds what is wrong in the text and says nothing about files that are not there."""
    findings = found('[model]\npath = "no/such/model"\n[training]\nsteps = 0\n', with_facts=False)
    assert [item.code for item in findings] == ["T210"]


def test_a_useless_value_is_reported_once(found: Callable[..., tuple[Diagnostic, ...]]) -> None:
    """A number out of range or an empty path gives no second finding from rules that compute with it."""
    assert [i.code for i in found("[batch]\nglobal_size = 6\nmicro_size = -4\n")] == ["T210"]
    assert [i.code for i in found("[batch]\nglobal_size = 0\nmicro_size = 4\n")] == ["T210"]
    assert [i.code for i in found('[run]\noutput_dir = ""\n')] == ["T213"]
    assert [i.code for i in found('[model]\npath = ""\n')] == ["T213"]


# --- wording ---------------------------------------------------------------------------------------------

WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "batch": (
        "[batch]\nglobal_size = 6\nmicro_size = 4\n",
        "R811",
        "6 samples do not divide: 6 / (4 x 1) = 1.5, which is no whole `accumulation_steps`",
        ("use a `global_size` of 4 or 8",),
    ),
    "batch on two processes": (
        "[batch]\nglobal_size = 10\naccumulation_steps = 3\n[launch]\nprocesses = 2\n",
        "R811",
        "10 samples do not divide: 10 / (3 x 2) = 1.667, which is no whole `micro_size`",
        ("use a `global_size` of 6 or 12",),
    ),
    "batch smaller than a pass": (
        "[batch]\nglobal_size = 4\nmicro_size = 4\n[launch]\nprocesses = 2\n",
        "R811",
        "4 samples do not divide: 4 / (4 x 2) = 0.5, which is no whole `accumulation_steps`",
        ("use a `global_size` of 8",),
    ),
    "batch contradicts": (
        "[batch]\nglobal_size = 8\nmicro_size = 2\naccumulation_steps = 2\n",
        "R812",
        "2 x 2 x 1 = 4, not 8",
        ("leave one of them out, it follows from the others",),
    ),
    "target": (
        '[method]\ntargets = ["quary"]\n',
        "A801",
        "no module of the model is called `quary`",
        (
            "its linear modules are `down_proj`, `gate_proj`, `k_proj`, `o_proj`, `q_proj`, `up_proj`, `v_proj`",
        ),
    ),
    "gguf": (
        '[model]\npath = "model.gguf"\n',
        "M601",
        "`model.gguf` is a GGUF file, which cannot be trained as it is",
        ("turn it into a folder once: `tunec fetch FILE.gguf FOLDER`, and name that folder",),
    ),
    "missing model": (
        '[model]\npath = "models/none"\n',
        "M601",
        "there is no folder `models/none`, and it is no hub id",
        ("fetch one with `tunec fetch SOURCE FOLDER` (a GGUF file, a folder or a hub id)",),
    ),
    "row": (
        '[[data.sources]]\nformat = "messages"\npath = "data/bad.jsonl"\n',
        "D702",
        "row at `data/bad.jsonl:3`: message 1 is from `assistant`, expected `user`",
        ("after an optional system message, user and assistant take turns",),
    ),
    "column": (
        '[[data.sources]]\nformat = "alpaca"\npath = "data/chat.jsonl"\n',
        "D702",
        "row at `data/chat.jsonl:1`: the row has no column `instruction`",
        ("columns of this row: `messages`",),
    ),
    "data missing": (
        '[[data.sources]]\nformat = "messages"\npath = "data/none.jsonl"\n',
        "D701",
        "there is no data file `data/none.jsonl`",
        (),
    ),
    "output is a file": (
        '[run]\noutput_dir = "data/chat.jsonl"\n',
        "F301",
        "`data/chat.jsonl` is a file, not a folder",
        ("name another folder",),
    ),
    "output below a file": (
        '[run]\noutput_dir = "data/chat.jsonl/run"\n',
        "F301",
        "`data/chat.jsonl/run` cannot be made: `chat.jsonl` is a file",
        ("name another folder",),
    ),
    "output is the spec's folder": (
        '[run]\noutput_dir = "."\n',
        "F302",
        "`.` is the spec's own folder, or one around it",
        ("give the run a folder of its own, such as `runs/first`",),
    ),
    "output is somebody's": (
        '[run]\noutput_dir = "other"\n',
        "F303",
        "`other` holds files of something else",
        ("name an empty or a new folder",),
    ),
    "held out": (
        "[data]\neval_rows = 24\n",
        "D705",
        "`data.eval_rows` is 24, the training data has 24 rows",
        ("leave rows to train on",),
    ),
    "share held out": (
        "[data]\neval_rows = 0.99\n",
        "D705",
        "`data.eval_rows` is 0.99, the training data has 24 rows",
        ("leave rows to train on",),
    ),
    "range": (
        "[method]\nrank = 0\n",
        "T210",
        "`method.rank` is 0, allowed is at least 1",
        (),
    ),
    "length": (
        "[data]\nmax_length = 1024\n",
        "M606",
        "`data.max_length` is 1,024, the model has 512 positions",
        ("set it to 512 or less",),
    ),
}


@pytest.mark.parametrize("case", WORDINGS, ids=[name.replace(" ", "-") for name in WORDINGS])
def test_wording(case: str, only: Callable[[str], Diagnostic]) -> None:
    """The findings users meet most say the cause with its numbers, and the way out in the help."""
    text, code, message, helps = WORDINGS[case]
    finding = only(text)
    assert (finding.code, finding.message, finding.helps) == (code, message, helps)


def test_truncated_weights_name_both_sizes(folder: Path, only: Callable[[str], Diagnostic]) -> None:
    """A download that stopped half-way is told by the length the header promises."""
    size = (folder / "torn-model" / "model.safetensors").stat().st_size
    finding = only('[model]\npath = "torn-model"\n')
    assert finding.code == "M602"
    assert finding.message == (
        f"the weights of `torn-model` cannot be used: "
        f"model.safetensors is truncated: {size:,} bytes, {size + 100:,} expected"
    )


def test_a_bad_row_is_shown_at_its_place(folder: Path) -> None:
    """The report of a bad row leads to file and line, and shows the row."""
    spec = tiny.write_over(
        folder / "spec.toml", '[[data.sources]]\nformat = "messages"\npath = "data/bad.jsonl"\n'
    )
    analysis = analyse(spec, {})
    report = render_text(analysis.diagnostics, analysis.source, color=False, width=100)
    assert f"--> {folder / 'data' / 'bad.jsonl'}:3:1" in report
    assert f"3 | {tiny.BAD_ROW}" in report


def test_batch_arithmetic_is_shown_at_its_places(folder: Path) -> None:
    """The report of a batch that does not divide shows each of its numbers where it stands."""
    spec = folder / "spec.toml"
    spec.write_text(
        '[run]\noutput_dir = "r"\n[model]\npath = "model"\n[method]\ntype = "lora"\n'
        '[data]\nmax_length = 99\nsources = [{ format = "messages", path = "data/chat.jsonl" }]\n'
        '[training]\nprecision = "fp32"\n[batch]\nglobal_size = 6\nmicro_size = 4\n'
        '[launch]\nprocesses = 1\ndevice = "cpu"\n'
    )
    analysis = analyse(spec, {})
    report = render_text(analysis.diagnostics, analysis.source, color=False, width=100)
    assert "global_size = 6\n   |               ^ 6 samples a step" in report
    assert "micro_size = 4\n   |              - 4 each" in report
    assert "processes = 1\n   |             - 1 process" in report


def test_a_link_that_leads_nowhere_is_named(
    folder: Path, only: Callable[[str], Diagnostic]
) -> None:
    """A run folder behind a dangling link (an unmounted disk) is refused before anything is written."""
    link = folder / "scratch"
    link.symlink_to(folder / "not-mounted")
    try:
        finding = only('[run]\noutput_dir = "scratch/run"\n')
    finally:
        link.unlink()
    assert (finding.code, finding.message) == (
        "F301",
        "`scratch/run` cannot be made: `scratch` is a link that leads nowhere",
    )


def test_a_tokenizer_needs_no_model(
    folder: Path, tmp_path: Path, found: Callable[..., tuple[Diagnostic, ...]]
) -> None:
    """A folder with a tokenizer alone is a fine `tokenizer.path`; what it lacks is reported there."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "model" / name, tokenizer)
    (finding,) = found('[tokenizer]\npath = "tokenizer"\n')
    assert (finding.code, finding.path) == ("M604", ("tokenizer", "path"))
    shutil.copy(folder / "model" / "chat_template.jinja", tokenizer)
    assert found('[tokenizer]\npath = "tokenizer"\n') == ()


@pytest.mark.parametrize(
    "name", ["a\u202eb", "a\nb", "a\tb", "a\x7fb", "a\x9bb", "a\u2028b", "a\u061cb"]
)
def test_invisible_characters_are_refused(
    name: str, found: Callable[..., tuple[Diagnostic, ...]]
) -> None:
    """Control characters, line separators and direction marks stand in no name and no path."""
    findings = found(tiny.to_toml({"run": {"name": name}}))
    assert [item.message for item in findings if item.level is Level.ERROR] == [
        f"`run.name` holds the invisible character U+{ord(name[1]):04X}"
    ]


@pytest.mark.parametrize(
    "name", ["früh 1", "名前", "👩‍👩‍👧", 'it\'s "quoted"', "a#b", "-x", "{{ x }}"]
)
def test_every_script_is_welcome(name: str, found: Callable[..., tuple[Diagnostic, ...]]) -> None:
    """Letters of any script, emoji with joiners, quotes and marks are names like any other."""
    assert found(tiny.to_toml({"run": {"name": name}})) == ()


# --- ranges ----------------------------------------------------------------------------------------------


def number_fields() -> set[str]:
    """Return every setting of the spec that may be a number, the way ranges are addressed."""
    return set(_numbers(Spec, ""))


def _numbers(type_: Any, name: str) -> Iterator[str]:
    if attrs.has(type_):
        hints = get_type_hints(type_)
        for field in attrs.fields(type_):
            yield from _numbers(hints[field.name], f"{name}.{field.name}".removeprefix("."))
    elif type_ in (int, float):
        yield name
    elif getattr(type_, "__origin__", None) is tuple:
        yield from _numbers(get_args(type_)[0], f"{name}.*")
    elif getattr(type_, "__origin__", None) is dict:
        yield from _numbers(get_args(type_)[1], f"{name}.*")
    else:
        for arm in get_args(type_):
            if isinstance(arm, type) or get_args(arm):
                yield from _numbers(arm, name)


def test_every_number_has_a_range() -> None:
    """No number of the spec goes unchecked, and no range is about a setting that is gone."""
    plain = {name for name in RANGES if "[" not in name}
    assert plain == number_fields()
    assert {kindless(name) for name in RANGES} == plain


BASIC = [
    name
    for name in RANGES
    if name.count(".") == 1
    and "*" not in name
    and name.split(".")[0] in ("data", "training", "batch", "evaluation", "deepspeed", "generation")
]


@pytest.mark.parametrize("setting", sorted(BASIC))
def test_a_number_far_out_of_range_is_refused(
    setting: str, found: Callable[..., tuple[Diagnostic, ...]]
) -> None:
    """Each number of the sections that come in one kind has a value that is refused, by its name."""
    section, key = setting.split(".")
    findings = found(f"[{section}]\n{key} = -77\n", with_facts=False)
    assert f"`{setting}` is -77" in " ".join(i.message for i in findings if i.code == "T210")


@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_range_allows_some_numbers_and_refuses_others(name: str) -> None:
    """Every range but that of options handed on holds some number and refuses some."""
    tried = (-1e9, -1, 0, 1e-3, 0.3, 1, 2, 8, 64, 20_000, 1e9, 1e40)
    held = {RANGES[name].holds(number) for number in tried}
    assert held == ({True} if RANGES[name] is ANY else {True, False})
