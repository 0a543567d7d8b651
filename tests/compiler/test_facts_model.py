"""Facts about models, tokens, adapters and packages: read without torch, and whatever the files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from tunec.compiler.facts import gather
from tunec.compiler.facts.adapters import read_adapter
from tunec.compiler.facts.config import (
    Quantized,
    num_experts,
    num_layers,
    quantized,
    rope_kind,
    sees_or_hears,
    shows_rope,
    text_part,
)
from tunec.compiler.facts.model import ModelFacts, read_model
from tunec.compiler.facts.tokens import read_vocabulary
from tunec.compiler.facts.versions import Need, installed
from tunec.compiler.pipeline import analyse
from tunec.compiler.rules.versions import check_installed

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = st.sampled_from(
    (
        "quantization_config",
        "text_config",
        "rope_scaling",
        "rope_parameters",
        "auto_map",
        "bits",
        "num_experts",
        "num_hidden_layers",
        "vocab_size",
        "model_type",
        "architectures",
        "quant_method",
        "tie_word_embeddings",
        "vision_config",
        "load_in_4bit",
        "rope_type",
        "max_position_embeddings",
    )
)


@given(st.dictionaries(KEYS, ANY_JSON | st.dictionaries(KEYS, ANY_JSON, max_size=4), max_size=8))
def test_a_configuration_may_hold_anything(config: dict[str, Any]) -> None:
    """No value of a configuration makes a reader fail: what is of another type is not there."""
    facts = ModelFacts("folder", config=config)
    for name in dir(ModelFacts):
        if isinstance(getattr(ModelFacts, name), property):
            getattr(facts, name)
    assert rope_kind(config) is None or isinstance(rope_kind(config), str)
    assert (shows_rope(config), sees_or_hears(config)) <= (True, True)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, Quantized("gptq", 4)),
        ({"quant_method": "AWQ", "w_bit": 4}, Quantized("awq", 4)),
        ({"load_in_4bit": True}, Quantized("bitsandbytes", 4)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Quantized("bitsandbytes", 8)),
        ({"quant_method": "fp8"}, Quantized("fp8")),
        ("gptq", None),
        (None, None),
    ],
)
def test_quantized_checkpoints_are_recognised(entry: Any, expected: Quantized | None) -> None:
    """Method and bits are read under the names that libraries use, from the whole model or its language part."""
    assert quantized({"quantization_config": entry}) == expected
    assert quantized({"text_config": {"quantization_config": entry}}) == expected


def test_the_language_part_of_a_multimodal_model_is_found() -> None:
    """Numbers of the language model may be nested, and a vision part tells that it sees."""
    config = {"vision_config": {}, "text_config": {"num_hidden_layers": 3, "num_experts": 8}}
    assert (num_layers(config), num_experts(config), sees_or_hears(config)) == (3, 8, True)
    assert text_part({"num_hidden_layers": 2}) == {"num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "llama3"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, None),
        ({"rope_scaling": {"type": "mrope"}}, None),
        ({"rope_scaling": None}, None),
        ({}, None),
    ],
)
def test_scaled_positions_are_recognised(config: dict[str, Any], kind: str | None) -> None:
    """Old and new names of the entry are read; what scales nothing is none."""
    assert rope_kind(config) == kind


def test_tokens_are_read_from_every_kind_of_vocabulary(tmp_path: Path) -> None:
    """BPE lists tokens by name, Unigram by place; added tokens come on top, and holes count as rows."""
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [
        {"content": "<x>", "id": 9}, {"content": 3}, "no"]}))  # fmt: skip
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary is not None
    assert (vocabulary.size, "<x>" in vocabulary, "c" in vocabulary) == (10, True, False)
    file.write_text(json.dumps({"model": {"vocab": [["▁a", -1.0], ["b", -2.0], []]}}))
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary is not None
    assert vocabulary.ids == {"▁a": 0, "b": 1}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', '{"model": {"vocab": 1}}', "\0"])
def test_a_broken_vocabulary_is_unknown(text: str, tmp_path: Path) -> None:
    """A tokenizer file that cannot be understood gives no tokens and no error."""
    (tmp_path / "tokenizer.json").write_text(text)
    assert read_vocabulary(tmp_path) is None


def test_adapters_are_read(tmp_path: Path) -> None:
    """Kind, rank, base and targets come from the configuration; weights are only looked for."""
    tiny.write_adapter(tmp_path / "a", target_modules=["v_proj", "q_proj"])
    adapter = read_adapter(tmp_path, "a")
    assert (adapter.state, adapter.kind, adapter.rank) == ("folder", "lora", 4)
    assert (adapter.base, adapter.targets) == ("model", ("q_proj", "v_proj"))
    assert not adapter.has_score_head
    tiny.write_adapter(tmp_path / "r", modules_to_save=["classifier", "score"])
    assert read_adapter(tmp_path, "r").has_score_head
    tiny.write_adapter(tmp_path / "b" / "inner", peft_type="PREFIX_TUNING")
    assert read_adapter(tmp_path, "b").state == "no-config"
    assert read_adapter(tmp_path, "b", "inner").kind == "prefix"


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("none", "missing"),
        ("./org/none", "missing"),
        ("org/none", "hub"),
        ("file", "file"),
        ("empty", "no-config"),
        ("broken", "bad-config"),
        ("light", "no-weights"),
        ("a\0b", "missing"),
        ("x" * 5000, "impossible"),
    ],
)
def test_what_is_no_adapter_is_told_apart(path: str, state: str, tmp_path: Path) -> None:
    """Each way in which an adapter can fail to be there has a name."""
    (tmp_path / "file").write_text("")
    for name in ("empty", "broken", "light"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("[1")
    (tmp_path / "light" / "adapter_config.json").write_text('{"r": 8}')
    assert read_adapter(tmp_path, path).state == state


def test_modules_of_a_model_are_read_once(tiny_model: Path) -> None:
    """The linear modules are looked for at the first question and kept, because several rules ask."""
    model = read_model(tiny_model.parent, tiny_model.name)
    assert model.linear_modules() is model.linear_modules()
    assert (model.model_type, model.num_layers, model.is_tied) == ("llama", 2, True)
    assert model.embedding_rows == 379


def test_versions_are_those_installed_here() -> None:
    """A package that is here has its version, another one has none."""
    found = installed([Need("attrs", ("model",)), Need("no-such-package", ("model",))])
    assert found["no-such-package"] is None
    assert found["attrs"] is not None


def test_tokens_are_read_only_when_the_spec_asks(workspace: Path) -> None:
    """The file of a tokenizer is large: a spec that says nothing about tokens does not open it."""
    plain = analyse(tiny.write_spec(workspace / "a.toml", ""), {}).spec
    text = '[tokenizer]\nadd_tokens = ["<a>"]\n'
    asking = analyse(tiny.write_spec(workspace / "b.toml", text), {}).spec
    assert plain is not None
    assert asking is not None
    assert gather(plain, workspace / "a.toml", {}).vocabulary is None
    assert gather(asking, workspace / "b.toml", {}).vocabulary is not None


@pytest.mark.parametrize(
    ("version", "least", "message"),
    [
        (None, None, "the package `p` is not installed here"),
        ("0.45.9", "0.46.1", "`p` 0.45.9 is installed here, 0.46.1 is needed"),
        ("0.46.1.post2", "0.46.1", None),
        ("1.0rc1", "0.46.1", None),
        ("dev", "0.46.1", "`p` dev is installed here, 0.46.1 is needed"),
        ("0.1", None, None),
    ],
)
def test_packages_are_missing_or_too_old(
    version: str | None, least: str | None, message: str | None, workspace: Path
) -> None:
    """A version counts by its numbers; what is enough gives no finding."""
    file = tiny.write_spec(workspace / "spec.toml", "")
    spec = analyse(file, {}).spec
    assert spec is not None
    facts = attrs.evolve(
        gather(spec, file, {}), needs=(Need("p", ("model",), least),), versions={"p": version}
    )
    found = [item.message for item in check_installed(spec, facts)]
    assert found == ([] if message is None else [message])
