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
    "high_freq_factor=4.0, low_freq_factor=2.0, ),",
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
