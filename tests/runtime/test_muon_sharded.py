"""Muon under ZeRO: the same training at every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
from tunec.runtime.training.optimizers.muon_sharded import muon_update

RUN = """
[method]
type = "full"
[optimizer]
type = "muon"
weight_decay = 0.1
newton_schulz_steps = 6
[training]
steps = 4
learning_rate = 1e-2
max_grad_norm = 0.0
[batch]
global_size = 4
micro_size = 2
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("muon"), tiny_model)


def run(room: Path, stage: int, name: str, *, torn: bool = False) -> dict[str, torch.Tensor]:
    """Return the final weights of a run at that stage, which may be interrupted."""
    run_dir = inprocess.compiled(room, f"{RUN}[deepspeed]\nzero_stage = {stage}\n", name)
    inprocess.prepare(run_dir)
    try:
        if torn:
            assert inprocess.train(run_dir, stop_after=2).stopped
        inprocess.train(run_dir, resume=torn)
    finally:
        unset_hf_deepspeed_config()  # models of later tests must not be sharded
    return load_file(run_dir / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def expected(room: Path) -> dict[str, torch.Tensor]:
    """The weights of a run without ZeRO, by torch's Muon."""
    return run(room, 0, "whole")


@pytest.mark.heavy
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stages(room: Path, expected: dict[str, torch.Tensor], stage: int) -> None:
    """DeepSpeed's Muon ends where torch's does, and goes on where it was stopped to the same bits."""
    found = run(room, stage, f"sharded-{stage}")
    start = load_file(room / "model" / "model.safetensors")
    for name, value in expected.items():
        # The iteration is computed in bf16 and lifts small singular values hundredfold: last bits become per cents.
        apart, went = (found[name] - value).norm(), (value - start[name]).norm()
        assert float(apart) < 0.05 * float(went), name
    again = run(room, stage, f"torn-{stage}", torn=True)
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_update() -> None:
    """A step of torch's Muon, by hand."""
    weight = torch.nn.Parameter(torch.randn(12, 20))
    gradients, momentum = [torch.randn(12, 20) for _ in range(3)], torch.zeros(12, 20)
    optimizer = torch.optim.Muon(
        [weight], lr=0.1, momentum=0.9, weight_decay=0.0, ns_steps=5, adjust_lr_fn="match_rms_adamw"
    )
    own = weight.detach().clone()
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        own -= 0.1 * muon_update(gradient, momentum, 0.9, steps=5, ns_method="gram")
    torch.testing.assert_close(own, weight.detach(), rtol=1e-3, atol=1e-4)
