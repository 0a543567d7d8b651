"""The structure of the model in the generated programs: the same wherever the model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from tunec.compiler import compile_spec, from_toml


def programs(workspace: Path, text: str) -> dict[str, str]:
    """Compile a spec over the base; return the programs that load a model."""
    spec = tiny.write_over(workspace / "spec.toml", text)
    run_dir = compile_spec(from_toml(spec), base_dir=workspace)
    return {name: (run_dir / f"{name}.py").read_text() for name in ("train", "chat", "export")}


def words(text: str) -> str:
    """The text without line breaks and indentation."""
    return " ".join(text.split())


ROPES = {
    '{ type = "yarn" }': '# 2,000 / 512 positions, rounded up rope=models.Rope( "yarn", factor=4.0, '
    "beta_fast=32.0, beta_slow=1.0, ),",
    '{ type = "linear", factor = 4.5 }': 'rope=models.Rope( "linear", factor=4.5, ),',
    '{ type = "llama3", factor = 8.0, low_freq_factor = 2.0 }': 'rope=models.Rope( "llama3", factor=8.0, '
    "low_freq_factor=2.0, high_freq_factor=4.0, ),",
}


@pytest.mark.parametrize("rope", ROPES)
def test_positions(workspace: Path, rope: str) -> None:
    """The factor is what the longest text needs, and every program stretches alike."""
    found = programs(workspace, f"[model]\nrope = {rope}\n[data]\nmax_length = 2000\n")
    for text in found.values():
        assert ROPES[rope] in words(text)


def test_positions_of_a_model_elsewhere(workspace: Path) -> None:
    """The length of a model that is not here is known when it is loaded."""
    text = '[model]\npath = "org/name"\nrope = { type = "linear" }\n[data]\nmax_length = 2000\n'
    for program in programs(workspace, text).values():
        assert 'rope=models.Rope( "linear", max_length=2000, ),' in words(program)


NUMERICS = """
[model]
fp32_norms = true
fp32_logits = true
[training]
precision = "bf16"
neftune_alpha = 5.0
deterministic = true
detect_anomalies = true
tf32 = true
empty_cache_steps = 10
offload_activations = true
gradient_checkpointing = true
[launch]
device = "{}"
"""


def test_numerics_on_a_gpu(workspace: Path) -> None:
    """Each switch is one call or argument, in the order in which they must come."""
    found = programs(workspace, NUMERICS.format("gpu"))
    train = words(found["train"])
    marks = [
        "models.set_numerics( deterministic=True, tf32=True, )",
        "fp32_norms=True, fp32_logits=True, ),",
        "models.add_lora(",
        "models.add_embedding_noise( model, alpha=5.0, )",
        "models.watch_overflow( model, )",
        "models.offload_activations( model, )",
        "training.fit(",
        "empty_cache_every=10,",
    ]
    places = [train.index(mark) for mark in marks]
    assert places == sorted(places)
    for name in ("chat", "export"):
        assert marks[1] in words(found[name])
        assert "noise" not in found[name]


def test_numerics_on_a_cpu(workspace: Path) -> None:
    """What is about GPUs leaves no trace in the program; `tunec check` says so."""
    train = words(programs(workspace, NUMERICS.format("cpu"))["train"])
    assert "models.set_numerics( deterministic=True, )" in train
    assert "offload_activations" not in train
    assert "empty_cache" not in train


def test_kernels(workspace: Path) -> None:
    """Other code comes after loading, compiled blocks at the end; attention has the library's name for it inside."""
    text = (
        '[model]\nattention = "flash2"\n[training]\nprecision = "bf16"\n[kernels]\nliger = true\n'
        "liger_ops = { rope = false, cross_entropy = false }\ncompile = true\n"
        'compile_mode = "max-autotune"\n[launch]\ndevice = "gpu"\n'
    )
    train = words(programs(workspace, text)["train"])
    marks = [
        'attention="flash2",',
        "models.use_liger( model, rope=False, )",
        "models.add_lora(",
        'models.compile_blocks( model, mode="max-autotune", )',
        "training.fit(",
    ]
    places = [train.index(mark) for mark in marks]
    assert places == sorted(places)
