"""No input ends in a traceback, breaks out of TOML, or lets a secret through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from importing import convert, loaded, read
from tunec.compiler.importers.deepspeed import is_deepspeed
from tunec.compiler.importers.homes import DATASET_INFO, DEEPSPEED, entries
from tunec.compiler.importers.importer import import_files, import_words
from tunec.compiler.importers.reading import ImportFault
from tunec.compiler.importers.report import render_report

WORDS = [
    "ONLINE",
    "REMOTE:x",
    "all",
    "lora",
    "full",
    "ppo",
    "dpo",
    "kto",
    "rm",
    "pt",
    "simpo",
    "auto",
    "true",
    "none",
    "-1",
]
TEXT = st.one_of(
    st.sampled_from(
        [*WORDS, "one,two", "steps", "epoch", "1e400", "nan", "{", '{"a": 1}', "[1", "wandb"]
    ),
    st.text(max_size=12),
    st.sampled_from(['"\n[evil]\nx = 1', "# \r\n\x00\x7f\u2028\u202e", "a\tb", "'''", '"""', "\\"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SECRETS = ("hf_hub_token", "ms_hub_token", "hub_token", "swanlab_api_key", "swanlab_lark_secret")


def names(table: Any) -> st.SearchStrategy[str]:
    """Draw known names, and sometimes any."""
    return st.one_of(st.sampled_from(sorted(table)), st.sampled_from(sorted(table)), TEXT)


@QUICK
@given(st.dictionaries(names(entries()), VALUES, min_size=1, max_size=14))
def test_any_configuration_becomes_a_spec(values: dict[str, Any]) -> None:
    """Whatever the values, the TOML parses, structures and is the same each time."""
    values = {"do_train": True, **values}
    imported = convert(values)
    read(imported)
    assert imported == convert(values)
    assert all(line.isprintable() for line in render_report(imported.remarks).splitlines())


@QUICK
@given(st.sampled_from(["axolotl", "trl"]), st.data())
def test_any_configuration_of_others_becomes_a_spec(trainer: str, data: st.DataObject) -> None:
    """The same for the other trainers."""
    from tunec.compiler.importers.homes.axolotl import AXOLOTL
    from tunec.compiler.importers.homes.trl import TRL

    table = AXOLOTL if trainer == "axolotl" else TRL
    values = data.draw(st.dictionaries(names(table), VALUES, min_size=1, max_size=14))
    read(convert({"seed": 1, **values}, trainer=trainer))


@QUICK
@given(
    st.dictionaries(
        TEXT,
        st.dictionaries(
            st.one_of(
                st.sampled_from(["file_name", "formatting", "columns", "tags", "ranking"]), TEXT
            ),
            st.one_of(
                VALUES,
                st.dictionaries(
                    names({k.split(".")[-1] for k in DATASET_INFO}), VALUES, max_size=4
                ),
            ),
            max_size=4,
        ),
        max_size=3,
    )
)
def test_any_registry_becomes_sources(registry: dict[str, Any]) -> None:
    """Entries of a registry, however odd, become sources."""
    for entry in registry.values():
        entry.setdefault("file_name", "rows.json")
    run = loaded("run.yaml", {"dataset": list(registry) or ["x"], "stage": "sft"})
    read(import_files([run, loaded("dataset_info.json", registry)], "llamafactory"))
    if registry:
        tomli.loads(import_files([loaded("dataset_info.json", registry)]).text)


@QUICK
@given(st.dictionaries(names(DEEPSPEED), VALUES, max_size=10))
def test_any_deepspeed_configuration_becomes_sections(flat: dict[str, Any]) -> None:
    """So do settings of DeepSpeed, alone or named by a run."""
    nested: dict[str, Any] = {"zero_optimization": {}}
    for key, value in flat.items():
        table = nested
        *outer, last = key.split(".")
        for name in outer:
            table = (
                table[name]
                if isinstance(table.get(name), dict)
                else table.setdefault(f"{name}_", {})
            )
        table[last] = value
    if is_deepspeed(nested):
        tomli.loads(import_files([loaded("ds.json", nested)]).text)
    read(convert({"model_name_or_path": "m", "deepspeed": "ds.json"}, loaded("ds.json", nested)))


