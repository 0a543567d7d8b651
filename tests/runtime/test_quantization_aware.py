"""Quantization-aware training: trains as torchao does by hand, saves ordinary weights, and exports what was trained for."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.fake_quantization import fake_layers, quantized_config

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])
RUN = """
[data]
shuffle = false
[training]
steps = 1
learning_rate = 0.3
schedule = "constant"
max_grad_norm = 1000.0
[batch]
global_size = 4
micro_size = 4
[optimizer]
type = "sgd"
"""
"""Adam would make steps of one size of differences in the last bit."""

Weights = dict[str, torch.Tensor]


def distance(found: Weights, expected: Weights, start: Weights) -> float:
    """Return how far apart two trainings end, over how far they went: rounding makes jumps of the smallest differences."""
    apart = sum(float((found[name] - value).norm()) ** 2 for name, value in expected.items())
    went = sum(float((start[name] - value).norm()) ** 2 for name, value in expected.items())
    return (apart / went) ** 0.5


FULL = '[method]\ntype = "full"\n'
KINDS = {
    "int8-dynamic-int4": '[quantization_aware]\ntype = "int8-dynamic-int4"\ngroup_size = 16\n',
    "int4": '[quantization_aware]\ntype = "int4"\ngroup_size = 32\n',
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("rounded"), tiny_model)


def trained(room: Path, text: str, name: str) -> tuple[Path, Any]:
    """Return the folder of a finished run and its trainer."""
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """Return the logits of a few tokens."""
    found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def by_hand(folder: Path, kind: Any, group_size: int, batches: list[Any]) -> Any:
    """Train with torchao and torch alone, on the same batches."""
    from torchao.quantization import quantize_
    from torchao.quantization.qat import QATConfig

    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    linear = [m for n, m in model.named_modules() if type(m) is torch.nn.Linear and n != "lm_head"]
    step = QATConfig(quantized_config(kind, group_size), step="prepare")
    quantize_(model, step, filter_fn=lambda module, _: any(module is each for each in linear))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for (batch,) in batches:
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        model(**wanted, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_run(room: Path, kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A run ends where torchao by hand ends; `final/` is the model unrounded; export is the model rounded, in few bits."""
    run_dir, trainer = trained(room, FULL + KINDS[kind] + RUN, kind)
    model = trainer.model
    assert len(fake_layers(model)) == 14
    assert "14 layers compute with weights rounded to int4" in capsys.readouterr().out
    alone = by_hand(
        room / "model", kind, 16 if kind != "int4" else 32, list(trainer.get_train_dataloader())
    )
    expected = {name: value.detach() for name, value in alone.named_parameters()}
    start = load_file(room / "model" / "model.safetensors")
    found = {name: value.detach() for name, value in model.named_parameters()}
    assert distance(found, expected, start) < 0.005
    if kind == "int4":
        unrounded, _ = trained(room, FULL + RUN, "unrounded")
        plainly = load_file(unrounded / "final" / "model.safetensors")
        assert distance(plainly, expected, start) > 0.05

    rounded = logits(model)
    plain = transformers.AutoModelForCausalLM.from_pretrained(str(run_dir / "final"))
    assert not fake_layers(plain)
    assert {type(p) for p in plain.parameters()} == {torch.nn.Parameter}
    assert float((logits(plain) - rounded).abs().max()) > 1e-3
    for layer in fake_layers(model):
        layer.weight_fake_quantizer.enabled = False
        if layer.activation_fake_quantizer is not None:
            layer.activation_fake_quantizer.enabled = False
    torch.testing.assert_close(logits(plain), logits(model), rtol=0, atol=1e-6)

    monkeypatch.setattr(sys, "argv", ["export.py"])
    runpy.run_path(str(run_dir / "export.py"), run_name="__main__")
    written = models.load_causal_lm(run_dir / "merged", dtype="fp32")
    torch.testing.assert_close(logits(written), rounded, rtol=0, atol=1e-4)
    stored = load_file(run_dir / "merged" / "model.safetensors")
    assert (
        sum(value.dtype == torch.int8 for value in stored.values()) == 2 * 14
    )  # numbers and zeros
    again = transformers.AutoModelForCausalLM.from_pretrained(str(run_dir / "merged"))
    torch.testing.assert_close(logits(again), rounded, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [FULL, '[method]\ntype = "freeze"\nblocks = 1\n'])
def test_resume(room: Path, method: str) -> None:
    """A run that stops in the middle goes on to the same bits; frozen layers are rounded too."""
    text = method + KINDS["int8-dynamic-int4"] + RUN.replace("steps = 1", "steps = 4")
    name = "freeze" if "freeze" in method else "full"
    whole, trainer = trained(room, text, f"{name}-whole")
    torn = inprocess.compiled(room, text, f"{name}-torn")
    inprocess.prepare(torn)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    found, expected = (load_file(d / "final" / "model.safetensors") for d in (torn, whole))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert len(fake_layers(trainer.model)) == 14


def test_gradients_pass_the_rounding(tiny_model: Path) -> None:
    """The gradient of a rounded weight is that of the product; only what rounding cuts off has none (straight through)."""
    layer = torch.nn.Linear(32, 8, bias=False)
    model = torch.nn.Sequential(layer)
    model.get_output_embeddings = lambda: None  # type: ignore[assignment]
    models.fake_quantize(model, kind="int4", group_size=32)
    inputs, upstream = torch.randn(4, 32), torch.randn(4, 8)
    (model(inputs) * upstream).sum().backward()
    scale = layer.weight.abs().amax(dim=1, keepdim=True) / 7.5
    steps = (layer.weight / scale).round()
    torch.testing.assert_close(
        model[0].weight_fake_quantizer(layer.weight), steps.clamp(-8, 7) * scale
    )
    torch.testing.assert_close(layer.weight.grad, (upstream.T @ inputs) * (steps <= 7))


def test_groups_that_do_not_divide(tiny_model: Path) -> None:
    """The layer is named, and nothing has been changed."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    with pytest.raises(UserError, match="groups of 24 weights do not divide the 32 inputs of"):
        models.fake_quantize(model, kind="int4", group_size=24)
    assert not fake_layers(model)


def test_stage_three(room: Path) -> None:
    """Weights that are gathered layer by layer are rounded as whole ones are."""
    text = FULL + KINDS["int8-dynamic-int4"] + RUN
    alone, _ = trained(room, text, "stage-0")
    try:
        apart, _ = trained(room, text + "[deepspeed]\nzero_stage = 3\n", "stage-3")
    finally:
        unset_hf_deepspeed_config()  # models of later tests must not be sharded
    found, expected = (load_file(d / "final" / "model.safetensors") for d in (apart, alone))
    assert distance(found, expected, load_file(room / "model" / "model.safetensors")) < 0.005
