"""Optimizers that are computed on the host under ZeRO, and those of torchao in few bits, by the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
import runs
from tunec.runtime import training
from tunec.runtime.extensions import ensure_built, extensions_dir

pytestmark = pytest.mark.heavy
RUN = """
[method]
type = "full"
[training]
steps = 4
learning_rate = 1e-3
[batch]
global_size = 4
micro_size = 2
"""
OFFLOAD = '[deepspeed]\nzero_stage = {}\noffload_optimizer = "cpu"\n'
KINDS = {
    "adamw": '[optimizer]\ntype = "adamw"\nweight_decay = 0.1\n',
    "lion": '[optimizer]\ntype = "lion"\nweight_decay = 0.1\n',
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("host"), tiny_model)


def finished(room: Path, text: str, name: str) -> tuple[Path, Any]:
    """Return the folder of a run and its trainer."""
    run_dir = inprocess.compiled(room, RUN + text, name)
    inprocess.prepare(run_dir)
    try:
        return run_dir, inprocess.train(run_dir)
    finally:
        unset_hf_deepspeed_config()  # models of later tests must not be sharded


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_offloaded(room: Path, kind: str, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host it ends where it ends elsewhere: AdamW by DeepSpeed's own, Lion by ours."""
    ensure_built(["cpu_adam"])
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(extensions_dir()))
    alone, _ = finished(room, KINDS[kind], f"{kind}-{stage}-alone")
    run_dir, trainer = finished(room, KINDS[kind] + OFFLOAD.format(stage), f"{kind}-{stage}-host")
    names = {"adamw": "DeepSpeedCPUAdam", "lion": "SignMomentum"}
    assert type(trainer.basic_optimizer).__name__ == names[kind]
    found, expected = (load_file(d / "final" / "model.safetensors") for d in (run_dir, alone))
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=2e-3 if kind == "lion" else 1e-4
        )
    assert runs.losses(run_dir) == pytest.approx(runs.losses(alone), rel=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_of_torchao(room: Path, bits: int) -> None:
    """Large moments are of few bits, and train nearly as whole ones do; a run reports the rates that they are given."""
    name = f"adamw_torch_{bits}bit"
    text = f'[optimizer]\ntype = "transformers"\nname = "{name}"\n[deepspeed]\nzero_stage = 0\n'
    run_dir, _ = finished(room, text, f"torchao-{bits}")
    alone, _ = finished(room, "[deepspeed]\nzero_stage = 0\n", f"torchao-{bits}-alone")
    assert runs.losses(run_dir) == pytest.approx(runs.losses(alone), rel=1e-2)
    rates = [[row["learning_rate"] for row in runs.metrics(each)] for each in (run_dir, alone)]
    assert rates[0] == pytest.approx(rates[1])

    layers = [torch.nn.Linear(64, 128) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    start = layers[0].weight.detach().clone()
    optimizers = [
        training.Named(name=name, learning_rate=1e-2).create(layers[0], decayed=(), deepspeed={}),
        torch.optim.AdamW(layers[1].parameters(), lr=1e-2, weight_decay=0.0),
    ]
    with torch.compiler.set_stance("force_eager"):
        for seed in range(3):
            for layer, optimizer in zip(layers, optimizers, strict=True):
                torch.manual_seed(seed)
                (layer(torch.randn(4, 64)) * torch.randn(4, 128)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
    assert type(optimizers[0].state[layers[0].weight]["exp_avg"]).__name__ == f"OptimState{bits}bit"
    apart, went = (layers[0].weight - layers[1].weight).norm(), (layers[1].weight - start).norm()
    assert 0 < float(apart) < (0.02 if bits == 8 else 0.2) * float(went)