@QUICK
@given(
    st.lists(
        st.one_of(TEXT, st.sampled_from(["--stage", "--dataset", "--bf16", "-x", "--a=b"])),
        max_size=8,
    )
)
def test_any_command_becomes_a_spec(words: list[str]) -> None:
    """Words after a trainer's name are values or a one-line fault."""
    fault = ""
    try:
        read(import_words(["llamafactory-cli", "train", "--stage", "sft", *words]))
    except ImportFault as found:
        fault = str(found)
    assert fault.isprintable()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["run.yaml", "run.json", "run.sh", "run"]), st.text() | st.binary())
def test_any_file_becomes_a_spec_or_a_fault(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    """Files that are no configuration end in one line."""
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    fault = ""
    try:
        tomli.loads(import_words([str(path)]).text)
    except ImportFault as found:
        fault = str(found)
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [1, 2\nb: 3", "a.yaml:2:2: no YAML: expected ',' or ']'"),
        ("a.yaml", "a: &x [*x]", "more than a configuration"),
        ("a.yaml", "a: " + "[" * 3000, "a.yaml"),
        ("a.yaml", "a: 2024-13-45", "no YAML: month must be in 1..12"),
        (
            "a.yaml",
            "!!python/object/apply:os.system ['false']",
            "could not determine a constructor",
        ),
        ("a.yaml", "- a\n- b", "names with values belong in the file"),
        ("a.yaml", "", "names with values belong in the file"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "a.yaml:3:1: no YAML: the key `a` stands twice"),
        ("a.json", '{"a": 1, "a": 2}', "a.json: no JSON: the key `a` stands twice"),
        ("a.json", '{"a": 1,}', "a.json:1:9: no JSON: illegal trailing comma"),
        ("a.json", '{"a": ' + "[" * 100_000, "a.json: no JSON"),
        ("a.sh", "echo hello", "no command of a trainer"),
        ("a.sh", "llamafactory-cli train --a 'b", "a.sh:1: a quote is not closed"),
        ("a.sh", "lmf train --a 1\nlmf train --a 2", "2 commands of a trainer"),
        ("a.yaml", None, "the file does not exist"),
    ],
)
def test_malformed_files_end_in_one_line(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    """A fault names the file, and line and column where the parser gives them."""
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ImportFault) as fault:
        import_words([name])
    assert message.split(": illegal")[0] in str(fault.value)
    assert str(fault.value).isprintable()


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_never_written(name: str) -> None:
    """A secret is neither in the spec nor in the report; the report says which variable to set."""
    imported = convert(
        {name: "s3cr3t", "use_swanlab": True, "push_to_hub": True, "hub_model_id": "a/b"}
    )
    report = render_report(imported.remarks)
    assert "s3cr3t" not in imported.text + report
    assert "export " in report


def test_values_cannot_break_out() -> None:
    """Newlines and quotes stay inside of text and comments."""
    evil = '"\n[evil]\nx = 1\n# \x00'
    imported = convert(
        {"model_name_or_path": evil, "dataset": [evil], evil: evil, "run_name": evil}
    )
    assert "evil" not in read(imported)
    assert read(imported)["model"]["path"] == evil


def test_secrets_of_scripts_are_not_told(tmp_path: Path) -> None:
    """A script's variables are reported by name; those that look like secrets without their value."""
    (tmp_path / "run.sh").write_text(
        "HF_TOKEN=s3cr3t\nMODEL=org/m\n"
        "lmf train --hf_hub_token $HF_TOKEN --hub_token s3cr3t$X --model_name_or_path ${MODEL}\n"
    )
    imported = import_words(["run.sh"])
    report = render_report(imported.remarks)
    assert "s3cr3t" not in imported.text + report
    assert "the script sets it to org/m" in report


@pytest.mark.parametrize(
    "settings",
    [
        {"reward_model": "http://me:s3cr3t@host/", "stage": "ppo", "reward_model_type": "api"},
        {"model_name_or_path": "https://me:s3cr3t@host/org/m"},
        {"ray_init_kwargs": {"runtime_env": {"WANDB_API_KEY": "s3cr3t"}}, "ray_num_workers": 2},
        {"vllm_config": '{"api_key": "s3cr3t"}', "infer_backend": "vllm"},
        {"output_dir": "http://me:s3cr3t@host/", "push_to_hub": True},
        {"dataset": "http://me:s3cr3t@host/"},
        {"deepspeed": "http://me:s3cr3t@host/"},
        {"wandb_api_key": "s3cr3t"},
    ],
)
def test_passwords_inside_of_values_are_not_written(settings: dict[str, Any]) -> None:
    """Addresses with passwords and options that are named like secrets stay out, with a line that says so."""
    imported = convert(settings)
    assert "s3cr3t" not in imported.text + render_report(imported.remarks)
    read(imported)
