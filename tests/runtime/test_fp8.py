"""Matrix products in fp8: the same numbers as casts by hand, in a run and out of it; real units need a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.fp8 import fp8_layers

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


def rounded(value: torch.Tensor, dtype: torch.dtype = torch.float8_e4m3fn) -> torch.Tensor:
    """Return a tensor as fp8 with one scale for all of it has it; torchao's scales are powers of two or not at all."""
    scale = torch.finfo(dtype).max / value.abs().max().double()
    scaled = (value.double() * scale.float()).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    return scaled.float().to(dtype).float() / scale.float()


class Tower(torch.nn.Sequential):
    """A model of linear layers with a head."""

    def get_output_embeddings(self) -> Any:
        """Return the last layer."""
        return self[-1]


def test_products() -> None:
    """Forward: weights and inputs in e4m3; backward: gradients in e5m2 or e4m3, as the library's recipe has it."""
    layer = torch.nn.Linear(32, 16, bias=False)
    model = Tower(layer, torch.nn.Linear(16, 5))
    weight = layer.weight.detach().clone()
    models.use_fp8(model, emulate=True)
    assert fp8_layers(model) == 1
    inputs, upstream = torch.randn(8, 32), torch.randn(8, 16)
    found = model[0](inputs)
    torch.testing.assert_close(found, rounded(inputs) @ rounded(weight).T, rtol=1e-3, atol=1e-3)
    (found * upstream).sum().backward()
    gradient = rounded(upstream, torch.float8_e5m2).T @ rounded(inputs)
    torch.testing.assert_close(model[0].weight.grad, gradient, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, inputs @ weight.T, rtol=1e-3, atol=1e-3)


def test_layers_with_sizes_that_do_not_fit(tiny_model: Path) -> None:
    """Head, adapters, and layers of other sizes stay as they are; names and formats too."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    names = {name: value.dtype for name, value in model.named_parameters()}
    models.use_fp8(model, emulate=True)
    assert fp8_layers(model) == 14
    assert {name: value.dtype for name, value in model.named_parameters()} == names
    assert type(model.lm_head) is torch.nn.Linear
    adapted = models.add_lora(
        models.load_causal_lm(tiny_model, dtype="fp32"), rank=16, alpha=16.0, dropout=0.0, targets="all-linear"
    )  # fmt: skip
    assert fp8_layers(models.use_fp8(adapted, emulate=True)) == 14
    with pytest.raises(UserError, match="no linear layer has sizes that 16 divides"):
        models.use_fp8(Tower(torch.nn.Linear(24, 16), torch.nn.Linear(16, 5)), emulate=True)


def test_without_units(tiny_model: Path) -> None:
    """A device without units for fp8 is said so in one line, and nothing is changed."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9):
        pytest.skip("this GPU has them")
    model = models.load_causal_lm(tiny_model, dtype="bf16")
    with pytest.raises(UserError, match="no units for fp8"):
        models.use_fp8(model)
    assert not fp8_layers(model)


@pytest.mark.gpu
def test_on_a_gpu(tiny_model: Path) -> None:
    """On units for fp8 the loss falls, and lies near to that of bf16."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs a GPU with units for fp8")
    losses = {}
    for kind in ("bf16", "fp8"):
        model = models.load_causal_lm(tiny_model, dtype="bf16").cuda()
        models.train_all(model)
        if kind == "fp8":
            models.use_fp8(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ids = IDS.cuda().repeat(4, 16)
        losses[kind] = []
        for _ in range(5):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[kind].append(float(loss))
    assert losses["fp8"][-1] < losses["fp8"][0]
    assert losses["fp8"] == pytest.approx(losses["bf16"], rel=0.1)
