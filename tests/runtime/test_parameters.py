"""What the log says about parameters: sums that are right, kinds that a reader knows."""

from __future__ import annotations

from pathlib import Path

import pytest

import runs
from tunec.runtime import models
from tunec.runtime.models.parameters import list_of, table_of


def test_full_training(tiny_model: Path) -> None:
    """All is trained; norms and projections of both blocks are one line each."""
    model = models.train_all(models.load_causal_lm(tiny_model, dtype="fp32"))
    found = [line.split() for line in table_of(model)]
    assert found[0] == ["parameters", "trained", "frozen", "format"]
    assert ["q_proj", "2,048", "-", "float32"] in found
    assert ["input_layernorm", "64", "-", "float32"] in found
    total = sum(int(row[1].replace(",", "")) for row in found[1:])
    assert total == sum(parameter.numel() for parameter in model.parameters())


def test_adapters(tiny_model: Path) -> None:
    """Frozen weights and the adapters on them are told apart, by name and by format."""
    model = models.load_causal_lm(tiny_model, dtype="bf16")
    model = models.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj"])
    found = [line.split() for line in table_of(model)]
    assert ["q_proj", "-", "2,048", "bfloat16"] in found
    assert ["q_proj", "lora_A", "256", "-", "float32"] in found
    assert ["q_proj", "lora_B", "256", "-", "float32"] in found


def test_every_parameter(tiny_model: Path) -> None:
    """One line each, with shape, format, device, and whether it is trained."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    model.model.norm.weight.requires_grad_(False)
    lines = list(list_of(model))
    assert len(lines) == len(list(model.parameters()))
    assert "  model.norm.weight: 32 float32 on cpu, frozen" in lines
    assert "  model.layers.1.self_attn.k_proj.weight: 16x32 float32 on cpu, trained" in lines


@pytest.mark.heavy
def test_in_the_log_of_a_run(workspace: Path) -> None:
    """The table is in every log, the list where it is asked for; sizes are whole also where ZeRO-3 spreads them."""
    text = '[training]\nsteps = 1\n[method]\ntype = "lora"\nrank = 4\n[logging]\nparameters = true\n[deepspeed]\nzero_stage = 3\n'
    done = runs.launch(runs.compile_spec(workspace, text))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert any(row[:3] == ["q_proj", "-", "2,048"] for row in rows)
    assert "self_attn.k_proj.base_layer.weight: 16x32 float32 on cpu, frozen" in done.stdout
